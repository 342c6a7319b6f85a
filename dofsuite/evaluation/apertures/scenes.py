"""Folders of the same scene photographed at several apertures: EBB!'s pairs, and sets that name the f-number.

- EBB! (Ignatov et al., CVPR Workshops 2020): `original/` (f/16) and `bokeh/` (f/1.8) side by side,
  such as in `Training/`, with the same names in both; Canon 7D, 50 mm f/1.8.
- Sets whose files end in `_f<N>`, such as RealBokeh_3MP's `<split>/gt/<id>/<id>_f<N>.JPG` with
  `<split>/in/<id>_f22.JPG`: one scene is one id of one split, because ids begin anew in every
  split.

Both may lie at any depth in the folder. Nothing of either set is shipped or downloaded; see their
own licences.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from dofsuite.errors import UserError
from dofsuite.images import IMAGE_EXTENSIONS

EBB_FOLDERS = {"bokeh": 1.8, "original": 16.0}
"""Of EBB! (*stated*), by its folders' names."""
NAMED_F_NUMBER = re.compile(r"^(?P<scene>.+?)[_-]f(?P<f_number>\d+(?:\.\d+)?)$", re.IGNORECASE)
SIDES = ("gt", "in")
"""Folders of RealBokeh_3MP that hold the same scenes; where both have an aperture, the first counts."""


class ApertureScene(NamedTuple):
    """One scene's photographs by rising f-number."""

    key: str
    """Its place in the folder, without what tells the apertures apart."""
    files: dict[float, Path]


class Found(NamedTuple):
    """The scenes in the order of their keys, and the pictures that have no partner."""

    scenes: list[ApertureScene]
    alone: list[Path]


def find_scenes(folder: Path) -> Found:
    """Find all scenes of at least two apertures, in folders of both kinds.

    Raises:
        UserError: The folder is missing, or holds no such scene.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name a folder of pairs.")
    files: dict[str, dict[float, Path]] = defaultdict(dict)
    for path in sorted(folder.rglob("*")):
        if path.suffix[1:].lower() in IMAGE_EXTENSIONS and not path.name.startswith("."):
            place = place_of(path.relative_to(folder))
            if place is not None:
                files[place[0]].setdefault(place[1], path)
    scenes = [
        ApertureScene(key, dict(sorted(found.items()))) for key, found in sorted(files.items())
    ]
    whole = [scene for scene in scenes if len(scene.files) > 1]
    if not whole:
        raise UserError(
            f"{folder}: no scene at two apertures; it needs original/ and bokeh/ with the same names (EBB!), or names "
            "that end in _f1.8, _f16 and so on (RealBokeh_3MP)."
        )
    return Found(
        whole, [path for scene in scenes if len(scene.files) == 1 for path in scene.files.values()]
    )


def place_of(path: Path) -> tuple[str, float] | None:
    """Return the scene and the f-number of a picture, of its path in the folder; None for a picture of neither kind."""
    parts = path.parent.parts
    if named := NAMED_F_NUMBER.match(path.stem):
        scene = named["scene"]
        around = [part for part in parts if part.lower() not in SIDES]
        if around and around[-1] == scene:
            around.pop()
        return "/".join([*around, scene]), float(named["f_number"])
    side = next((number for number, part in enumerate(parts) if part.lower() in EBB_FOLDERS), None)
    if side is None:
        return None
    return "/".join([*parts[:side], *parts[side + 1 :], path.stem]), EBB_FOLDERS[
        parts[side].lower()
    ]
