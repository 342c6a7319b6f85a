"""A photograph into a file: the format by its name, with EXIF, color profile and bit depth."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dofsuite.errors import UserError
from dofsuite.files import write_bytes
from dofsuite.photography.photo import Photo, stored_values

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
ICC_PROFILE_TAG = 34675
# Lossy formats: no chroma subsampling, and the quality above which files grow without a gain.
ENCODER_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 4},
    "PNG": {"compress_level": 4},
    "TIFF": {},  # uncompressed: Pillow's compressing encoder cannot write EXIF
}


def write_photo(photo: Photo, path: Path) -> None:
    """Write a photograph in the format that the name says, with its metadata, atomically.

    PNG and TIFF keep 16 bits and opacity, WebP opacity; JPEG lays the photograph over white.

    Raises:
        UserError: The name ends in no such format, or the file cannot be written.
    """
    image_format = FORMATS[checked_extension(path)]
    # Planes that the format can hold
    if image_format == "JPEG":
        photo = photo.over_white()
    planes = photo.image[:1] if photo.is_gray else photo.image
    if photo.alpha is not None:
        planes = torch.cat([planes, photo.alpha])
    # More than 8 bits a color, which Pillow cannot write
    if photo.bits == 16 and image_format in ("PNG", "TIFF") and len(planes) > 1:
        encode = _encode_16_bit_png if image_format == "PNG" else _encode_16_bit_tiff
        write_bytes(path, encode(stored_values(planes, 16), photo))
        return
    # All others by Pillow
    bits = 16 if photo.bits == 16 and image_format in ("PNG", "TIFF") else 8
    values = stored_values(planes, bits)
    metadata: dict[str, Any] = {"icc_profile": photo.icc_profile} if photo.icc_profile else {}
    if photo.exif:
        metadata["exif"] = photo.exif
    file = io.BytesIO()
    image = Image.fromarray(values[..., 0] if len(planes) == 1 else values)
    image.save(file, image_format, **ENCODER_OPTIONS[image_format], **metadata)
    write_bytes(path, file.getvalue())


def lost_in(photo: Photo, path: Path) -> list[str]:
    """What the file cannot keep of a photograph, one sentence each."""
    if photo.bits == 16 and photo.exif and FORMATS[checked_extension(path)] == "TIFF":
        return [f"{path.name} has no EXIF: a 16-bit TIFF is written without, a PNG with it"]
    return []


def checked_extension(path: Path) -> str:
    """Return the extension of a photograph that can be written.

    Raises:
        UserError: There is no such format.
    """
    if (extension := path.suffix.lower()) not in FORMATS:
        raise UserError(f"{path}: a photograph's name must end in {', '.join(FORMATS)}.")
    return extension


def _encode_16_bit_png(values: np.ndarray, photo: Photo) -> bytes:
    import cv2

    if values.shape[2] == 2:  # OpenCV has no gray with opacity
        values = values[..., [0, 0, 0, 1]]
    values = values[..., [2, 1, 0, *range(3, values.shape[2])]]
    kinds, metadata = [], []
    for kind, content in (
        (cv2.IMAGE_METADATA_EXIF, photo.exif.removeprefix(b"Exif\0\0")),
        (cv2.IMAGE_METADATA_ICCP, photo.icc_profile),
    ):
        if content:
            kinds.append(kind)
            metadata.append(np.frombuffer(content, np.uint8))
    return bytes(cv2.imencodeWithMetadata(".png", values, kinds, metadata)[1])


def _encode_16_bit_tiff(values: np.ndarray, photo: Photo) -> bytes:
    import tifffile

    tags = []
    if photo.icc_profile:
        tags = [(ICC_PROFILE_TAG, "B", len(photo.icc_profile), photo.icc_profile, True)]
    file = io.BytesIO()
    color = "rgb" if values.shape[2] >= 3 else "minisblack"
    extra = ["unassalpha"] if values.shape[2] in (2, 4) else None
    tifffile.imwrite(
        file, values, photometric=color, extrasamples=extra, compression="deflate", extratags=tags
    )
    return file.getvalue()
