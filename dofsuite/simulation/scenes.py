"""What is simulated: all-in-focus images with depth, from a folder or from shards."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from dofsuite.data.batch import decode_sample, resize_and_crop
from dofsuite.data.manifest import MANIFEST_FILE
from dofsuite.data.packing.match_files import Pair, find_pairs
from dofsuite.data.packing.sample import plain_name
from dofsuite.data.shards import Sample, ShardReader
from dofsuite.errors import UserError
from dofsuite.files import read_bytes
from dofsuite.images import minmax_normalize, quantize_8bit
from dofsuite.photography import DepthEstimator
from dofsuite.simulation.config import SimulateConfig


@dataclass(frozen=True)
class Scene:
    """An image that is read when its turn comes; `name` is also its folder's."""

    name: str
    licence: str
    read: Callable[[], tuple[Float[Tensor, "1 3 h w"], Float[Tensor, "1 1 h w"]]]
    """Display values rounded to 8 bits, and disparity, 0 far and 1 near over what is seen."""


def find_scenes(config: SimulateConfig) -> list[Scene]:
    """List the images.

    Raises:
        UserError: There is none, one has no depth, the kind of depth is not said, or two would have
            the same name.
    """
    # Samples of shards, or files of a folder
    estimate = DepthEstimator(config.depth_model) if config.is_depth_predicted else None
    if (config.source / MANIFEST_FILE).is_file():
        scenes = _in_shards(config, estimate)
    else:
        scenes = _in_folder(config, estimate)
    scenes = scenes[: config.count]
    if not scenes:
        raise UserError(f"{config.source}: there is no image in it.")
    # A folder for each
    repeated, count = Counter(scene.name for scene in scenes).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"{config.source}: {count} images would be written to {repeated}/; rename them."
        )
    return scenes


def _in_shards(config: SimulateConfig, estimate: DepthEstimator | None) -> list[Scene]:
    reader = ShardReader(config.source)
    manifest = reader.manifest
    if config.depth_kind is not None or (config.depth and estimate is None):
        raise UserError("--depth: shards hold their depth and its kind; leave these options out.")
    if estimate is None and manifest.samples_with_depth < manifest.samples:
        missing = manifest.samples - manifest.samples_with_depth
        raise UserError(
            f"{config.source}: {missing} of {manifest.samples} samples have no depth; add "
            "--depth auto, or pack them with depth."
        )

    def scene(number: int) -> Scene:
        # Read when its turn comes
        return Scene(
            reader.key(number),
            manifest.licence,
            lambda: _decoded(reader.read(number), manifest.depth_kind, config, estimate),
        )

    return [scene(number) for number in range(len(reader))[: config.count]]


def _in_folder(config: SimulateConfig, estimate: DepthEstimator | None) -> list[Scene]:
    # Images, their depth maps, and what is wrong with them
    listing = find_pairs(config.source, None if estimate else config.depth)
    if listing.faults:
        raise UserError(f"{listing.faults[0]}; mend the folder first.")
    without = [pair.image for pair in listing.pairs if pair.depth is None]
    if estimate is None and without:
        raise UserError(
            f"{without[0]}: it has no depth map ({without[0].stem}_depth.png beside it, or in "
            "--depth DIR); add one, or give --depth auto."
        )
    if estimate is None and config.depth_kind is None:
        raise UserError(
            "--depth-kind: say what the depth maps hold: disparity (larger is nearer) or depth "
            "(larger is farther)."
        )

    def scene(pair: Pair) -> Scene:
        # As a sample of shards
        return Scene(
            plain_name(pair.stem),
            "not stated",
            lambda: _decoded(_sample(pair, estimate is None), config.depth_kind, config, estimate),
        )

    return [scene(pair) for pair in listing.pairs]


def _sample(pair: Pair, with_depth: bool) -> Sample:
    members = {pair.image.suffix[1:].lower(): read_bytes(pair.image)}
    if with_depth and pair.depth is not None:
        members[f"depth.{pair.depth.suffix[1:].lower()}"] = read_bytes(pair.depth)
    return Sample(str(pair.image), pair.stem, members)


def _decoded(
    sample: Sample,
    depth_kind: str | None,
    config: SimulateConfig,
    estimate: DepthEstimator | None,
) -> tuple[Float[Tensor, "1 3 h w"], Float[Tensor, "1 1 h w"]]:
    # As training reads it
    item: dict[str, Any] = decode_sample(sample, depth_kind)
    if estimate is not None:
        item["disparity"] = estimate(item["image"]).disparity[0]
    if config.size_px is not None and min(item["image"].shape[-2:]) < config.size_px:
        raise UserError(
            f"{sample.shard}: {sample.key}: it is smaller than --size {config.size_px}: leave it "
            "out or lower --size."
        )
    item = resize_and_crop(item, config.size_px)
    return quantize_8bit(item["image"][None]), minmax_normalize(item["disparity"][None].double())
