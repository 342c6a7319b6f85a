"""`evaluate ebb`: our photographs beside EBB!'s, from a CSV's captions or a captioner's; the same
again; mistakes.
"""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

from dofsuite.backbones import Captioner
from dofsuite.data.importers.aperture_scenes import find_scenes
from dofsuite.data.synthetic.photographs import photograph
from dofsuite.evaluate import main
from dofsuite.evaluation.apertures.ebb import center_resized
from dofsuite.evaluation.apertures.ebb_captions import captions_csv, read_captions, spread
from dofsuite.evaluation.job import seed_of
from dofsuite.metrics import blur_energy
from dofsuite.text2image import Text2ImagePipeline
from tests.text2image.tiny_run import SIZE_PX, tiny_module, untrained_depth

NAMES = ("astronaut", "chelsea", "coffee", "rocket")
CAPTIONS = {"astronaut": "a woman, smiling", "coffee": 'a cup of "coffee"'}


@pytest.fixture(scope="module")
def ebb(tmp_path_factory):
    """EBB!'s layout: photographs 90x60 px, and the same reduced and enlarged as f/1.8."""
    folder = tmp_path_factory.mktemp("ebb") / "EBB"
    for name in NAMES:
        sharp = photograph(name).crop((0, 0, 90, 60))
        for side, image in (
            ("original", sharp),
            ("bokeh", sharp.resize((30, 20)).resize((90, 60))),
        ):
            (folder / "Training" / side).mkdir(parents=True, exist_ok=True)
            image.save(folder / "Training" / side / f"{name}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A new generator's export, with its lens."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    tiny_module(untrained_depth(folder / "depth")).export(folder / "export")
    return folder


@pytest.fixture
def captions(tmp_path):
    """A CSV with two of the four."""
    file = tmp_path / "captions.csv"
    file.write_text(captions_csv(CAPTIONS))
    return file


def run_ebb(ebb, model, output, *more):
    """Run the command; its report."""
    words = ["--model", str(model), "--focal-length", "200", "-o", str(output), *map(str, more)]
    assert main(["ebb", str(ebb), *words]) == 0
    return json.loads((output / "report.json").read_text())


def read_rgb(file):
    return (
        torch.from_numpy(np.asarray(Image.open(file).convert("RGB")).copy()).permute(2, 0, 1) / 255
    )


def test_ours_are_the_pipeline_s_photographs_of_the_captions(ebb, model, captions, tmp_path):
    found = run_ebb(ebb, model, tmp_path / "out", "--captions", captions)
    pipe = Text2ImagePipeline.from_export(model)
    for name, caption in CAPTIONS.items():
        scene = pipe(caption, seed=seed_of(f"Training/{name}"), output_type="pt")
        expected = pipe.photograph(scene, [1.8, 16], 200, output_type="pt")[0]
        for number, image in zip((1.8, 16), expected, strict=True):
            (file,) = (tmp_path / "out" / "pictures").glob(f"*/Training_{name}/f{number:g}.png")
            assert (read_rgb(file) - image).abs().max() <= 0.51 / 255
    rows = {row["name"]: row["values"] for row in found["tables"][0]["rows"]}
    assert rows["photographs"]["pairs"] == rows["ours"]["pairs"] == 2
    assert rows["photographs"]["ac"] == 1
    energies = [
        [
            blur_energy(
                read_rgb(next((tmp_path / "out" / "pictures").glob(f"*/Training_{name}/f{n}.png")))
            )
            for n in (1.8, 16)
        ]
        for name in CAPTIONS
    ]
    assert rows["ours"]["paper"] == np.mean([deep > shallow for shallow, deep in energies])


def test_the_sheet_and_the_report_show_four_images_a_caption(ebb, model, captions, tmp_path):
    run_ebb(ebb, model, tmp_path / "out", "--captions", captions)
    sheet = Image.open(tmp_path / "out" / "sheet.png")
    assert sheet.width > 4 * 192
    assert sheet.height > 2 * 192
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img") == 8
    assert "a cup of &quot;coffee&quot;" in page
    for column in ("photograph f/1.8", "ours f/1.8", "photograph f/16", "ours f/16"):
        assert f"<th>{column}</th>" in page
    with open(tmp_path / "out" / "captions.csv", newline="") as file:
        assert {row["name"]: row["caption"] for row in csv.DictReader(file)} == {
            f"Training/{name}": caption for name, caption in CAPTIONS.items()
        }


def test_a_second_start_and_two_processes_give_the_same_report(
    ebb, model, captions, tmp_path, monkeypatch
):
    run_ebb(ebb, model, tmp_path / "one", "--captions", captions)
    row_file = next((tmp_path / "one" / "rows").glob("*/row-*astronaut*"))
    before = row_file.stat().st_mtime_ns
    kept = (tmp_path / "one" / "report.html").read_bytes()
    next(
        (tmp_path / "one" / "rows").glob("*/row-*coffee*")
    ).unlink()  # as if it had been killed there
    run_ebb(ebb, model, tmp_path / "one", "--captions", captions)
    assert row_file.stat().st_mtime_ns == before
    assert (tmp_path / "one" / "report.html").read_bytes() == kept
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        words = ["--model", str(model), "--focal-length", "200", "-o", str(tmp_path / "two")]
        assert main(["ebb", str(ebb), "--captions", str(captions), *words]) == 0
    assert (tmp_path / "two" / "report.html").read_bytes() == kept


def test_a_captioner_writes_what_it_sees_at_f_16(ebb, model, tmp_path):
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] [DEC] a cup of red coffee cat on table the grey".split()
    vocab = {word: number for number, word in enumerate(words)}
    tokenizer = BertTokenizer(vocab=vocab, bos_token="[DEC]", extra_special_tokens=["[DEC]"])
    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {
        "vocab_size": len(words),
        "encoder_hidden_size": 16,
        "max_position_embeddings": 80,
        "bos_token_id": 5,
    }
    text |= {"sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3, **shape}
    torch.manual_seed(0)
    network = BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config={"image_size": 32, "patch_size": 8, **shape})
    )
    network.save_pretrained(tmp_path / "blip")
    BlipProcessor(
        BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer
    ).save_pretrained(tmp_path / "blip")
    found = run_ebb(ebb, model, tmp_path / "out", "--captioner", tmp_path / "blip", "--scenes", 2)
    assert found["facts"]["captions"]["captioner"] == "blip"
    writer = Captioner(str(tmp_path / "blip")).load()
    with open(tmp_path / "out" / "captions.csv", newline="") as file:
        written = {row["name"]: row["caption"] for row in csv.DictReader(file)}
    assert list(written) == ["Training/astronaut", "Training/coffee"]
    for key, caption in written.items():
        assert (
            caption == writer(read_rgb(ebb / "Training" / "original" / f"{key[9:]}.jpg")[None])[0]
        )


