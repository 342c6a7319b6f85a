"""What a photograph's sample in a shard is made of, whichever command packs it."""

import re
from collections.abc import Callable

import numpy as np

from dofsuite.exif import CameraExif
from dofsuite.images import encode_png

# A depth model: display values [h, w, 3] to disparity [h, w] in [0, 1], larger is nearer.
PredictDisparity = Callable[[np.ndarray], np.ndarray]


def plain_name(text: str) -> str:
    """Return a text as webdataset's keys, tars and folders allow it: no dots, slashes, ..."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


def slug(text: str) -> str:
    return plain_name(text)[:48]


def sample_key(number: int, stem: str) -> str:
    return f"{number:06d}_{slug(stem)}"


def exif_record(camera: CameraExif) -> dict[str, float | None]:
    """The `exif` of a sample's JSON; the camera must lack nothing."""
    return {
        "f_number": camera.f_number,
        "focal_length_mm": camera.focal_length_mm,
        "sensor_width_mm": camera.sensor_width_mm,
    }


def predicted_depth(
    predict: PredictDisparity, image_srgb: np.ndarray, model: str | None
) -> tuple[bytes, dict[str, str]]:
    """Return predicted disparity as a 16-bit PNG, and the `depth` of the sample's JSON."""
    levels = (predict(image_srgb) * 65535).round().astype(np.uint16)
    name = model or "Depth Anything V2 Small"
    return encode_png(levels), {"kind": "disparity", "unit": "relative", "predicted_by": name}
