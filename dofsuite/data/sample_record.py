"""What a sample says in words and numbers: its caption and the EXIF of its photograph.

Both lie in the sample's JSON, `{"caption": "...", "exif": {"f_number": 2.8, "focal_length_mm":
85}}`; where the sample has a `txt` member, that is the caption. What is absent or null stays
absent: "" and NaN.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from dofsuite.data.decode import decode_json, decode_text
from dofsuite.errors import UserError

ABSENT = math.nan
SIDES = {"left": "right", "right": "left"}


class Record(NamedTuple):
    """Caption ("" where there is none), f-number and focal length in mm (NaN where there are none)."""

    caption: str = ""
    f_number: float = ABSENT
    focal_length_mm: float = ABSENT

    @property
    def has_exif(self) -> bool:
        """Whether both numbers are there: a lens needs both."""
        return not (math.isnan(self.f_number) or math.isnan(self.focal_length_mm))


def read_record(members: dict[str, bytes], name: str) -> Record:
    """Return what the `json` and `txt` members of a sample say; `name` is the sample's, for the sentence.

    Raises:
        UserError: A member cannot be read, the caption is no text, or an EXIF number is not above
            0.
    """
    record = decode_json(members["json"], f"{name}.json") if "json" in members else {}
    caption = (
        decode_text(members["txt"], f"{name}.txt")
        if "txt" in members
        else record.get("caption") or ""
    )
    if not isinstance(caption, str):
        raise UserError(f"{name}.json: caption: a text is expected, not {caption!r}.")
    exif = record.get("exif") or {}
    if not isinstance(exif, dict):
        raise UserError(
            f"{name}.json: exif: an object with f_number and focal_length_mm is expected, not {exif!r}."
        )
    return Record(
        caption.strip(), *(_positive(exif, key, name) for key in ("f_number", "focal_length_mm"))
    )


def _positive(exif: dict[str, Any], key: str, name: str) -> float:
    value = exif.get(key)
    if value is None:
        return ABSENT
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UserError(f"{name}.json: exif.{key}: a number above 0 is expected, not {value!r}.")
    return float(value)


def mirrored(caption: str) -> str:
    """Return the caption of the mirrored picture: the words left and right change places (*ours*).

    >>> mirrored("a red disc on the left, a leftover on the Right")
    'a red disc on the right, a leftover on the Left'
    """

    def other(found: re.Match[str]) -> str:
        word = SIDES[found[0].lower()]
        return word.capitalize() if found[0][0].isupper() else word

    return re.sub(r"\b(left|right)\b", other, caption, flags=re.IGNORECASE)
