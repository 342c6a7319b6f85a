"""What a benchmark is made of: all-in-focus images with a source tag, and the disparity of each."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.data import ShardReader
from dofsuite.data.batch import resize_and_crop
from dofsuite.data.decode import DECODERS, disparity_from_depth_map
from dofsuite.data.synthetic.names import PREFIX
from dofsuite.data.synthetic.sets import prepare
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import hash_named_files
from dofsuite.evaluation.job import default_device
from dofsuite.evaluation.refocus_benchmark.config import METRIC_DEPTH, RELATIVE_DEPTH, SOURCES
from dofsuite.files import read_bytes, write_bytes
from dofsuite.images import IMAGE_EXTENSIONS, minmax_normalize, quantize_8bit, read_image
from dofsuite.photography import DepthEstimator

DEPTH_ENDINGS = tuple(extension for extension in DECODERS if extension.startswith("depth."))
# Image [1, 3, h, w] in [0, 1] -> disparity [1, 1, h, w], larger is nearer, of any scale.
DisparityModel = Callable[[Tensor], Tensor]


class Original(NamedTuple):
    scene: str
    source: str
    path: Path


def find_originals(folder: Path, tag: str | None) -> list[Original]:
    """Find the images of a folder, in the order of their scenes' names.

    An image in a folder camera/, phone/ or ai/ has that tag; every other has `tag`. Depth maps are
    left out.

    Raises:
        UserError: There is no image, two of one name, or one without a tag.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: FOLDER: there is no such folder; name one with all-in-focus images."
        )

    # Images, with the tag of their folder; a scene is named by tag and stem
    originals = []
    for path in sorted(path for path in folder.rglob("*") if is_image(path.name.lower())):
        parents = path.relative_to(folder).parent.parts
        source = next((part for part in parents if part in SOURCES), tag)
        if not source:
            raise UserError(
                f"{path}: it has no source tag; put it into camera/, phone/ or ai/, or give "
                "--source."
            )
        stem = re.sub(r"[^A-Za-z0-9-]+", "-", path.stem).strip("-")
        originals.append(Original(f"{source}_{stem}", source, path))
    originals.sort()

    # Scenes need different names
    if not originals:
        raise UserError(f"{folder}: FOLDER: holds no image; put JPEG, PNG or WebP files there.")
    for one, other in pairwise(originals):
        if one.scene == other.scene:
            raise UserError(
                f"{folder}: {one.scene}: two images would make one scene; give them different "
                "names."
            )
    return originals


def synthetic_originals(
    name: str, count: int | None, tag: str | None, benchmark: Path
) -> list[Original]:
    """Write those of the first scenes of a synthetic set that are missing, with their disparity.

    Args:
        name: Of the set; no model of ours was trained on its split `val`.
        count: How many; None for all.
        tag: Source tag; None gives the three in turn, which mean nothing here but fill the table by
            source.
        benchmark: The benchmark's folder; they go into `originals/TAG/` of it.

    Raises:
        UserError: There is no such set, it has no disparity, or the folder cannot be written.
    """
    reader = ShardReader(prepare(name))
    if reader.manifest.depth_kind != "disparity":
        raise UserError(f"{name}: FOLDER: this set has no disparity; take {PREFIX}val.")

    # Image and depth map of each scene
    paths, folder = set(), benchmark / "originals"
    for index in range(len(reader))[:count]:
        sample = reader.read(index)
        stem = folder / (tag or SOURCES[index % len(SOURCES)]) / sample.key
        paths.add(stem.with_name(f"{sample.key}.png"))
        for extension in ("depth.png", "png"):
            if not (file := stem.with_name(f"{sample.key}.{extension}")).is_file():
                write_bytes(file, sample.members[extension])
    return [original for original in find_originals(folder, tag) if original.path in paths]


def is_image(name: str) -> bool:
    # Not hidden, and no depth map or mask
    others = tuple(f".{extension}" for extension in (*DEPTH_ENDINGS, "valid.png"))
    is_other = name.startswith(".") or name.endswith(others)
    return name.endswith(tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)) and not is_other


