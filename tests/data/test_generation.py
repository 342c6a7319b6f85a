"""`python -m dofsuite.data generate` on a tiny pipeline: prompts to shards, with licenses."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from dofsuite.data.__main__ import main
from dofsuite.data.manifest import read_manifest
from dofsuite.data.shards import ShardReader
from dofsuite.model_terms import terms_of_model
from tests.real_layouts import save_sdxl


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SDXL's layout."""
    folder = tmp_path_factory.mktemp("model") / "sdxl"
    save_sdxl(folder)
    return folder


def save_lora(model: Path, folder: Path) -> str:
    pipe = StableDiffusionXLPipeline.from_pretrained(model)
    torch.manual_seed(1)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    StableDiffusionXLPipeline.save_lora_weights(folder, get_peft_model_state_dict(pipe.unet))
    return str(folder)


def words(model: Path, folder: Path, *more: str) -> list[str]:
    (folder / "prompts.txt").write_text("a lake\n\n  a  street in Rome \n")
    sizes = ["--width", "64", "--height", "64", "--steps", "1", "--dtype", "float32"]
    start = ["generate", str(folder / "prompts.txt"), "-o", str(folder / "ai")]
    return [*start, "--model", str(model), *sizes, "--licence", "CC0", *more]


def test_prompts_become_shards_with_model_license_and_seed(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(model, tmp_path, "--per-prompt", "2", "--batch-size", "3")) == 0
    assert capsys.readouterr().out.startswith(f"model: {model}; lora: none; licence: CC0")
    manifest = read_manifest(tmp_path / "ai")
    assert (manifest.source, manifest.samples, manifest.samples_with_caption) == ("ai", 4, 4)
    assert set(manifest.terms) == {"model", "lora", "licence", "bearing_on_what_is_trained"}
    reader = ShardReader(tmp_path / "ai")
    records = [json.loads(reader.read(number).members["json"]) for number in range(4)]
    assert [each["caption"] for each in records] == ["a lake"] * 2 + ["a street in Rome"] * 2
    assert len({each["generated_by"]["noise_seed"] for each in records}) == 4
    assert {each["generated_by"]["model"] for each in records} == {str(model)}
    # The pipeline's own image of that prompt and seed
    pipe = StableDiffusionXLPipeline.from_pretrained(model, torch_dtype=torch.float32)
    noise = torch.Generator().manual_seed(records[3]["generated_by"]["noise_seed"])
    (image,) = pipe(
        "a street in Rome", width=64, height=64, num_inference_steps=1, generator=noise
    ).images
    stored = np.asarray(Image.open(io.BytesIO(reader.read(3).members["png"]))).astype(int)
    assert np.abs(stored - np.asarray(image)).max() <= 1


@pytest.mark.slow  # four times loading a pipeline
def test_restart_makes_only_missing_images_and_a_lora_changes_them(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "ai_images"
    command = words(model, tmp_path, "--lora", save_lora(model, tmp_path / "lora"))
    assert main(command) == 0
    first = {path.name: path.read_bytes() for path in images.glob("*.png")}
    (images / "000001.png").unlink()
    kept = (images / "000000.png").stat().st_mtime_ns
    # Nothing is replaced; once the shards are away, what is missing is made
    assert main(command) == 2
    assert "it exists already" in capsys.readouterr().err
    (tmp_path / "ai").rename(tmp_path / "before")
    assert main(command) == 0
    assert "1 of 2 images are missing" in capsys.readouterr().out
    assert (images / "000000.png").stat().st_mtime_ns == kept
    assert {path.name: path.read_bytes() for path in images.glob("*.png")} == first
    # Other settings are refused; without the LoRA the images are others
    (tmp_path / "ai").rename(tmp_path / "again")
    assert main(words(model, tmp_path)) == 2
    assert "lora: these images were made with another one" in capsys.readouterr().err
    assert main(words(model, tmp_path, "--images", str(tmp_path / "plain"))) == 0
    assert (tmp_path / "plain" / "000000.png").read_bytes() != first["000000.png"]


def test_licenses_are_known_or_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("a lake")
    start = ["generate", str(tmp_path / "prompts.txt"), "-o", str(tmp_path / "ai"), "--model"]
    assert main([*start, "someone/else"]) == 2
    assert "--license: the license of someone/else is not known" in capsys.readouterr().err
    assert not list(tmp_path.glob("ai*"))
    for name, licence in (
        ("black-forest-labs/FLUX.1-dev", "FLUX.1 [dev] Non-Commercial License"),
        ("Shakker-Labs/FLUX.1-dev-LoRA-AntiBlur", "FLUX.1 [dev] Non-Commercial License"),
        ("black-forest-labs/FLUX.2-klein-base-4B", "Apache-2.0"),
        ("black-forest-labs/FLUX.2-klein-9B", "FLUX Non-Commercial License v2.1"),
        ("Qwen/Qwen-Image-2.1", "Qwen Research License"),
        ("Tongyi-MAI/Z-Image-Turbo", "Apache-2.0"),
    ):
        terms = terms_of_model(name)
        assert terms is not None
        assert terms.licence == licence
