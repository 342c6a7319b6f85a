"""`python -m dofsuite.data encode`: what frozen networks make of captions and photographs lies
beside their shards, bit for bit that of training, and only what is missing is encoded.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from dofsuite.backbones import (
    PretrainedSdxl,
    SdxlPromptEncoder,
    SmallDepth,
    SmallSaliency,
    SmallSdxl,
)
from dofsuite.backbones.sdxl import prompt_encoder
from dofsuite.backbones.sdxl.beforehand import beforehand_of
from dofsuite.data.__main__ import main
from dofsuite.data.batch import Batch
from dofsuite.data.module import ShardData
from dofsuite.data.shards import ShardReader, ShardWriter, new_folder, write_shards
from dofsuite.data.sidecar import Encoder, Sidecar, name_of, write_sidecars
from dofsuite.errors import UserError
from dofsuite.files import claimed
from dofsuite.text2image import FocusPredictorConfig, Stages, Text2Image
from tests.text2image.test_pretrained_export import save_tiny_sdxl
from tests.text2image.tiny import train

CAPTIONS = ["a red ball on the left", "grass", "a box", "a cat", "Left and right", "sky", "a hat"]


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sdxl")
    save_tiny_sdxl(folder)
    return str(folder)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Seven captioned images in three shards."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file, "PNG")
    samples = [
        (f"{n:06d}_x", {"png": file.getvalue(), "txt": caption.encode()})
        for n, caption in enumerate(CAPTIONS)
    ]
    source: dict[str, Any] = {"source": "x", "licence": "CC0", "split": "train"}
    write_shards(
        tmp_path / "set", samples, **source, depth_kind=None, depth_unit=None, samples_per_shard=3
    )
    return tmp_path / "set"


def encode(shards: Path, sdxl: str) -> int:
    return main(["encode", str(shards), "--base", sdxl])


def under_trainer(data: ShardData, model: Any, precision: str = "32-true") -> ShardData:
    """Set up the data module as a trainer of this model does."""
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=model,
        precision=precision,
        global_rank=0,
        world_size=1,
        accumulate_grad_batches=1,
    )
    data.prepare_data()
    data.setup()
    return data


def data_of(shards: Path, sdxl: str | None, **options: Any) -> ShardData:
    """The data module under a trainer whose model has this backbone."""
    data = ShardData({"x": str(shards)}, batch_size=7, size_px=16, require_depth=False, **options)
    backbone = PretrainedSdxl(sdxl) if sdxl else SmallSdxl()
    return under_trainer(data, SimpleNamespace(beforehand=beforehand_of(backbone)))


def first_batch(data: ShardData) -> Batch:
    return next(iter(data.train_dataloader()))


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_training_reads_what_it_would_encode_and_loads_no_encoder(
    shards: Path, sdxl: str, flip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert encode(shards, sdxl) == 0
    batch = first_batch(data_of(shards, sdxl, flip=flip))
    expected = SdxlPromptEncoder(sdxl).encode(batch.caption)
    assert any("right" in caption for caption in batch.caption) == bool(flip) or not flip
    encoder = SdxlPromptEncoder(sdxl)
    monkeypatch.setattr(prompt_encoder, "load_parts", None)
    embeds = prompt_encoder.embeds_of(
        encoder, batch.caption, batch.prompt_tokens, batch.prompt_pooled
    )
    assert torch.equal(embeds.tokens, expected.tokens)
    assert torch.equal(embeds.pooled, expected.pooled)


def test_a_model_without_these_encoders_reads_none(shards: Path, sdxl: str) -> None:
    assert encode(shards, sdxl) == 0
    for data in (data_of(shards, None), data_of(shards, sdxl, read_prompts=False)):
        assert first_batch(data).prompt_tokens.numel() == 0
    shutil.rmtree(shards / "prompts")
    assert first_batch(data_of(shards, sdxl)).prompt_tokens.numel() == 0


def test_bytes_and_disk_are_said_first_and_what_does_not_fit_is_not_begun(
    shards: Path, sdxl: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(shards)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000))
        assert encode(shards, sdxl) == 2
    said = capsys.readouterr()
    # Two captions differ when mirrored; 77 tokens of 40 and 20 pooled numbers of 2 bytes each.
    needed = 9 * (77 * 40 + 20) * 2 + 7 * 4096
    said_first = f"9 captions to encode as prompt embeddings in 3 of 3 shards of {shards}: "
    assert f"{said_first}{needed / 1e9:.3f} GB" in said.out
    assert "are needed for what is to be encoded" in said.err
    assert said.err.count("\n") == 1
    assert not (shards / "prompts").exists()


def test_only_missing_or_damaged_shards_are_encoded_again(
    shards: Path, sdxl: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(shards, sdxl) == 0
    folder = shards / "prompts"
    before = {file.name: file.read_bytes() for file in folder.glob("shard-*")}
    times = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.tar")}
    # Stopped before the last shard and the manifest, with one that a disk damaged
    (folder / "manifest.json").unlink()
    (folder / "shard-000002.tar").unlink()
    (folder / ".shard-000002.tar.tmp-1").write_bytes(b"half")
    damaged = bytearray(before["shard-000001.tar"])
    damaged[len(damaged) // 2] ^= 1
    (folder / "shard-000001.tar").write_bytes(damaged)
    capsys.readouterr()
    assert encode(shards, sdxl) == 0
    assert "in 2 of 3 shards" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in folder.glob("shard-*")} == before
    assert (folder / "shard-000000.tar").stat().st_mtime_ns == times["shard-000000.tar"]
    assert not list(folder.glob(".shard*"))
    first_batch(data_of(shards, sdxl))


def test_a_side_car_has_the_shards_names_keys_and_rounding(shards: Path, sdxl: str) -> None:
    assert encode(shards, sdxl) == 0
    images, embeddings = ShardReader(shards), ShardReader(shards / "prompts")
    assert [s.name for s in images.manifest.shards] == [s.name for s in embeddings.manifest.shards]
    for number, caption in enumerate(CAPTIONS):
        sample = embeddings.read(number)
        assert sample.key == images.read(number).key
        rows = load(sample.members["prompts.safetensors"])
        assert rows["tokens"].dtype == rows["pooled"].dtype == torch.float16
        assert json.loads(sample.members["json"])["captions"][0] == caption


def damage(shards: Path, fault: str) -> str:
    """Damage a side-car, and return what the sentence must say."""
    folder = shards / "prompts"
    tar = folder / "shard-000001.tar"
    if fault == "truncated":
        tar.write_bytes(tar.read_bytes()[:-512])
        return r"shard-000001\.tar: the shard is truncated"
    if fault == "missing":
        tar.unlink()
        return r"shard-000001\.tar: this file is missing"
    if fault == "no manifest":
        (folder / "manifest.json").unlink()
        return r"manifest\.json: the manifest is missing"
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["encoded"]["encoder" if fault == "encoder" else "shards"] = "another"
    path.write_text(json.dumps(manifest))
    return {"encoder": "are of another and not of", "shards": "are of other shards"}[fault]


@pytest.mark.parametrize("fault", ["truncated", "missing", "no manifest", "encoder", "shards"])
def test_a_damaged_or_foreign_side_car_is_one_sentence(shards: Path, sdxl: str, fault: str) -> None:
    assert encode(shards, sdxl) == 0
    said = damage(shards, fault)
    with pytest.raises(UserError, match=said) as error:
        data_of(shards, sdxl)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert "encode again with python -m dofsuite.data encode" in sentence


def test_a_set_without_captions_is_refused(
    tmp_path: Path, sdxl: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source: dict[str, Any] = {"source": "x", "licence": "CC0", "split": "train"}
    samples = [("k", {"json": b"{}"})]
    write_shards(tmp_path / "s", samples, **source, depth_kind=None, depth_unit=None)
    assert encode(tmp_path / "s", sdxl) == 2
    assert "1 of 1 samples have no caption" in capsys.readouterr().err


def photographs(folder: Path, split: str = "train") -> Path:
    """Five captioned photographs of 36 x 24 px, with EXIF, in two shards."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 24, 36, 3), np.uint8)
    record = {"exif": {"f_number": 2, "focal_length_mm": 50, "sensor_width_mm": 36}}
    samples = []
    for n, image in enumerate(pixels):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        members = {"png": file.getvalue(), "txt": b"a box on the left"}
        samples.append((f"{n}_x", {**members, "json": json.dumps(record).encode()}))
    source: dict[str, Any] = {"source": "x", "licence": "CC0", "split": split}
    write_shards(folder, samples, **source, depth_kind=None, depth_unit=None, samples_per_shard=3)
    return folder


