"""Which files of a folder are pictures, and which depth map and caption belong to which picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

from dofsuite.errors import UserError
from dofsuite.images import IMAGE_EXTENSIONS

DEPTH_EXTENSIONS = ("png", "npy", "jpg", "jpeg", "webp")
CAPTION_EXTENSION = "txt"
DEPTH_ENDINGS = ("_depth", "_disparity")


class Pair(NamedTuple):
    """A picture, its depth map and caption file where there are any, and its path in the folder without extension."""

    stem: str
    image: Path
    depth: Path | None
    caption: Path | None = None


class Listing(NamedTuple):
    """The pairs in the order of their names; files of other kinds; what is wrong, one phrase a file."""

    pairs: list[Pair]
    left_out: list[Path]
    wrong: list[str]


def find_pairs(folder: Path, depth_folder: Path | None = None) -> Listing:
    """List a folder and its subfolders.

    A depth map has its picture's stem, or that stem and `_depth` or `_disparity`: photo.jpg with
    photo.png, photo_depth.png or photo.npy beside it, or with such a file at the same place under
    `depth_folder`. Where a JPEG or WebP and a PNG share a stem, the PNG is the depth map. A caption
    lies beside its picture: photo.jpg with photo.txt.

    Raises:
        UserError: A folder is missing.
    """
    for needed in (folder, depth_folder):
        if needed is not None and not needed.is_dir():
            raise UserError(f"{needed}: there is no such folder.")
    images, depths, left_out = _sort_files(folder, depth_folder)
    if depth_folder is not None:
        depths = _sort_depth_files(depth_folder)
    captions, left_out = _sort_captions(left_out, folder, images)
    pairs, wrong = [], []
    for stem, found in sorted(images.items()):
        if len(found) > 1:
            wrong.append(f"{found[1]}: a second picture of the stem {stem}")
        maps = depths.pop(stem, [])
        if len(maps) > 1:
            wrong.append(f"{maps[1]}: a second depth map of the stem {stem}")
        pairs.append(Pair(stem, found[0], maps[0] if maps else None, captions.get(stem)))
    wrong += [f"{maps[0]}: a depth map without a picture" for maps in depths.values()]
    return Listing(pairs, left_out, wrong)


def _files(folder: Path) -> list[tuple[str, str, Path]]:
    """Return `(path within the folder without extension, extension, path)` of every visible file."""
    paths = sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    )
    return [
        (path.relative_to(folder).with_suffix("").as_posix(), path.suffix[1:].lower(), path)
        for path in paths
    ]


def _plain_stem(stem: str) -> str:
    for ending in DEPTH_ENDINGS:
        stem = stem.removesuffix(ending)
    return stem


def _sort_files(
    folder: Path, depth_folder: Path | None
) -> tuple[dict[str, list[Path]], dict[str, list[Path]], list[Path]]:
    """Return pictures by stem, depth maps by stem, and other files."""
    images, depths, left_out = defaultdict(list), defaultdict(list), []
    inside = depth_folder.resolve() if depth_folder is not None else None
    files = [
        file for file in _files(folder) if inside is None or inside not in file[2].resolve().parents
    ]
    photographs = {stem for stem, extension, _ in files if extension in ("jpg", "jpeg", "webp")}
    for stem, extension, path in files:
        plain = _plain_stem(stem)
        is_map = plain != stem or extension == "npy" or (extension == "png" and stem in photographs)
        if depth_folder is None and is_map and extension in DEPTH_EXTENSIONS:
            depths[plain].append(path)
        elif extension in IMAGE_EXTENSIONS:
            images[stem].append(path)
        else:
            left_out.append(path)
    return images, depths, left_out


def _sort_captions(
    files: list[Path], folder: Path, stems: Container[str]
) -> tuple[dict[str, Path], list[Path]]:
    """Return the caption files of pictures by stem, and the other files."""
    captions, others = {}, []
    for path in files:
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if path.suffix[1:].lower() == CAPTION_EXTENSION and stem in stems:
            captions[stem] = path
        else:
            others.append(path)
    return captions, others


def _sort_depth_files(folder: Path) -> dict[str, list[Path]]:
    depths = defaultdict(list)
    for stem, extension, path in _files(folder):
        if extension in DEPTH_EXTENSIONS:
            depths[_plain_stem(stem)].append(path)
    return depths
