"""Weights are known by their content: copies are the same, and another training is not."""

import os
import shutil

import pytest
import torch
from safetensors.torch import save_file

from dofsuite.evaluation.fingerprint import hash_weights, weight_hashes


def weights(seed: int = 0, count: int = 1 << 16, **more: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(size, generator=draw)
        for name, size in {"a": count, "b": count, **more}.items()
    }


@pytest.mark.parametrize(
    "count", [1 << 16, 1 << 21], ids=["half a MiB", "16 MiB, of which blocks are read"]
)
def test_a_copy_is_the_same_and_another_training_is_not(tmp_path, count):
    for name in ("run", "again", "other"):
        (tmp_path / name / "unet").mkdir(parents=True)
    save_file(weights(count=count), tmp_path / "run" / "unet" / "model.safetensors")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    save_file(weights(count=count), tmp_path / "again" / "unet" / "model.safetensors")
    os.utime(tmp_path / "again" / "unet" / "model.safetensors", (0, 0))
    save_file(weights(1, count), tmp_path / "other" / "unet" / "model.safetensors")
    named = {name: weight_hashes(tmp_path / name) for name in ("run", "copy", "again", "other")}
    assert named["run"] == named["copy"] == named["again"] != named["other"]
    assert named["run"][0].startswith("unet/model.safetensors:")


@pytest.mark.parametrize(
    "position", [20, 200, 1 << 23, -1], ids=["header", "first weight", "middle", "last byte"]
)
def test_a_byte_changed_at_either_end_or_in_the_middle_is_seen_at_once(tmp_path, position):
    file = tmp_path / "model.safetensors"
    save_file(weights(count=1 << 21), file)
    data = bytearray(file.read_bytes())
    before, middle = hash_weights(file), (len(data) - (1 << 16)) * 16 // 31
    data[middle if position == 1 << 23 else position] ^= 1
    file.write_bytes(data)
    assert hash_weights(file) != before
