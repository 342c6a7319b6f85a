"""`dofsuite.images`: every function against numbers, NumPy or Pillow."""

import io
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.curation.header import read_header
from dofsuite.data.batch import decode_sample
from dofsuite.data.decode import decode_depth_image, decode_npy
from dofsuite.data.importers.image_files import png_of_16_bits
from dofsuite.data.packing.pack import PackConfig, pack
from dofsuite.data.shards import Sample
from dofsuite.errors import UserError
from dofsuite.images import (
    LIMIT_VARIABLE,
    center_crop,
    draw_marker,
    encode_png,
    image_values,
    load_upright,
    minmax_normalize,
    quantize_8bit,
    read_image,
    resize,
    thumbnail,
    to_pil,
    to_uint8,
)
from dofsuite.photography.photo_file import read_photo
from tests.data.test_damage import large_png


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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "I;16", "transparency"])
def test_a_large_image_is_decoded_by_strips_as_at_once(mode, monkeypatch):
    generator = np.random.default_rng(0)
    if mode == "I;16":
        stored = Image.fromarray(generator.integers(0, 65536, (37, 20)).astype(np.uint16))
    else:
        stored = Image.fromarray(generator.integers(0, 256, (37, 20, 3), np.uint8))
        stored = stored.quantize(200) if mode in ("P", "transparency") else stored.convert(mode)
    if mode == "transparency":
        stored.info["transparency"] = 5
    at_once = image_values(stored)
    monkeypatch.setattr("dofsuite.images.STRIP_PIXELS", 100)
    assert np.array_equal(image_values(stored), at_once)


def decoders(tmp_path):
    """Every way in which a user's image comes in, as functions of a file."""
    return {
        "shards": lambda path: decode_sample(Sample("s", "k", {"png": path.read_bytes()}), None),
        "depth in shards": lambda path: decode_depth_image(path.read_bytes(), str(path)),
        "photographs": read_photo,
        "evaluate": read_image,
        "curate": lambda path: load_upright(path.read_bytes(), str(path)),
        "importers": png_of_16_bits,
        "pack": lambda path: pack(PackConfig(folder=path.parent, output=tmp_path / "packed")),
    }


@pytest.mark.parametrize("name", decoders(None))
def test_the_limit_of_pixels_is_one_for_all_that_decode(name, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    bits = np.uint16 if name == "importers" else np.uint8
    values = np.full((100, 120, 3), 99, bits)
    cv2.imwrite(str(folder / "x.png"), values)
    decode = decoders(tmp_path)[name]
    monkeypatch.setenv(LIMIT_VARIABLE, "0.011")
    sentence = r"too many pixels, 0\.012 million where 0\.011 may be decoded: .* DOFSUITE_MAX_MEG"
    with pytest.raises(UserError, match=sentence):
        decode(folder / "x.png")
    monkeypatch.setenv(LIMIT_VARIABLE, "0.012")
    decode(folder / "x.png")


def test_a_header_is_read_of_an_image_of_any_size(monkeypatch, tmp_path):
    """What is decoded later is limited then; sizes and rules do not depend on the variable."""
    monkeypatch.setenv(LIMIT_VARIABLE, "1")
    header = read_header(large_png(), "x")
    assert (header["width"], header["height"]) == (20000, 10000)


def test_a_map_has_no_more_pixels_than_an_image(monkeypatch):
    file = io.BytesIO()
    np.save(file, np.ones((100, 120)))
    monkeypatch.setenv(LIMIT_VARIABLE, "0.011")
    with pytest.raises(UserError, match=r"^d\.npy: it has too many pixels"):
        decode_npy(file.getvalue(), "d.npy")


@pytest.mark.parametrize("text", ["x", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_named(text, monkeypatch, tmp_path):
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match=f"^{LIMIT_VARIABLE}: a number above 0 is expected"):
        read_image(tmp_path / "x.png")


STATUS = Path("/proc/self/status")


def memory_bytes(name):
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())[1])


@pytest.mark.skipif(not STATUS.exists(), reason="no /proc here")
@pytest.mark.parametrize("decode", [read_image, read_photo])
def test_the_memory_of_decoding_is_bounded_by_the_pixels(decode, tmp_path):
    """What comes out has 12 bytes a pixel; up to the limit it took 30 and 39 of an RGBA file."""
    pixels = 16_000_000
    Image.new("RGBA", (4000, 4000), (9, 8, 7, 200)).save(tmp_path / "x.png")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
    before = memory_bytes("VmRSS")
    decode(tmp_path / "x.png")
    assert 12 * pixels < memory_bytes("VmHWM") - before < 27 * pixels
