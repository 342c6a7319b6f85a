"""A sample's metadata: its caption and its photograph's EXIF.

Both lie in the sample's JSON, `{"caption": "...", "exif": {"f_number": 2.8, "focal_length_mm":
85}}`; a `txt` file of the sample takes precedence as its caption. What is absent or null is "" or
NaN.
"""

import math
import re
from typing import Any, NamedTuple

from dofsuite.data.decode import decode_json, decode_text
from dofsuite.errors import UserError

ABSENT = math.nan
MIRRORED = {"left": "right", "right": "left"}


class Record(NamedTuple):
    """Caption ("" if absent), f-number and focal length in mm on a 36 mm sensor (NaN if absent)."""

    caption: str = ""
    f_number: float = ABSENT
    focal_length_mm: float = ABSENT

    # Whether both numbers are there: a lens needs both.
    @property
    def has_exif(self) -> bool:
        return not (math.isnan(self.f_number) or math.isnan(self.focal_length_mm))


def read_record(members: dict[str, bytes], name: str) -> Record:
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
    return Record(
        caption.strip(),
        f_number=_positive(exif, "f_number", name),
        focal_length_mm=_positive(exif, "focal_length_mm", name),
    )


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