def test_scenes_are_spread_evenly(ebb):
    scenes = find_scenes(ebb).scenes
    assert [scene.key[9:] for scene in spread(scenes, 2)] == ["astronaut", "coffee"]
    assert spread(scenes, 9) == scenes


def test_a_csv_may_name_a_photograph_in_three_ways(ebb, tmp_path):
    scenes = find_scenes(ebb).scenes
    file = tmp_path / "own.csv"
    file.write_text(
        "caption,name\na woman,astronaut\na cat,chelsea.jpg\na cup,Training/coffee\n", "utf-8-sig"
    )
    assert read_captions(file, scenes) == {
        "Training/astronaut": "a woman",
        "Training/chelsea": "a cat",
        "Training/coffee": "a cup",
    }


def test_the_middle_of_a_photograph_is_shown():
    x = torch.linspace(0, 1, 90).expand(1, 3, 60, 90)
    shown = center_resized(x[0], SIZE_PX, SIZE_PX)
    assert shown.shape == (3, SIZE_PX, SIZE_PX)
    assert shown.mean().item() == pytest.approx(0.5, abs=1e-3)
    assert shown[..., -1].mean().item() == pytest.approx((75 - 0.5 - 60 / 64) / 89, abs=0.01)


def test_mistakes_are_one_sentence(ebb, model, tmp_path, capsys, monkeypatch):
    def says(*words):
        assert main(["ebb", str(ebb), *map(str, words)]) == 2
        return capsys.readouterr().err

    assert "holds no text-to-image generator" in says("--model", tmp_path)
    assert "--scenes: 0 is no number" in says("--model", model, "--scenes", 0)
    assert "focal_length_mm" in says("--model", model, "--focal-length", -1)
    file = tmp_path / "captions.csv"
    for text, sentence in (
        ("file,text\n", "its first line must be name,caption"),
        ("name,caption\nnobody,a face\n", "line 2: nobody: there is no photograph of this name"),
        ("name,caption\ncoffee,\n", "line 2: coffee: it has no caption"),
    ):
        file.write_text(text)
        assert sentence in says("--model", model, "--captions", file)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "Salesforce/blip2-opt-2.7b: " in says("--model", model, "-o", tmp_path / "out")
