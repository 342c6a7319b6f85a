"""A sample's metadata: its caption and its photograph's EXIF.

Both lie in the sample's JSON, `{"caption": "...", "exif": {"f_number": 2.8, "focal_length_mm": 50,
"sensor_width_mm": 23.5}}`, f-number and focal length both of the real lens; without a sensor width
they are of a full-frame camera. A `txt` file of the sample takes precedence as its caption. What is
absent or null is "" or NaN.

Shards packed before sensor widths were read say in `focal_length_of` which focal length they hold.
Their f-number and focal length are of two cameras, unless the photograph is full frame, and the
sensor is not known: they count as absent (`has_old_exif`).
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from dofsuite.data.decode import decode_json, decode_text
from dofsuite.errors import UserError
from dofsuite.exif import FULL_FRAME_WIDTH_MM

ABSENT = math.nan
MIRRORED = {"left": "right", "right": "left"}


class Record(NamedTuple):
    """Caption ("" if absent), f-number, focal length and sensor width in mm (NaN if absent)."""

    caption: str = ""
    f_number: float = ABSENT
    focal_length_mm: float = ABSENT
    sensor_width_mm: float = ABSENT

    @property
    def equivalent_mm(self) -> float:
        """Focal length of the same view on a sensor 36 mm wide."""
        if math.isnan(self.sensor_width_mm):
            return self.focal_length_mm
        return self.focal_length_mm * FULL_FRAME_WIDTH_MM / self.sensor_width_mm

    # Whether both numbers are there: a lens needs both.
    @property
    def has_exif(self) -> bool:
        return not (math.isnan(self.f_number) or math.isnan(self.focal_length_mm))


def read_record(members: Mapping[str, bytes], name: str) -> Record:
    """Read a sample's metadata from its `json` and `txt` files; errors name the sample `name`.

    Raises:
        UserError: A file cannot be decoded, the caption is no text, or an EXIF number is not above
            0.
    """
    record = decode_json(members["json"], f"{name}.json") if "json" in members else {}

    # Caption: the text file's, or else the JSON's
    caption = (
        decode_text(members["txt"], f"{name}.txt")
        if "txt" in members
        else record.get("caption") or ""
    )
    if not isinstance(caption, str):
        raise UserError(f"{name}.json: caption: a text is expected, not {caption!r}.")

    # EXIF
    exif = record.get("exif") or {}
    if not isinstance(exif, dict):
        raise UserError(
            f"{name}.json: exif: an object with f_number and focal_length_mm is expected, not "
            f"{exif!r}."
        )
    if has_old_exif(record):
        return Record(caption.strip())
    focal_length_mm = _positive(exif, "focal_length_mm", name)
    sensor_width_mm = _positive(exif, "sensor_width_mm", name)
    return Record(
        caption.strip(), _positive(exif, "f_number", name), focal_length_mm, sensor_width_mm
    )


def has_old_exif(record: dict[str, Any]) -> bool:
    """Whether a sample's JSON has EXIF from before sensor widths were read.

    Not where a focus distance stands beside it: the synthetic sets' lenses are full-frame ones.
    """
    exif = record.get("exif")
    if not isinstance(exif, dict) or "focal_length_of" not in exif:
        return False
    return exif.keys().isdisjoint({"sensor_width_mm", "focus_m"})


def _positive(exif: dict[str, Any], key: str, name: str) -> float:
    value = exif.get(key)
    if value is None:
        return ABSENT
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UserError(f"{name}.json: exif.{key}: a number above 0 is expected, not {value!r}.")
    return float(value)


def mirror_caption(caption: str) -> str:
    """Swap the words left and right, for a mirrored image (*ours*).

    >>> mirror_caption("a red disc on the left, a leftover on the Right")
    'a red disc on the right, a leftover on the Left'
    """

    def swap(match: re.Match[str]) -> str:
        word = MIRRORED[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word

    return re.sub(r"\b(left|right)\b", swap, caption, flags=re.IGNORECASE)
