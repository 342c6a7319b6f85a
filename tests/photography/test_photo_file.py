"""Photographs keep what their file says, in every format, or are refused in one sentence."""

import io
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps

from dofsuite.errors import UserError
from dofsuite.photography.photo import Photo
from dofsuite.photography.photo_encoding import lost_in, write_photo
from dofsuite.photography.photo_file import read_photo
from tests.photography.color_profiles import rgb_profile

MAKE, ORIENTATION, F_NUMBER, EXIF_IFD = 0x010F, 0x0112, 0x829D, 0x8769


@pytest.fixture
def pixels() -> np.ndarray:
    rows, columns = np.mgrid[0:24, 0:40]
    return np.stack([rows * 10, columns * 6, 240 - rows * 5], axis=-1).astype(np.uint8)


@pytest.fixture
def pixels_16_bit() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (24, 40, 3), dtype=np.uint16)


def exif_of(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[MAKE] = "A camera"
    exif[ORIENTATION] = orientation
    exif.get_ifd(EXIF_IFD)[F_NUMBER] = 2.8
    return exif


def copied(source: Path, target: Path) -> Image.Image:
    """Read and write a photograph, and open the result with Pillow."""
    write_photo(read_photo(source), target)
    image = Image.open(target)
    image.load()
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_upright_as_pillow_turns_them(tmp_path, pixels, orientation):
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path, exif=exif_of(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    image = copied(path, tmp_path / "copy.png")
    assert np.array_equal(np.asarray(image), expected)
    assert image.getexif().get(ORIENTATION, 1) == 1


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
def test_exif_and_profile_are_kept(tmp_path, pixels, extension):
    path, profile = tmp_path / f"photo.{extension}", rgb_profile()
    Image.fromarray(pixels).save(path, exif=exif_of(6).tobytes(), icc_profile=profile)
    image = copied(path, tmp_path / f"copy.{extension}")
    assert image.size == (24, 40)
    assert image.info["icc_profile"] == profile
    assert image.getexif()[MAKE] == "A camera"
    assert float(image.getexif().get_ifd(EXIF_IFD)[F_NUMBER]) == pytest.approx(2.8)


@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_16_bits_are_kept_bit_for_bit(tmp_path, pixels_16_bit, extension):
    path, profile = tmp_path / f"photo.{extension}", rgb_profile()
    if extension == "png":
        path.write_bytes(cv2.imencode(".png", pixels_16_bit[..., ::-1])[1].tobytes())
    else:
        tag = (34675, "B", len(profile), profile, True)
        tifffile.imwrite(path, pixels_16_bit, photometric="rgb", extratags=[tag])
    image = copied(path, tmp_path / f"copy.{extension}")
    stored = cv2.imread(str(tmp_path / f"copy.{extension}"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert np.array_equal(stored[..., ::-1], pixels_16_bit)
    assert image.info.get("icc_profile") == (profile if extension == "tiff" else None)


def test_a_16_bit_tiff_says_that_it_has_no_exif(tmp_path):
    photo = replace(Photo(torch.rand(3, 8, 8), bits=16), exif=exif_of().tobytes())
    assert "has no EXIF" in lost_in(photo, tmp_path / "copy.tif")[0]
    assert lost_in(photo, tmp_path / "copy.png") == []
    assert lost_in(replace(photo, bits=8), tmp_path / "copy.tif") == []


def test_16_bit_gray_stays_gray(tmp_path, pixels_16_bit):
    Image.fromarray(pixels_16_bit[..., 0]).save(tmp_path / "photo.png")
    image = copied(tmp_path / "photo.png", tmp_path / "copy.png")
    assert np.array_equal(np.asarray(image), pixels_16_bit[..., 0])


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_other_modes_keep_their_look(tmp_path, pixels, mode):
    image = Image.fromarray(pixels).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(pixels[..., 0]))
    image.save(tmp_path / "photo.png")
    copy = copied(tmp_path / "photo.png", tmp_path / "copy.png")
    as_rgba = [np.asarray(each.convert("RGBA")).astype(int) for each in (image, copy)]
    assert np.abs(as_rgba[0] - as_rgba[1]).max() == 0


def test_transparency_lies_over_white_in_a_jpeg(tmp_path, pixels):
    image = Image.fromarray(pixels)
    image.putalpha(0)
    image.save(tmp_path / "photo.png")
    copy = copied(tmp_path / "photo.png", tmp_path / "copy.jpg")
    assert np.asarray(copy).min() == 255


def test_cmyk_becomes_srgb_with_a_note(tmp_path, pixels):
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "photo.jpg", quality=95)
    photo = read_photo(tmp_path / "photo.jpg")
    expected = np.asarray(Image.open(tmp_path / "photo.jpg").convert("RGB"))
    assert np.array_equal((255 * photo.image.permute(1, 2, 0)).round().numpy(), expected)
    assert photo.notes == ("CMYK became sRGB",)


def test_a_network_sees_srgb(tmp_path, pixels):
    path, profile = tmp_path / "photo.png", rgb_profile()
    Image.fromarray(pixels).save(path, icc_profile=profile)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    display_p3 = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    expected = ImageCms.profileToProfile(Image.fromarray(pixels), display_p3, srgb)
    seen = (255 * read_photo(path).to_srgb().permute(1, 2, 0)).round().numpy()
    assert np.array_equal(seen, np.asarray(expected))


def test_the_first_of_several_pictures_is_taken_with_a_note(tmp_path, pixels):
    first, second = Image.fromarray(pixels), Image.fromarray(255 - pixels)
    first.save(tmp_path / "photo.tif", save_all=True, append_images=[second])
    photo = read_photo(tmp_path / "photo.tif")
    assert np.array_equal((255 * photo.image.permute(1, 2, 0)).round().numpy(), pixels)
    assert photo.notes == ("it holds 2 pictures, of which the first was taken",)


def test_one_pixel_is_a_photograph(tmp_path):
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "photo.png")
    assert copied(tmp_path / "photo.png", tmp_path / "copy.png").getpixel((0, 0)) == (10, 20, 30)


def test_files_that_are_no_photograph_are_refused(tmp_path, pixels):
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(
        encoded, "JPEG"
    )
    depth = io.BytesIO()
    Image.fromarray(np.ones((8, 8), np.float32)).save(depth, "TIFF")
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    huge = b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 99) + b"IDAT" + bytes(99)
    for name, content, reason in (
        ("text.jpg", b"a text", "not a JPEG, PNG, WebP, TIFF or HEIC"),
        ("cut.jpg", encoded.getvalue()[:1500], "damaged"),
        ("page.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG"),
        ("depth.tif", depth.getvalue(), "give it as --depth"),
        ("huge.png", huge, "too many pixels"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: .*{reason}"):
            read_photo(tmp_path / name)


def test_heic_without_its_package_says_which(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    with pytest.raises(UserError, match="pip install pillow-heif"):
        read_photo(tmp_path / "photo.heic")
