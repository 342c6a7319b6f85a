"""The motorcycle's depth is the calibration's closed form, in metres."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import stereo_motorcycle

from dofsuite.data.module import ShardData
from dofsuite.data.shards import ShardReader
from dofsuite.data.synthetic.motorcycle import fill_background, motorcycle
from dofsuite.data.synthetic.sets import resolve


def test_depth_is_the_closed_form_where_it_was_measured() -> None:
    left, _, disparity_px = stereo_motorcycle()
    image, depth_m, valid = motorcycle()
    np.testing.assert_array_equal(image, left)
    np.testing.assert_array_equal(valid, np.isfinite(disparity_px))
    assert round(100 * (1 - valid.mean()), 1) == 7.3
    expected = 193.001e-3 * 994.978 / (disparity_px[valid].astype(np.float64) + 31.086)
    np.testing.assert_allclose(depth_m[valid], expected, rtol=1e-6)
    assert 2.1 < depth_m.min() < depth_m.max() < 5.1
    assert np.isfinite(depth_m).all()


def test_unmeasured_pixels_take_the_farther_neighbour_in_their_row() -> None:
    nan = np.nan
    disparity = np.float32([[nan, 5, nan, nan, 2, nan], [nan] * 6, [7, 7, 7, nan, 8, 8]])
    filled = fill_background(disparity, np.isfinite(disparity))
    assert filled.tolist() == [[5, 5, 2, 2, 2, 2], [5, 5, 2, 2, 2, 2], [7, 7, 7, 7, 8, 8]]


def test_batch_carries_disparity_and_mask(
    synthetic_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOFSUITE_CACHE", str(synthetic_cache))
    data = ShardData({"x": "synthetic:val"}, "synthetic:motorcycle", val_batch_size=1, size_px=None)
    monkeypatch.setattr(data, "train", {})
    batch = next(iter(data.val_dataloader()))
    _, depth_m, valid = motorcycle()
    assert batch.image_srgb.shape == (1, 3, 500, 741)
    assert batch.width_px.tolist() == [741]
    np.testing.assert_array_equal(batch.valid[0, 0].numpy(), valid)
    inverse = 1 / depth_m.astype(np.float64)
    expected = (inverse - inverse.min()) / np.ptp(inverse)
    np.testing.assert_allclose(batch.disparity[0, 0].numpy(), expected, atol=1e-6)


def test_shard_says_kind_and_unit(synthetic_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOFSUITE_CACHE", str(synthetic_cache))
    reader = ShardReader(resolve("synthetic:motorcycle"))
    assert (reader.manifest.depth_kind, reader.manifest.depth_unit, reader.manifest.split) == (
        "depth",
        "m",
        "test",
    )
    members = reader.read(0).members
    np.testing.assert_array_equal(np.load(io.BytesIO(members["depth.npy"])), motorcycle().depth_m)
    assert Image.open(io.BytesIO(members["valid.png"])).size == (741, 500)
