"""Folders of scenes photographed at several apertures: EBB!'s pairs, and sets with named f-numbers.

- EBB! (Ignatov et al., CVPR Workshops 2020): `original/` (f/16) and `bokeh/` (f/1.8) side by side,
  such as in `Training/`, with the same names in both; Canon 7D, 50 mm f/1.8.
- Sets whose files end in `_f<N>`, such as RealBokeh_3MP's `<split>/gt/<id>/<id>_f<N>.JPG` with
  `<split>/in/<id>_f22.JPG`: one scene is one id of one split, because ids restart in every split.

Both may lie at any depth in the folder. Nothing of either set is shipped or downloaded; see their
own licences.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from dofsuite.errors import UserError
from dofsuite.images import IMAGE_EXTENSIONS

# Of EBB! (*stated*), by its folders' names.
EBB_FOLDERS = {"bokeh": 1.8, "original": 16.0}
NAMED_F_NUMBER = re.compile(r"^(?P<scene>.+?)[_-]f(?P<f_number>\d+(?:\.\d+)?)$", re.IGNORECASE)
# Folders of RealBokeh_3MP with the same scenes; where both have an aperture, the first counts.
SIDES = ("gt", "in")


class ApertureScene(NamedTuple):
    # Its path in the folder, without what differs between the apertures.
    key: str
    files: dict[float, Path]


# The scenes in the order of their keys, and the images that have no partner.
class FoundScenes(NamedTuple):
    scenes: list[ApertureScene]
    alone: list[Path]


def find_scenes(folder: Path) -> FoundScenes:
    """Find all scenes of at least two apertures, in folders of both kinds.

    Raises:
        UserError: The folder is missing, or holds no such scene.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name a folder of pairs.")

    # Group the images by scene and f-number
    files: dict[str, dict[float, Path]] = defaultdict(dict)
    for path in sorted(folder.rglob("*")):
        is_image = path.suffix[1:].lower() in IMAGE_EXTENSIONS and not path.name.startswith(".")
        if is_image and (found := scene_and_f_number(path.relative_to(folder))):
            key, f_number = found
            files[key].setdefault(f_number, path)

    # Scenes, and images without a partner
    ordered = [ApertureScene(key, dict(sorted(group.items()))) for key, group in files.items()]
    ordered.sort(key=lambda scene: scene.key)
    scenes = [scene for scene in ordered if len(scene.files) > 1]
    if not scenes:
        raise UserError(
            f"{folder}: no scene at two apertures; it needs original/ and bokeh/ with the same "
            "names (EBB!), or names that end in _f1.8, _f16 and so on (RealBokeh_3MP)."
        )
    alone = [file for scene in ordered if len(scene.files) == 1 for file in scene.files.values()]
    return FoundScenes(scenes, alone)


def scene_and_f_number(path: Path) -> tuple[str, float] | None:
    # The scene and the f-number of an image, by its path in the folder; None for others
    parts = path.parent.parts
    # A name that ends in the f-number
    if named := NAMED_F_NUMBER.match(path.stem):
        scene = named["scene"]
        parents = [part for part in parts if part.lower() not in SIDES]
        if parents and parents[-1] == scene:
            parents.pop()
        return "/".join([*parents, scene]), float(named["f_number"])

    # EBB!: the first folder named original or bokeh
    for index, part in enumerate(parts):
        if part.lower() in EBB_FOLDERS:
            key = "/".join([*parts[:index], *parts[index + 1 :], path.stem])
            return key, EBB_FOLDERS[part.lower()]
    return None
