"""BLB: ten Blender scenes, 5 blur parameters x 10 focus distances, OpenEXR.

Traps: the values are light and reach above 1 (here: clipped, ** (1 / 2.2), as the field evaluates);
depth is in the scene's own unit and infinite where there is nothing; whether disparity is to be
normalized is answered in both ways by its authors, so both are left possible: the map is packed as
it is, and the blur parameter and distance as the file says them.
"""

import re
from pathlib import Path
from typing import Any

from dofsuite.data.importers.data_set import DataSet, Found, Photograph, RealPair, slug
from dofsuite.data.importers.image_files import npy_of_exr, png_of_exr
from dofsuite.data.packing.match_files import Pair
from dofsuite.errors import UserError
from dofsuite.files import parse_json, read_bytes

BOKEH = re.compile(r"bokeh_(\d+)_(\d+)")


def find(folder: Path) -> Found:
    """Read `SCENE/{image,depth}.exr`, `SCENE/bokeh_KK_FF.exr` and `SCENE/info.json`.

    Raises:
        UserError: There is no such scene.
    """
    found = Found([], [], {}, [])
    for sharp in sorted(folder.rglob("image.exr")):
        # The scene's cameras and depth
        place = sharp.parent
        name, depth = slug(place.name), place / "depth.exr"
        try:
            cameras = cameras_of(place)
        except UserError as error:
            found.faults.append(str(error).rstrip("."))
            continue
        if not depth.is_file():
            found.faults.append(f"{depth}: the depth map is missing")
        # Its sharp image, and a pair for each blurred one
        found.photographs.append(Photograph(Pair(name, sharp, depth), "test", {"scene": name}))
        found.pairs.extend(
            RealPair(slug(f"{name}-{file.stem}"), name, "test", sharp, file, {}, camera, depth)
            for file, camera in cameras.items()
        )
    if not found.photographs and not found.faults:
        raise UserError(f"{folder}: blb: there is no SCENE/image.exr in it; name its root.")
    return found


def cameras_of(place: Path) -> dict[Path, dict[str, float]]:
    """Return every blurred image of a scene with its blur parameter and focus distance.

    Raises:
        UserError: `info.json` cannot be read or has fewer numbers than there are images.
    """
    try:
        # Numbers by place in two lists
        info: dict[str, Any] = parse_json(read_bytes(place / "info.json"))
        blurs, distances = info["blur_parameters"], info["focus_distances"]
        found = {}
        # Of each image, by its name
        for path in sorted(place.glob("bokeh_*.exr")):
            if numbers := BOKEH.fullmatch(path.stem):
                blur, focus = (int(number) for number in numbers.groups())
                found[path] = {
                    "blur_parameter": float(blurs[blur]),
                    "focus_distance": float(distances[focus]),
                }
        return found
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{place / 'info.json'}: it lacks blur_parameters or focus_distances of its images "
            f"({error!r})."
        ) from error


DATA_SET = DataSet(
    name="blb",
    title="BLB (BokehMe's Blender benchmark)",
    licence="Apache-2.0 (of BokehMe's repository)",
    source="Peng et al., BokehMe, CVPR 2022",
    find=find,
    depth_kind="depth",
    image=png_of_exr,
    depth=npy_of_exr,
)
