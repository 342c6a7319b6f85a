"""`python -m dofsuite.data encode`: captions become embeddings beside their shards, bit for bit
those of training, and only what is missing is encoded.
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

from dofsuite.backbones import PretrainedSdxl, SdxlPromptEncoder
from dofsuite.backbones.sdxl import prompt_encoder
from dofsuite.data.__main__ import main
from dofsuite.data.batch import Batch
from dofsuite.data.module import ShardData
from dofsuite.data.shards import ShardReader, write_shards
from dofsuite.errors import UserError
from tests.text2image.test_pretrained_export import save_tiny_sdxl

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


def data_of(shards: Path, sdxl: str | None, **options: Any) -> ShardData:
    """The data module under a trainer whose model has this backbone."""
    data = ShardData({"x": str(shards)}, batch_size=7, size_px=16, require_depth=False, **options)
    backbone = PretrainedSdxl(sdxl) if sdxl else None
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=SimpleNamespace(backbone=backbone),
        global_rank=0,
        world_size=1,
        accumulate_grad_batches=1,
    )
    data.prepare_data()
    data.setup()
    return data


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
    assert f"9 captions to encode in 3 of 3 shards of {shards}: {needed / 1e9:.3f} GB" in said.out
    assert "are needed for the embeddings" in said.err
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
