"""Decoded samples become batches: resizing, cropping, mirroring and what a batch says of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_convert

from dofsuite.data.batch import Batch, collate, decode_sample, flip, resize_and_crop
from dofsuite.data.module import ShardData
from dofsuite.data.shards import Sample, ShardReader, write_shards
from dofsuite.diffusion import sample_generator
from dofsuite.errors import UserError


def item(height: int, width: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(3, height, width, generator=generator),
        "disparity": torch.linspace(0, 1, width).expand(1, height, width).clone(),
        "valid": torch.ones(1, height, width, dtype=torch.bool),
        "has_depth": True,
        "key": "k",
        "caption": "",
        "f_number": float("nan"),
        "focal_length_mm": float("nan"),
        "sensor_width_mm": float("nan"),
        "source": 0,
        "index": 0,
    }


@pytest.mark.parametrize(("height", "width"), [(100, 150), (150, 100), (64, 64), (40, 60)])
def test_centre_square_keeps_the_long_side_in_its_width(height: int, width: int) -> None:
    fitted = resize_and_crop(item(height, width), 32)
    assert fitted["image"].shape == (3, 32, 32)
    assert fitted["disparity"].shape == fitted["valid"].shape == (1, 32, 32)
    assert fitted["width_px"] == round(32 * max(height, width) / min(height, width))


def test_resize_averages_as_pillow_does() -> None:
    given = item(96, 96)
    fitted = resize_and_crop(given, 32)
    for name, method in (
        ("image", Image.Resampling.BICUBIC),
        ("disparity", Image.Resampling.BILINEAR),
    ):
        for channel, values in zip(given[name], fitted[name], strict=True):
            other = np.asarray(Image.fromarray(channel.numpy()).resize((32, 32), method)).clip(0, 1)
            if name == "disparity":
                other = (other - other.min()) / np.ptp(other)
            assert np.abs(values.numpy() - other).max() < 5e-3


def test_crop_is_the_centre_and_its_disparity_runs_from_zero_to_one() -> None:
    fitted = resize_and_crop(item(32, 64), 32)
    torch.testing.assert_close(fitted["disparity"][0], torch.linspace(0, 1, 32).expand(32, 32))
    torch.testing.assert_close(fitted["image"], item(32, 64)["image"][..., 16:48])


def test_pixel_is_valid_only_where_all_of_it_was_measured() -> None:
    given = item(64, 64)
    given["valid"][0, 20, 20] = False
    valid = resize_and_crop(given, 32)["valid"][0]
    assert not valid[10, 10]
    assert valid.sum() >= 32 * 32 - 9


def test_no_size_leaves_the_picture_and_uneven_batches_are_refused() -> None:
    one, other = resize_and_crop(item(20, 30), None), resize_and_crop(item(30, 30), None)
    assert one["width_px"] == 30
    assert collate([one]).image_srgb.shape == (1, 3, 20, 30)
    with pytest.raises(
        UserError, match=r"^data\.size_px: images of different sizes \(30x20, 30x30\)"
    ):
        collate([one, other])


def test_batch_has_the_types_it_promises(shards: Path) -> None:
    batch = next(
        iter(ShardData({"n": str(shards)}, batch_size=3, size_px=8, flip=0.5).train_dataloader())
    )
    assert isinstance(batch, Batch)
    assert isinstance(default_convert(batch), Batch)
    assert {
        name: value.dtype
        for name, value in batch._asdict().items()
        if name not in ("key", "caption")
    } == {
        "image_srgb": torch.float32,
        "disparity": torch.float32,
        "has_depth": torch.bool,
        "source": torch.int64,
        "index": torch.int64,
        "width_px": torch.float32,
        "valid": torch.bool,
        "f_number": torch.float32,
        "focal_length_mm": torch.float32,
        "sensor_width_mm": torch.float32,
        "prompt_tokens": torch.float16,
        "prompt_pooled": torch.float16,
        "latent": torch.float32,
        "focus_target": torch.float32,
        "given_disparity": torch.float32,
    }
    assert batch.width_px.tolist() == [8, 8, 8]
    numbers = [int(key[1:]) for key in batch.key]
    torch.testing.assert_close(
        batch.image_srgb.amax((1, 2, 3)) * 255, torch.tensor(numbers).float()
    )


def test_mirroring_is_a_function_of_seed_and_position(shards: Path) -> None:
    def rising(flip: float, seed: int) -> list[bool]:
        data = ShardData({"n": str(shards)}, batch_size=40, size_px=16, flip=flip, seed=seed)
        disparity = next(iter(data.train_dataloader())).disparity
        return (disparity[..., 0] < disparity[..., -1]).all(-1).flatten().tolist()

    assert all(rising(0.0, 0))
    assert not any(rising(1.0, 0))
    drawn = [
        bool(torch.rand((), generator=sample_generator(3, position, "flip")) >= 0.5)
        for position in range(40)
    ]
    assert rising(0.5, 3) == drawn
    assert 8 < sum(drawn) < 32


def test_mirroring_turns_everything() -> None:
    given = item(8, 10)
    given["valid"][..., 0] = False
    turned = flip(given)
    assert not turned["valid"][..., -1].any()
    torch.testing.assert_close(turned["disparity"], given["disparity"].flip(-1))
    torch.testing.assert_close(turned["image"], given["image"].flip(-1))


def test_sample_without_a_picture_is_named() -> None:
    with pytest.raises(UserError, match=r"^s\.tar: k: a sample needs one image, this one has 0"):
        decode_sample(Sample("s.tar", "k", {"json": b"{}"}), None)


def test_samples_without_depth_are_refused_in_training_with_the_mend(
    shards: Path, tmp_path: Path
) -> None:
    reader = ShardReader(shards)
    bare = [(reader.read(n).key, {"png": reader.read(n).members["png"]}) for n in range(4)]
    write_shards(
        tmp_path / "bare",
        bare,
        source="n",
        licence="CC0",
        split="train",
        depth_kind="depth",
        depth_unit="m",
    )
    with pytest.raises(
        UserError, match=r"^data\.train\.n: 4 of 4 samples in .*bare have no depth map: put"
    ):
        ShardData({"n": str(tmp_path / "bare")}, size_px=16).setup()
    data = ShardData(
        {"n": str(tmp_path / "bare")}, batch_size=4, size_px=16, flip=0.0, require_depth=False
    )
    batch = next(iter(data.train_dataloader()))
    assert not batch.has_depth.any()
    assert (batch.disparity == 0).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"train": {}}, r"data\.train: one or two sources"),
        ({"train": {"a": "a", "b": "b", "c": "c"}}, r"data\.train: one or two sources"),
        ({"flip": 1.5}, r"data\.flip"),
        ({"batch_size": 0}, r"data\.batch_size"),
        ({"size_px": -1}, r"data\.size_px"),
    ],
)
def test_wrong_options_are_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=f"^{named}"):
        ShardData(**{"train": {"a": "a"}, **wrong})
