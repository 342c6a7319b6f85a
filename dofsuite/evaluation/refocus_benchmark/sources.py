"""What a benchmark is made of: all-in-focus pictures with a source tag, and the disparity of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.data.batch import resize_and_crop
from dofsuite.data.decode import DECODERS, disparity_from_depth_map
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import hash_named_files
from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.files import read_bytes
from dofsuite.images import IMAGE_EXTENSIONS, minmax_normalize, quantize_8bit, read_image

DEPTH_ENDINGS = tuple(extension for extension in DECODERS if extension.startswith("depth."))
DepthOf = Callable[[Tensor], Tensor]
"""Pictures [1, 3, h, w] in [0, 1] -> disparity [1, 1, h, w] up to scale and shift, larger is nearer."""


class Original(NamedTuple):
    """A picture found: its scene's name, source tag and file."""

    scene: str
    source: str
    path: Path


def find_originals(folder: Path, tag: str | None) -> list[Original]:
    """Find the pictures of a folder, in the order of their scenes' names.

    A picture in a folder camera/, phone/ or ai/ has that tag; every other has `tag`. Depth maps are
    left out.

    Raises:
        UserError: There is no picture, two of one name, or one without a tag.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: FOLDER: there is no such folder; name one with all-in-focus pictures."
        )
    paths = [path for path in sorted(folder.rglob("*")) if is_picture(path.name)]
    originals = [Original("", source_of(path.relative_to(folder), tag), path) for path in paths]
    for original in originals:
        if not original.source:
            raise UserError(
                f"{original.path}: it has no source tag; put it into camera/, phone/ or ai/, or give --source."
            )
    named = sorted(original._replace(scene=scene_name(original)) for original in originals)
    names = [original.scene for original in named]
    if not names:
        raise UserError(f"{folder}: FOLDER: holds no picture; put JPEG, PNG or WebP files there.")
    twice = next((name for name, after in pairwise(names) if name == after), None)
    if twice:
        raise UserError(
            f"{folder}: {twice}: two pictures would make one scene; give them different names."
        )
    return named


def is_picture(name: str) -> bool:
    """Whether a file is a picture and no depth map."""
    ends = [f".{extension}" for extension in (*DEPTH_ENDINGS, "valid.png")]
    return (
        not name.startswith(".")
        and Path(name).suffix.lower().lstrip(".") in IMAGE_EXTENSIONS
        and not any(name.lower().endswith(end) for end in ends)
    )


def source_of(path: Path, tag: str | None) -> str:
    """Return the tag that a picture's folders give it, else `tag`, else ""."""
    return next((part for part in path.parts[:-1] if part in SOURCES), tag or "")


def scene_name(original: Original) -> str:
    """Return a scene's name: its tag and its file's stem, in characters that every file system takes."""
    return f"{original.source}_{re.sub(r'[^A-Za-z0-9-]+', '-', original.path.stem).strip('-')}"


def read_original(
    original: Original,
    size_px: int,
    depth_folder: Path | None,
    depth_kind: str,
    model: DepthOf | None,
) -> tuple[Float[Tensor, "1 3 s s"], Float[Tensor, "1 1 s s"]]:
    """Read a picture and its disparity as the benchmark shows them.

    Paper: 512 px squares; how they were cut is not said. Here: the short side is brought to
    `size_px`, the centre square is cut out, and from then on the square is the picture: its
    disparity is min-max normalised over it, and a bokeh level is for its width.

    Args:
        original: The picture.
        size_px: Side of the square.
        depth_folder: Where its depth map lies, `STEM.png` or another ending; None: beside the
            picture, as `STEM.depth.png`.
        depth_kind: What depth maps hold, `disparity` (larger is nearer) or `depth` (larger is
            farther).
        model: Makes the disparity from the square; None: the depth map is read.

    Returns:
        Display values rounded to 8 bit, and disparity rounded to 16 bit, both in [0, 1].

    Raises:
        UserError: A file is missing or damaged, the picture is too small, or its disparity is the
            same everywhere.
    """
    image = read_image(original.path)
    if min(image.shape[1:]) < size_px:
        found = f"{image.shape[2]}x{image.shape[1]} px"
        raise UserError(
            f"{original.path}: {found} are fewer than --size {size_px}: leave it out or lower --size."
        )
    size = (image.shape[1], image.shape[2])
    disparity = torch.zeros(1, *size)
    if model is None:
        path, decode = find_depth(original, depth_folder)
        values = decode(read_bytes(path), str(path))
        disparity = torch.from_numpy(disparity_from_depth_map(values, depth_kind, size, str(path)))[
            None
        ]
    valid = torch.ones(1, *size, dtype=torch.bool)
    item = resize_and_crop({"image": image, "disparity": disparity, "valid": valid}, size_px)
    square = quantize_8bit(item["image"][None])
    return square, stretched(model(square) if model else item["disparity"][None], original.path)


def stretched(disparity: Float[Tensor, "1 1 s s"], path: Path) -> Float[Tensor, "1 1 s s"]:
    """Bring a disparity's least and largest value to 0 and 1, in 16 bit."""
    if not bool(disparity.max() > disparity.min()):
        raise UserError(
            f"{path}: its depth is the same everywhere, so no focal plane can be told; leave it out."
        )
    return (minmax_normalize(disparity.double()) * 65535).round().float() / 65535


def find_depth(
    original: Original, folder: Path | None
) -> tuple[Path, Callable[[bytes, str], object]]:
    """Return a picture's depth map and its decoder.

    Raises:
        UserError: There is none.
    """
    stem = original.path.stem
    for ending in DEPTH_ENDINGS:
        beside = original.path.with_name(f"{stem}.{ending}")
        path = beside if folder is None else folder / f"{stem}.{ending.removeprefix('depth.')}"
        if path.is_file():
            return path, DECODERS[ending]
    where = f"{stem}.depth.png beside it" if folder is None else f"{stem}.png in {folder}"
    raise UserError(
        f"{original.path}: it has no depth map ({where}, or .npy); add one, or give --depth-model."
    )


def checksum_of_originals(
    originals: Sequence[Original], depth_folder: Path | None, has_model: bool
) -> str:
    """Return a sha256 over all pictures, their tags and their depth maps: what a benchmark is made of."""
    files = []
    for original in originals:
        files.append((original.scene, original.path))
        if not has_model:
            files.append(("", find_depth(original, depth_folder)[0]))
    return hash_named_files(files)