def read_original(
    original: Original,
    size_px: int,
    depth_folder: Path | None,
    depth_kind: str,
    model: DisparityModel | None,
) -> tuple[Float[Tensor, "1 3 s s"], Float[Tensor, "1 1 s s"]]:
    """Read an image and its disparity as the benchmark shows them.

    Paper: 512 px squares; how they were cropped is not said. Here: the short side is resized to
    `size_px`, and the center crop is the image from then on: its disparity is min-max normalized
    over it, and a bokeh level is for its width.

    Args:
        original: The image.
        size_px: Side of the square.
        depth_folder: Where its depth map lies, `STEM.png` or another ending; None: next to the
            image, as `STEM.depth.png`.
        depth_kind: What depth maps hold, `disparity` (larger is nearer) or `depth` (larger is
            farther).
        model: Predicts the disparity from the square; None: the depth map is read.

    Returns:
        Display values rounded to 8 bit, and disparity rounded to 16 bit, both in [0, 1].
    """
    image = read_image(original.path)
    height, width = image.shape[1:]
    if min(height, width) < size_px:
        raise UserError(
            f"{original.path}: {width}x{height} px are fewer than --size {size_px}: leave it out "
            "or lower --size."
        )

    # Crop the image together with its depth map
    blank = torch.zeros(1, height, width)
    item = {"image": image, "disparity": blank, "valid": blank == 0}
    if model is None:
        path, decode = find_depth(original, depth_folder)
        depth_map = decode(read_bytes(path), str(path))
        values = disparity_from_depth_map(depth_map, depth_kind, (height, width), str(path))
        item["disparity"] = torch.from_numpy(values)[None]
    item = resize_and_crop(item, size_px)
    square = quantize_8bit(item["image"][None])

    # Normalize the disparity of the square, in 16 bit
    disparity = (model(square) if model else item["disparity"][None]).double()
    if not bool(disparity.max() > disparity.min()):
        raise UserError(
            f"{original.path}: its depth is the same everywhere, so there is only one focal plane; "
            "leave it out."
        )
    return square, (minmax_normalize(disparity) * 65535).round().float() / 65535


def find_depth(original: Original, folder: Path | None) -> tuple[Path, Callable[[bytes, str], Any]]:
    stem = original.path.stem
    for ending in DEPTH_ENDINGS:
        path = (
            original.path.with_name(f"{stem}.{ending}")
            if folder is None
            else folder / f"{stem}.{ending.removeprefix('depth.')}"
        )
        if path.is_file():
            return path, DECODERS[ending]
    where = f"{stem}.depth.png beside it" if folder is None else f"{stem}.png in {folder}"
    raise UserError(
        f"{original.path}: it has no depth map ({where}, or .npy); add one, or give --depth-model."
    )


def hash_originals(
    originals: Sequence[Original], depth_folder: Path | None, has_model: bool
) -> str:
    files = []
    for original in originals:
        files.append((original.scene, original.path))
        if not has_model:
            files.append(("", find_depth(original, depth_folder)[0]))
    return hash_named_files(files)


def depth_model(text: str) -> DisparityModel:
    """Return a depth model named `CLASS` or `CLASS=PATH`, such as `SmallDepth=runs/depth/export`.

    Paper: Depth Anything V2's relative depth, which is disparity up to scale and shift: that of
    every command with `--depth auto`. Of the metric models in `dofsuite.backbones` the inverse of
    the depth is taken.

    Raises:
        UserError: There is no such model, or it cannot be loaded.
    """
    from dofsuite import backbones

    name, _, path = text.partition("=")
    if name not in (RELATIVE_DEPTH, *METRIC_DEPTH):
        choices = ", ".join((RELATIVE_DEPTH, *METRIC_DEPTH))
        raise UserError(
            f"--depth-model: {name!r} is none of {choices}; choose one, as in "
            f"{RELATIVE_DEPTH}=PATH."
        )
    device = default_device()
    if name == RELATIVE_DEPTH:
        estimate = DepthEstimator(path or None, device)
        return lambda image: estimate(image[0]).disparity
    descriptor = getattr(backbones, name)
    network = (descriptor(path) if path else descriptor()).load().to(device)

    # Disparity on the CPU, whatever the network's output
    @torch.no_grad()
    def disparity(image: Tensor) -> Tensor:
        return 1 / network(image.to(device)).float().cpu()

    return disparity