def image_as_latent(image: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"latent": image.half()}


LATENTS = Encoder("latents", name_of("latents", "no network", 16, "32-true"), image_as_latent, 16)


def data_with_latents(folder: Path, **options: Any) -> ShardData:
    """The data module under a trainer whose model takes latents of no network."""
    options = {"size_px": 16, **options}
    data = ShardData({"x": str(folder)}, batch_size=5, require_depth=False, **options)
    beforehand = {"latents": SimpleNamespace(name="no network")}
    return under_trainer(data, SimpleNamespace(beforehand=beforehand))


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_rows_of_images_are_of_the_square_that_training_sees_mirrored_or_not(
    tmp_path: Path, flip: float
) -> None:
    write_sidecars([photographs(tmp_path / "set")], [LATENTS], lambda line: None)
    data = data_with_latents(tmp_path / "set", flip=flip)
    batch = first_batch(data)
    assert data.brought == {"latents"}
    assert torch.equal(batch.latent, batch.image_srgb.half())
    assert batch.focus_target.shape == (5, 0)


def test_only_missing_shards_of_images_are_encoded_again(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "set")
    write_sidecars([folder], [LATENTS], lambda line: None)
    before = {file.name: file.read_bytes() for file in (folder / "latents").glob("shard-*")}
    (folder / "latents" / "manifest.json").unlink()
    (folder / "latents" / "shard-000001.tar").unlink()
    said: list[str] = []
    write_sidecars([folder], [LATENTS], said.append)
    needed = 2 * 2 * 3 * 16 * 16 * 2 + 2 * 4096
    assert "4 images, as they are and mirrored, to encode as latents in 1 of 2" in said[0]
    assert f"{needed / 1e9:.3f} GB" in said[0]
    after = {file.name: file.read_bytes() for file in (folder / "latents").glob("shard-*")}
    assert after == before


