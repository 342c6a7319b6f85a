"""Match the images of a folder with their depth maps and captions, by file name."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from dofsuite.errors import UserError
from dofsuite.images import IMAGE_EXTENSIONS

DEPTH_EXTENSIONS = ("png", "npy", "jpg", "jpeg", "webp")
CAPTION_EXTENSION = "txt"


class Pair(NamedTuple):
    """An image, its depth map and caption file; `stem` is its path in the folder, no extension."""

    stem: str
    image: Path
    depth: Path | None
    caption: Path | None = None


class Listing(NamedTuple):
    """Pairs by name, files that are left out, and faults, one phrase a file."""

    pairs: list[Pair]
    left_out: list[Path]
    faults: list[str]


class File(NamedTuple):
    """A file: its path without extension relative to the folder, its extension, its path."""

    stem: str
    extension: str
    path: Path


ByStem = dict[str, list[Path]]


def find_pairs(folder: Path, depth_folder: Path | None = None) -> Listing:
    """List a folder and its subfolders.

    A depth map has its image's stem, or that stem and `_depth` or `_disparity`: photo.jpg with
    photo.png, photo_depth.png or photo.npy in the same folder, or at the same place under
    `depth_folder`. Where a JPEG or WebP and a PNG share a stem, the PNG is the depth map. A caption
    lies next to its image: photo.jpg with photo.txt.

    Raises:
        UserError: A folder is missing.
    """
    for needed in (folder, depth_folder):
        if needed is not None and not needed.is_dir():
            raise UserError(f"{needed}: there is no such folder.")

    # Depth maps: all of a folder of their own, or else those that their names tell from images
    files = _files(folder)
    if depth_folder is not None:
        inside = depth_folder.resolve()  # it may lie within the folder of images
        files = [file for file in files if inside not in file.path.resolve().parents]
        depth_maps = [file for file in _files(depth_folder) if file.extension in DEPTH_EXTENSIONS]
    else:
        photos = {file.stem for file in files if file.extension in ("jpg", "jpeg", "webp")}
        depth_maps = [file for file in files if _is_depth_map(file, photos)]
        files = [file for file in files if not _is_depth_map(file, photos)]
    depths: ByStem = defaultdict(list)
    for file in depth_maps:
        depths[_plain_stem(file.stem)].append(file.path)

    # Images, captions, and what is left out
    images: ByStem = defaultdict(list)
    for file in files:
        if file.extension in IMAGE_EXTENSIONS:
            images[file.stem].append(file.path)
    captions = {
        file.stem: file.path
        for file in files
        if file.extension == CAPTION_EXTENSION and file.stem in images
    }
    left_out = [
        file.path
        for file in files
        if file.extension not in IMAGE_EXTENSIONS and captions.get(file.stem) != file.path
    ]

    # One image and at most one depth map for each stem
    pairs, faults = [], []
    for stem, found in sorted(images.items()):
        if len(found) > 1:
            faults.append(f"{found[1]}: a second image of the stem {stem}")
        maps = depths.pop(stem, [])
        if len(maps) > 1:
            faults.append(f"{maps[1]}: a second depth map of the stem {stem}")
        pairs.append(Pair(stem, found[0], maps[0] if maps else None, captions.get(stem)))
    faults += [f"{maps[0]}: a depth map without an image" for maps in depths.values()]
    return Listing(pairs, left_out, faults)


def _files(folder: Path) -> list[File]:
    return [
        File(path.relative_to(folder).with_suffix("").as_posix(), path.suffix[1:].lower(), path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]


def _plain_stem(stem: str) -> str:
    return stem.removesuffix("_depth").removesuffix("_disparity")


# Where a photograph and a PNG share a stem, the PNG is the depth map.
def _is_depth_map(file: File, photos: set[str]) -> bool:
    beside_photo = file.extension == "png" and file.stem in photos
    is_map = file.extension == "npy" or beside_photo or _plain_stem(file.stem) != file.stem
    return is_map and file.extension in DEPTH_EXTENSIONS
