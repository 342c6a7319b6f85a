"""A plain folder of images, with depth maps and captions beside them, in splits or not.

`train/`, `val/` (or `validation/`) and `test/` are splits; a folder without them is all training.
Files are matched as `data pack` does.
"""

from pathlib import Path

from dofsuite.data.importers.data_set import NOT_STATED, DataSet, Found, Photograph, Split
from dofsuite.data.packing.match_files import find_pairs

SPLITS: dict[str, Split] = {
    **{"train": "train", "val": "val", "validation": "val", "valid": "val", "dev": "val"},
    "test": "test",
}


def find(folder: Path) -> Found:
    """Read the images of a folder and of its subfolders.

    Raises:
        UserError: The folder is missing.
    """
    listing = find_pairs(folder)
    has_splits = any(split_name(pair.stem) for pair in listing.pairs)
    photographs = [
        Photograph(pair, SPLITS[split_name(pair.stem) or "train"])
        for pair in listing.pairs
        if split_name(pair.stem) or not has_splits
    ]
    left_out = {
        "files that are no image, depth map or caption": len(listing.left_out),
        "images in none of the splits": len(listing.pairs) - len(photographs),
    }
    return Found(photographs, [], left_out, listing.faults)


def split_name(stem: str) -> str | None:
    first = stem.split("/")[0]
    return first if "/" in stem and first in SPLITS else None


DATA_SET = DataSet(
    name="folder", title="a folder of images", licence=NOT_STATED, source="the user", find=find
)