def test_a_second_encoding_at_the_same_time_is_refused(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "set")
    sentence = r"latents: another process writes here: wait for it\."
    with claimed(folder / "latents"), pytest.raises(UserError, match=sentence):
        write_sidecars([folder], [LATENTS], lambda line: None)


@pytest.mark.parametrize(
    ("member", "data"),
    [("json", b"{}"), ("json", b'{"views": 3}'), ("latents.safetensors", b"no tensors")],
)
def test_rows_that_are_none_are_one_sentence(tmp_path: Path, member: str, data: bytes) -> None:
    folder = photographs(tmp_path / "set")
    write_sidecars([folder], [LATENTS], lambda line: None)
    # The same side-car with other rows, and checksums that agree
    stored = ShardReader(folder / "latents")
    samples = [stored.read(number) for number in range(len(stored))]
    shutil.rmtree(folder / "latents")
    with new_folder(folder / "latents") as written, ShardWriter(written, 3) as writer:
        for sample in samples:
            writer.add(sample.key, sample.members | {member: data})
        facts = {"licence": "", "split": "train", "depth_kind": None, "depth_unit": None}
        writer.close(source="", **facts, encoded=stored.manifest.encoded)
    sidecar = Sidecar(ShardReader(folder), "latents", LATENTS.name)
    sentence = r"shard-000000\.tar: \w+: it holds no latents \(\w+\); remove .*latents and encode"
    with pytest.raises(UserError, match=sentence):
        sidecar.read(0, "as stored")


@pytest.mark.parametrize(("options", "said"), [({"size_px": 8}, "at 16 px"), ({}, "no network")])
def test_latents_of_another_side_or_network_are_refused(
    tmp_path: Path, options: dict[str, int], said: str
) -> None:
    folder = photographs(tmp_path / "set")
    other = LATENTS if options else LATENTS._replace(name="another network at 16 px under 32-true")
    write_sidecars([folder], [other], lambda line: None)
    with pytest.raises(UserError, match=said) as error:
        data_with_latents(folder, **options)
    assert "\n" not in str(error.value)
    assert "set data.read_latents: false" in str(error.value)
    assert first_batch(data_with_latents(folder, read_latents=False)).latent.numel() == 0


def test_beside_one_of_two_training_sets_no_side_car_is_read(tmp_path: Path) -> None:
    sets = [photographs(tmp_path / name) for name in ("one", "two")]
    write_sidecars(sets[:1], [LATENTS], lambda line: None)
    data = data_with_latents(sets[0])
    data.train["y"] = str(sets[1])
    data.setup()
    assert data.brought == set()
    write_sidecars(sets, [LATENTS], lambda line: None)
    data.setup()
    assert data.brought == {"latents"}


