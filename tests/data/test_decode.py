"""Every kind of picture and depth map is read right, or refused in one sentence with its name."""

from __future__ import annotations

import io
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dofsuite.data.decode import (
    decode_depth_image,
    decode_json,
    decode_npy,
    disparity_from_depth_map,
)
from dofsuite.errors import UserError
from dofsuite.images import decode_image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def npy(values: np.ndarray, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth color image, 24 rows by 40 columns, another in every corner."""
    rows, columns = np.mgrid[0:24, 0:40]
    return np.stack([rows * 10, columns * 6, 240 - rows * 5], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("PNG", {"optimize": True})]
)
def test_lossless_picture_is_its_values_over_255(
    picture: np.ndarray, kind: str, options: dict[str, bool]
) -> None:
    decoded = decode_image(saved(Image.fromarray(picture), kind, **options), "a")
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, picture.astype(np.float32) / np.float32(255))


def test_jpeg_is_what_opencv_reads(picture: np.ndarray) -> None:
    data = saved(Image.fromarray(picture), "JPEG", quality=95, subsampling=0)
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decode_image(data, "a") - other / 255.0).max() <= 2 / 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_photograph_stands_upright(picture: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(picture), "JPEG", exif=exif, quality=98, subsampling=0)
    upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[
        ..., ::-1
    ]  # OpenCV applies EXIF too
    decoded = decode_image(data, "a")
    assert decoded.shape == upright.shape == ((40, 24, 3) if orientation >= 5 else (24, 40, 3))
    assert np.abs(decoded - upright / 255.0).max() <= 3 / 255


def test_transparency_is_laid_over_white(picture: np.ndarray) -> None:
    alpha = np.zeros((24, 40, 1), dtype=np.uint8)
    alpha[:, 10:20], alpha[:, 20:] = 102, 255
    decoded = decode_image(saved(Image.fromarray(np.concatenate([picture, alpha], -1)), "PNG"), "a")
    share = alpha / 255.0
    assert np.abs(decoded - (picture / 255.0 * share + 1 - share)).max() <= 1 / 255


def test_palette_with_a_transparent_color_is_laid_over_white() -> None:
    image = Image.new("P", (12, 10), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((3, 2), 0)
    decoded = decode_image(saved(image, "PNG", transparency=0), "a")
    assert decoded[2, 3].tolist() == [1, 1, 1]
    assert decoded[0, 0].tolist() == [0, 0, 1]


def test_cmyk_jpeg_becomes_its_colors() -> None:
    for ink, color in (
        ((255, 0, 0, 0), (0, 1, 1)),
        ((0, 0, 255, 0), (1, 1, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ):
        decoded = decode_image(saved(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95), "a")
        assert np.abs(decoded - np.array(color)).max() < 0.03


def test_grey_picture_gets_three_equal_channels(picture: np.ndarray) -> None:
    decoded = decode_image(saved(Image.fromarray(picture[..., 1]), "PNG"), "a")
    np.testing.assert_array_equal(
        decoded, np.repeat(picture[..., 1:2], 3, -1).astype(np.float32) / np.float32(255)
    )


def test_sixteen_bit_grey_picture_keeps_its_bits() -> None:
    values = (np.arange(24 * 40).reshape(24, 40) * 68).astype(np.uint16)
    decoded = decode_image(saved(Image.fromarray(values), "PNG"), "a")
    assert np.abs(decoded[..., 0] - values / 65535.0).max() < 1e-7
    assert len(np.unique(decoded)) == 960


def test_sixteen_bit_depth_is_exact() -> None:
    values = (np.arange(24 * 40).reshape(24, 40) * 68).astype(np.uint16)
    data = saved(Image.fromarray(values), "PNG")
    np.testing.assert_array_equal(decode_depth_image(data, "a"), values)
    np.testing.assert_array_equal(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), values
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_eight_bit_depth_is_exact_in_every_grey_layout(mode: str) -> None:
    values = np.arange(240, dtype=np.uint8).reshape(12, 20)
    decoded = decode_depth_image(saved(Image.fromarray(values).convert(mode), "PNG"), "a")
    np.testing.assert_array_equal(decoded, values)


def test_colored_depth_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"^x\.png: the depth map is colored"):
        decode_depth_image(saved(Image.fromarray(picture), "PNG"), "x.png")


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (40, 7)])
def test_tiny_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=rf"^x\.png: {size[0]}x{size[1]} px are too few"):
        decode_image(saved(Image.new("RGB", size), "PNG"), "x.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_picture_is_refused(picture: np.ndarray, kind: str, share: float) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noisy), kind)
    with pytest.raises(
        UserError, match=r"^x: (the image is damaged|it is not a JPEG, PNG or WebP)"
    ):
        decode_image(data[: int(len(data) * share)], "x")


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP"])
def test_other_formats_are_refused(picture: np.ndarray, kind: str) -> None:
    with pytest.raises(UserError, match=r"^x: it is not a JPEG, PNG or WebP image"):
        decode_image(saved(Image.fromarray(picture), kind), "x")


def test_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(UserError, match=r"^x: it has too many pixels"):
        decode_image(saved(Image.new("1", (12000, 9000)), "PNG"), "x")


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # NumPy parses damaged headers as Python text
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "npy"])
def test_no_damage_gets_past_as_anything_but_a_sentence(picture: np.ndarray, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "text"
    intact = (
        npy(picture[..., 0]) if kind == "npy" else saved(Image.fromarray(picture), kind, exif=exif)
    )
    dice = random.Random(1)
    decode = decode_npy if kind == "npy" else decode_image
    refused = []
    for _ in range(300):
        data = bytearray(intact)
        for _ in range(dice.randint(1, 4)):
            data[min(int(dice.expovariate(1 / 60)), len(data) - 1)] = dice.randrange(256)
        try:
            decode(bytes(data), "x")
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all(sentence.startswith("x: ") and "\n" not in sentence for sentence in refused)


def test_npy_map_is_read_in_its_usual_layouts() -> None:
    values = np.arange(12.0).reshape(3, 4)
    for layout in (
        values,
        values[..., None],
        values[None],
        values.astype(np.float16),
        values.astype(np.int64),
    ):
        np.testing.assert_array_equal(decode_npy(npy(layout), "x"), values)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy(np.array([{}], dtype=object), allow_pickle=True), "not a plain array"),
        (npy(np.zeros((2, 3, 4))), r"shape \[h, w\]"),
        (npy(np.zeros((3, 4), dtype=complex)), "real numbers"),
        (b"\x93NUMPY", "not a plain array"),
        (b"", "not a plain array"),
    ],
)
def test_other_arrays_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=rf"^x: .*{reason}"):
        decode_npy(data, "x")


def test_json_that_is_none_is_refused() -> None:
    for data in (b"{", b"[1]", b"\xff"):
        with pytest.raises(UserError, match=r"^x: "):
            decode_json(data, "x")


def test_disparity_is_min_max_and_depth_is_inverted_first() -> None:
    depth_m = np.array([[1.0, 2.0, 4.0, np.inf]], dtype=np.float32)
    disparity = disparity_from_depth_map(depth_m, "depth", (1, 4), "x")
    np.testing.assert_allclose(disparity, [[1.0, 0.5, 0.25, 0.0]], atol=1e-7)
    np.testing.assert_allclose(
        disparity_from_depth_map(np.float32([[-2, 0, 2]]), "disparity", (1, 3), "x"), [[0, 0.5, 1]]
    )
    assert disparity_from_depth_map(
        np.ones((2, 2), np.float32), "disparity", (2, 2), "x"
    ).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        ([[1, np.nan]], "disparity", r"1 values are not finite"),
        ([[1, np.inf]], "disparity", r"1 values are not finite"),
        ([[1, np.nan]], "depth", r"1 values are not a number or not above 0"),
        ([[1, 0]], "depth", r"1 values are not a number or not above 0"),
        ([[1, 2], [3, 4]], "disparity", r"the depth map is 2x2 px and its image 2x1 px"),
    ],
)
def test_depth_that_is_none_is_refused_by_name(
    values: list[list[float]], kind: str, reason: str
) -> None:
    with pytest.raises(UserError, match=rf"^d\.npy: .*{reason}"):
        disparity_from_depth_map(np.float32(values), kind, (1, 2), "d.npy")


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_a_value_that_float32_does_not_hold_is_named() -> None:
    with pytest.raises(UserError, match=r"^d\.npy: 2 values, such as 1e\+300, are larger"):
        decode_npy(npy(np.array([[1.0, 1e300], [-1e300, np.inf]])), "d.npy")
    assert decode_npy(npy(np.array([[1.0, np.inf]])), "d.npy").tolist() == [[1.0, np.inf]]


RAMP = np.repeat(np.arange(1, 65, dtype=np.float32)[None], 64, axis=0)


def with_one(value: float) -> np.ndarray:
    values = RAMP.copy()
    values[3, 5] = value
    return values


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (np.full((64, 64), np.inf), "depth", "all values are infinite"),
        (with_one(3e38), "disparity", r"1 values are beyond 1e\+30"),
        (np.where(RAMP > 40, -3.4e38, RAMP), "disparity", "1536 values are beyond"),
        (with_one(1e9), "disparity", r"1 values, such as 1e\+09, are so far from all others"),
        (with_one(-1e9), "disparity", r"1 values, such as -1e\+09, are so far from all others"),
        (with_one(1e-9), "depth", "1 values, such as 1e-09, are so far from all others"),
    ],
)
def test_depth_that_would_be_flat_without_a_word_is_refused(
    values: np.ndarray, kind: str, reason: str
) -> None:
    with pytest.raises(UserError, match=rf"^d\.npy: {reason}"):
        disparity_from_depth_map(values.astype(np.float32), kind, (64, 64), "d.npy")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (with_one(np.inf), "depth"),  # sky
        (with_one(3e38), "depth"),  # as far
        (np.where(RAMP > 60, RAMP, np.inf), "depth"),
        (np.where(RAMP > 40, 1e9, RAMP), "disparity"),  # near and far, as much of each
        (np.where(np.eye(64) * (RAMP == 7), 100, 1 + 1e-7 * (RAMP % 2)), "disparity"),  # a wall
        (with_one(65535), "disparity"),  # 16 bits tell the others apart
    ],
)
def test_depth_of_a_wide_range_is_what_it_was(values: np.ndarray, kind: str) -> None:
    values = values.astype(np.float32)
    plain = 1 / values.astype(np.float64) if kind == "depth" else values.astype(np.float64)
    expected = (plain - plain.min()) / (plain.max() - plain.min())
    found = disparity_from_depth_map(values, kind, (64, 64), "d.npy")
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_real_disparity_png_is_what_opencv_reads() -> None:
    path = Path(__file__).parents[3] / "shared" / "data" / "bokehme" / "21_disparity.png"
    if not path.is_file():
        pytest.skip("../shared/data is not there")
    decoded = decode_depth_image(path.read_bytes(), "21")
    np.testing.assert_array_equal(decoded, cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    assert decoded.max() > 255
