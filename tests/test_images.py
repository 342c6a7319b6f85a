"""`dofsuite.images`: every function against numbers, NumPy or Pillow."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.errors import UserError
from dofsuite.images import (
    center_crop,
    draw_marker,
    encode_png,
    minmax_normalize,
    quantize_8bit,
    read_image,
    resize,
    thumbnail,
    to_pil,
    to_uint8,
)


@pytest.fixture
def image() -> torch.Tensor:
    """Display values `[3, 20, 30]`, some of them outside [0, 1]."""
    return torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1


def test_eight_bits_are_those_of_numpy(image):
    levels = np.rint(np.clip(image.numpy(), 0, 1) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(to_uint8(image).numpy(), levels)
    np.testing.assert_array_equal(quantize_8bit(image).numpy(), levels / np.float32(255))
    np.testing.assert_array_equal(np.asarray(to_pil(image)), levels.transpose(1, 2, 0))
    np.testing.assert_array_equal(np.asarray(to_pil(image[:1])), levels[0])
    assert to_pil(image[:1]).mode == "L"


def test_a_value_that_is_no_number_is_black_when_shown_and_stays_when_scored():
    bad = torch.tensor([float("nan"), 0.5])
    assert to_uint8(bad).tolist() == [0, 128]
    assert quantize_8bit(bad).isnan().tolist() == [True, False]


def test_a_png_is_read_as_it_was_written(image, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(image))
    assert torch.equal(read_image(path), quantize_8bit(image))
    stored = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(stored)))), stored)
    with pytest.raises(UserError, match=r"b\.png: it cannot be read \(No such file"):
        read_image(tmp_path / "b.png")


def test_a_thumbnail_keeps_the_aspect_ratio_and_the_mean(image):
    image = image.clamp(0, 1)
    small = thumbnail(image, 15)
    assert small.shape == (3, 10, 15)
    torch.testing.assert_close(small.mean((1, 2)), image.mean((1, 2)), rtol=0, atol=0.02)
    assert thumbnail(image.transpose(1, 2), 15).shape == (3, 15, 10)
    assert thumbnail(image, 30) is image
    # Pillow's filter is the same but for its rounding to 8 bits between the two directions.
    gray = image / 2 + 0.25
    pillow = np.asarray(to_pil(gray).resize((15, 10), Image.Resampling.BICUBIC), np.float32)
    assert np.abs(thumbnail(gray, 15).permute(1, 2, 0).numpy() * 255 - pillow).max() <= 1.5
    assert torch.equal(resize(image[None], 10, 15)[0], small)


def test_the_center_is_cropped():
    values = torch.arange(7 * 6).reshape(1, 7, 6)
    assert center_crop(values, 3, 2).tolist() == [[[14, 15], [20, 21], [26, 27]]]
    assert center_crop(values, 4, 3)[0, 0].tolist() == [7, 8, 9]


def test_minmax_is_per_item_and_flat_items_are_zero():
    values = torch.tensor([[[1.0, 3.0], [2.0, 5.0]], [[4.0, 4.0], [4.0, 4.0]]])
    expected = [[[0.0, 0.5], [0.25, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]
    assert minmax_normalize(values).tolist() == expected
    assert minmax_normalize(values, min_range=8.0)[0].tolist() == [[0.0, 0.25], [0.125, 0.5]]


def test_a_marker_is_a_cross_at_the_point():
    marked = draw_marker(torch.zeros(3, 20, 40), torch.tensor([0.5, 0.25]))[0] == 1
    rows, columns = marked.nonzero(as_tuple=True)
    assert set(rows[columns != 20].tolist()) == {5}
    assert set(columns[rows != 5].tolist()) == {20}
    assert (rows.min().item(), rows.max().item()) == (3, 7)
    assert (columns.min().item(), columns.max().item()) == (18, 22)
