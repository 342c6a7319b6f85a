"""What an importer says of its data set, and what it finds in a copy of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dofsuite.data.packing.match_files import Pair
from dofsuite.data.packing.pack import plain_file
from dofsuite.exif import CameraExif

Purpose = Literal["train", "evaluate", "product"]
Split = Literal["train", "val", "test"]
NOT_STATED = "not stated"
HELD_OUT: tuple[Split, ...] = ("test", "val")


class Photograph(NamedTuple):
    """An image that is all in focus, with its depth where there is one, for shards."""

    pair: Pair
    split: Split
    # What is known besides EXIF: `camera`, `scene`, `caption`, ...; for the sample's JSON.
    facts: dict[str, Any] = {}  # noqa: RUF012  # never changed
    # None: as the file's EXIF says.
    camera: CameraExif | None = None


class RealPair(NamedTuple):
    """One scene sharp and blurred by a lens, and the cameras: f_number, focal_length_mm, ..."""

    # Unique, of letters that a file name may have.
    name: str
    # Pairs of one scene share their sharp photograph and must not be split.
    scene: str
    split: Split
    sharp: Path
    blurred: Path
    sharp_camera: dict[str, float]
    blurred_camera: dict[str, float]
    depth: Path | None = None


class Found(NamedTuple):
    photographs: list[Photograph]
    pairs: list[RealPair]
    # What is left out and how many, by reason.
    left_out: dict[str, int] = {}  # noqa: RUF012  # never changed
    # One phrase a file that cannot be used; then nothing is written.
    faults: list[str] = []  # noqa: RUF012  # never changed


@dataclass(frozen=True)
class DataSet:
    """A published data set; `data_manifests/NAME.yaml` says the same to a reader."""

    name: str
    title: str
    licence: str
    source: str
    """Where its makers publish it."""
    find: Callable[[Path], Found]
    """Reads a copy of it. Raises `UserError` where the folder is no such copy."""
    refuses: Mapping[Purpose, str] = field(default_factory=dict)
    """Purposes that its license forbids or does not grant, and why."""
    depth_kind: Literal["disparity", "depth"] | None = None
    depth_unit: str = "relative"
    image: Callable[[Path], tuple[str, bytes]] = plain_file
    """An image file's extension and bytes, as JPEG, PNG or WebP."""
    depth: Callable[[Path], tuple[str, bytes]] = plain_file
    """The same of a depth map."""


def slug(text: str) -> str:
    """Return a name that files and keys may have."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in text)
