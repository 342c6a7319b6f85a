"""LFDOF: blur made from light fields, several blurred images for each sharp one, no optics.

Traps: up to 17 blurred images share one sharp one, so the scene is what is split; PNGs are RGBA;
there is no aperture, focal length or distance, because no lens was there; some pairs are shifted by
some pixels.
"""

from pathlib import Path

from dofsuite.data.importers.data_set import DataSet, Found, Photograph, RealPair, Split, slug
from dofsuite.data.packing.match_files import Pair
from dofsuite.errors import UserError
from dofsuite.images import IMAGE_EXTENSIONS

SPLITS: dict[str, Split] = {"train_data": "train", "test_data": "test"}


def find(folder: Path) -> Found:
    """Read `SPLIT_data/ground_truth/SCENE.png` and `SPLIT_data/input/SCENE/*.png`.

    Raises:
        UserError: There is no such split.
    """
    found = Found([], [], {}, [])
    for place in sorted(path for name in SPLITS for path in folder.rglob(name) if path.is_dir()):
        split, sharp = SPLITS[place.name], images_in(place / "ground_truth")
        blurred = {scene: images_in(place / "input" / scene) for scene in sharp}
        for scene, files in sharp.items():
            # One photograph, and a pair for each of its blurred images
            name = slug(f"{split}-{scene}")
            photograph = Photograph(Pair(name, files[0], None), split, {"scene": name})
            found.photographs.append(photograph)
            own = [file for group in blurred[scene].values() for file in group]
            if not own:
                found.faults.append(
                    f"{place / 'input' / scene}: no blurred image of {files[0].name}"
                )
            found.pairs.extend(
                RealPair(slug(f"{name}-{file.stem}"), name, split, files[0], file, {}, {})
                for file in own
            )
    if not found.photographs:
        raise UserError(
            f"{folder}: lfdof: there are no train_data/ or test_data/ with ground_truth/ and "
            "input/; name the folder that holds them."
        )
    return found


def images_in(folder: Path) -> dict[str, list[Path]]:
    # By stem, in order
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix[1:].lower() in IMAGE_EXTENSIONS:
            found.setdefault(path.stem, []).append(path)
    return found


DATA_SET = DataSet(
    name="lfdof",
    title="LFDOF (light-field-made depth of field)",
    licence="none stated",
    source="Ruan et al., AIFNet, IEEE TCI 2021",
    find=find,
    refuses={
        "train": "its authors state no license",
        "product": "its authors state no license",
    },
)
