"""A photograph's camera, from its file's bytes."""

import io
import warnings

from PIL import Image

from dofsuite.exif import CameraExif, camera_exif
from dofsuite.images import FORMATS, header_only


def exif_of_photograph(data: bytes) -> CameraExif:
    """Read the camera of a JPEG, PNG or WebP file; EXIF that cannot be read counts as absent."""
    try:
        with warnings.catch_warnings(), header_only():
            warnings.simplefilter("ignore")  # remarks about damaged tags
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return camera_exif(image.getexif(), image.size)
    except Exception:  # of damaged EXIF Pillow raises nearly anything; the decoder checks the image
        return CameraExif()
