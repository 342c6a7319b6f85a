"""EBB! (Everything is Better with Bokeh!): pairs at f/16 and f/1.8, Canon 7D, 50 mm f/1.8 lens.

Traps: the two photographs of a pair were registered and differ in brightness and by some pixels;
at f/16 the near foreground is not quite sharp. The targets of the challenge's own validation and
test inputs were never published, so the field holds out the last 294 pairs (Val294).
"""

import re
from pathlib import Path

from dofsuite.data.importers.aperture_scenes import EBB_FOLDERS, ApertureScene, find_scenes
from dofsuite.data.importers.data_set import DataSet, Found, Photograph, RealPair, Split, slug
from dofsuite.data.packing.match_files import Pair
from dofsuite.errors import UserError

# Of 4,694 pairs, numbered from 0 (*inferred* from how papers use Val294).
FIRST_HELD_OUT = 4400
FOCAL_LENGTH_MM = 50.0


def find(folder: Path) -> Found:
    """Read `Training/original/N.jpg` and `Training/bokeh/N.jpg`.

    Raises:
        UserError: There are no such pairs.
    """
    found = find_scenes(folder)
    wide, narrow = sorted(EBB_FOLDERS.values())
    scenes = [scene for scene in found.scenes if set(scene.files) == {wide, narrow}]
    if not scenes:
        raise UserError(
            f"{folder}: ebb: there are no original/N.jpg and bokeh/N.jpg, such as in Training/; "
            "name the folder that has both."
        )
    # A photograph and a pair of each
    photographs, pairs = [], []
    for scene in scenes:
        split, name = split_of(scene), slug(scene.key)
        facts = {"scene": scene.key, "camera": camera_at(narrow)}
        photographs.append(Photograph(Pair(name, scene.files[narrow], None), split, facts))
        pairs.append(
            RealPair(
                name,
                name,
                split,
                scene.files[narrow],
                scene.files[wide],
                camera_at(narrow),
                camera_at(wide),
            )
        )
    left_out = {"photographs without a partner": len(found.alone)} if found.alone else {}
    return Found(photographs, pairs, left_out)


def split_of(scene: ApertureScene) -> Split:
    number = re.search(r"(\d+)$", scene.key)
    return "test" if number and int(number[1]) >= FIRST_HELD_OUT else "train"


def camera_at(f_number: float) -> dict[str, float]:
    return {"f_number": f_number, "focal_length_mm": FOCAL_LENGTH_MM}


DATA_SET = DataSet(
    name="ebb",
    title="EBB! (AIM 2019/2020 bokeh challenges)",
    licence="terms of the AIM/NTIRE challenges: research only (not verified)",
    source="Ignatov et al., Rendering Natural Camera Bokeh Effect with Deep Learning, CVPRW 2020",
    find=find,
    refuses={"product": "it was given to the challenges' participants for research"},
)
