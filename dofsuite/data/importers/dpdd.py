"""DPDD: a scene at f/4 and at f/22, Canon 5D Mark IV, 16-bit PNGs.

Traps: Pillow drops the low byte of 16-bit color; the files of a pair have different names, and only
their order says which belong together; `_l` and `_r` are the two halves of each pixel, whose blur
is half as large: the photograph is `_c`.
"""

from pathlib import Path

from dofsuite.data.importers.data_set import DataSet, Found, Photograph, RealPair, Split, slug
from dofsuite.data.importers.image_files import png_of_16_bits
from dofsuite.data.packing.match_files import Pair
from dofsuite.errors import UserError

SPLITS: dict[str, Split] = {"train_c": "train", "val_c": "val", "test_c": "test"}
# *Stated* by the paper.
SHARP, BLURRED = {"f_number": 22.0}, {"f_number": 4.0}


def find(folder: Path) -> Found:
    """Read `SPLIT_c/source/*.png` and `SPLIT_c/target/*.png`.

    Raises:
        UserError: There is none of the three splits.
    """
    found = Found([], [], {}, [])
    for place in sorted(path for name in SPLITS for path in folder.rglob(name) if path.is_dir()):
        # Sorted, a pair's photographs have the same place
        blurred, sharp = (sorted((place / side).glob("*.png")) for side in ("source", "target"))
        if len(blurred) != len(sharp):
            found.faults.append(
                f"{place}: {len(blurred)} files in source/ and {len(sharp)} in target/, of which "
                "the order tells the pairs"
            )
            continue
        split = SPLITS[place.name]
        for before, after in zip(blurred, sharp, strict=True):
            name = slug(f"{split}-{after.stem}")
            facts = {"scene": name, "camera": SHARP}
            found.photographs.append(Photograph(Pair(name, after, None), split, facts))
            found.pairs.append(RealPair(name, name, split, after, before, SHARP, BLURRED))
    if not found.photographs and not found.faults:
        raise UserError(
            f"{folder}: dpdd: there are no train_c/, val_c/ or test_c/ with source/ and target/; "
            "name the folder that holds them."
        )
    return found


DATA_SET = DataSet(
    name="dpdd",
    title="DPDD (dual-pixel defocus deblurring)",
    licence="MIT (of its repository; the photographs are not named there)",
    source="Abuolaim and Brown, Defocus Deblurring Using Dual-Pixel Data, ECCV 2020",
    find=find,
    refuses={"product": "its repository's license does not name the photographs"},
    image=png_of_16_bits,
)