def test_disk_is_counted_over_all_that_is_to_be_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [photographs(tmp_path / name) for name in ("one", "two")]
    needed = 2 * (5 * 2 * 3 * 16 * 16 * 2 + 5 * 4096)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(UserError, match="free some space"):
        write_sidecars(sets, [LATENTS], lambda line: None)
    assert not (sets[0] / "latents").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    write_sidecars(sets, [LATENTS], lambda line: None)


# --- of a training's own networks ---


def experiment(folder: Path, sdxl: str, precision: str, vae_dtype: str) -> str:
    """A text2image training on these photographs, as a file."""
    photographs(folder / "deep")
    backbone = {"path": sdxl, "vae": None, "vae_dtype": vae_dtype}
    model = {
        "backbone": {"class_path": "dofsuite.backbones.PretrainedSdxl", "init_args": backbone},
        "depth": {"class_path": "dofsuite.backbones.SmallDepth"},
        "saliency": {"class_path": "dofsuite.backbones.SmallSaliency"},
        "focus": {"small": True},
        "size_px": 16,
    }
    data = {"train": {"deep": str(folder / "deep")}, "size_px": 16}
    content = {
        "model": {"class_path": "dofsuite.text2image.Text2Image", "init_args": model},
        "data": {"class_path": "dofsuite.data.ShardData", "init_args": data},
        "trainer": {"precision": precision},
    }
    file = folder / "training.yaml"
    file.write_text(json.dumps(content))  # JSON is YAML
    return str(file)


def model_and_data(
    folder: Path, sdxl: str, vae_dtype: str, read: bool
) -> tuple[Text2Image, ShardData]:
    module = Text2Image(
        PretrainedSdxl(sdxl, vae=None, vae_dtype=vae_dtype),
        depth=SmallDepth(),
        saliency=SmallSaliency(),
        focus=FocusPredictorConfig(small=True),
        stages=Stages(deep=None),
        size_px=16,
    )
    data = ShardData(
        {"deep": str(folder / "deep")},
        batch_size=1,
        size_px=16,
        require_depth=False,
        read_latents=read,
        read_focus_targets=read,
    )
    return module, data


def encode_for(folder: Path, file: str) -> None:
    kinds = ["latents", "focus_targets"]
    assert main(["encode", str(folder / "deep"), "--what", *kinds, "--for", file]) == 0


def test_a_step_that_reads_has_the_losses_of_one_that_computes_and_needs_no_saliency(
    tmp_path: Path, sdxl: str
) -> None:
    encode_for(tmp_path, experiment(tmp_path, sdxl, "bf16-mixed", "bfloat16"))
    module, data = model_and_data(tmp_path, sdxl, "bfloat16", read=True)
    under_trainer(data, module, "bf16-mixed")
    batch = first_batch(data)
    module._trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]
    module.configure_model()
    assert module.networks.saliency is None

    def losses(batch: Batch) -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return module.losses(module.stages.step(2), batch, None)[0]

    read = losses(batch)
    assert {"gan_discriminator", "focus"} <= set(read)
    module.networks.saliency = SmallSaliency().load()
    computed = losses(batch._replace(latent=torch.zeros(0), focus_target=torch.zeros(0)))
    assert read == computed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "vae_dtype"),
    [("bf16-mixed", "bfloat16"), ("bf16-mixed", "float32"), ("32-true", "float32")],
)
@pytest.mark.filterwarnings("ignore:Found .* eval mode", "ignore:.*does not have many workers")
def test_a_training_that_reads_takes_the_steps_of_one_that_computes(
    tmp_path: Path, sdxl: str, precision: str, vae_dtype: str
) -> None:
    encode_for(tmp_path, experiment(tmp_path, sdxl, precision, vae_dtype))
    losses = []
    for read in (True, False):
        module, data = model_and_data(tmp_path, sdxl, vae_dtype, read)
        losses.append(train(module, 3, data=data, precision=precision))
        assert (module.networks.saliency is None) == read
    assert losses[0] == losses[1]


def test_what_a_training_would_not_read_is_refused(
    tmp_path: Path, sdxl: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(photographs(tmp_path / "set"))
    assert main(["encode", folder, "--what", "latents"]) == 2
    assert "end the command with --for" in capsys.readouterr().err
    file = experiment(tmp_path, sdxl, "32-true", "float32")
    without_lens = ["--for", file, "--model.init_args.lens", "null"]
    assert main(["encode", folder, "--what", "focus_targets", *without_lens]) == 2
    assert "focus_targets would not be read by" in capsys.readouterr().err
