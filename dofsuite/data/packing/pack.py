"""Packing a folder of images, with or without depth maps and captions, into shards.

Every file is decoded once, as in training; the shards appear only if all files are good. Images and
depth maps are stored byte for byte. An image's f-number, focal length and sensor width are read
from its EXIF into the sample's JSON, all three or none (blur would be wrong by the crop factor),
its caption from the text file of the same stem; both are optional. Depth may be predicted instead,
and is then stored as disparity in a 16-bit PNG.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dofsuite.cli import option
from dofsuite.data.decode import DECODERS, decode_text, disparity_from_depth_map
from dofsuite.data.manifest import Manifest
from dofsuite.data.packing.match_files import CAPTION_EXTENSION, Listing, Pair, find_pairs
from dofsuite.data.packing.photo_exif import exif_of_photograph
from dofsuite.data.packing.sample import (
    PredictDisparity,
    exif_record,
    predicted_depth,
    sample_key,
)
from dofsuite.data.shards import write_shards
from dofsuite.depth_options import AUTO, DEPTH_MODEL
from dofsuite.errors import UserError
from dofsuite.exif import CameraExif
from dofsuite.images import decode_image

DEPTH_UNITS = {"disparity": ("relative", "1/m", "px"), "depth": ("relative", "m", "mm")}
NAMED_FAULTS = 5
PROGRESS_EVERY = 256


def plain_file(path: Path) -> tuple[str, bytes]:
    """Return a file's extension and bytes."""
    return path.suffix[1:].lower(), path.read_bytes()


@dataclass(frozen=True)
class PairReader:
    """How a pair's files become a sample; an importer replaces what its data set does otherwise."""

    image: Callable[[Path], tuple[str, bytes]] = plain_file
    """Extension and bytes of a JPEG, PNG or WebP image."""
    depth: Callable[[Path], tuple[str, bytes]] = plain_file
    """Extension and bytes of a depth map."""
    camera: Callable[[Pair, bytes], CameraExif] = lambda pair, data: exif_of_photograph(data)
    """The camera, from the pair and its image's bytes."""
    facts: Callable[[Pair], dict[str, Any]] = lambda pair: {}
    """What else stands in the sample's JSON."""


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """What is packed, and what the manifest says of it."""

    folder: Path = option(type=Path, metavar="DIR", help="the images")
    output: Path = option("-o", "--output", type=Path, metavar="SHARDS", help="a new folder")
    depth: Path | None = option(
        "--depth",
        type=Path,
        metavar="DIR|auto",
        default=None,
        help="depth maps with the same names as the images; auto: by a depth model",
    )
    depth_model: str | None = option("--depth-model", **DEPTH_MODEL)
    depth_kind: str | None = option(
        "--depth-kind",
        choices=tuple(DEPTH_UNITS),
        default=None,
        help="disparity: larger is nearer; depth: farther",
    )
    depth_unit: str = option(
        "--depth-unit",
        choices=sorted({unit for units in DEPTH_UNITS.values() for unit in units}),
        default="relative",
        help="default: %(default)s",
    )
    source: str | None = option(
        "--source", default=None, help="where the images are from; default: the folder's name"
    )
    licence: str = option(
        "--license", "--licence", default="not stated", help="license of the images"
    )
    require_exif: bool = option(
        "--require-exif",
        action="store_true",
        default=False,
        help="leave out images whose EXIF does not tell f-number, focal length and sensor width",
    )
    split: str = option(
        "--split",
        choices=("train", "val", "test"),
        default="train",
        help="only train can be trained on; default: %(default)s",
    )
    samples_per_shard: int = option(
        "--samples-per-shard", type=int, default=256, help="default: %(default)s"
    )

    def __post_init__(self) -> None:
        if self.is_depth_predicted and self.depth_kind not in (None, "disparity"):
            raise UserError("--depth-kind: --depth auto predicts disparity; leave the option out.")
        if self.depth_kind is not None and self.depth_unit not in DEPTH_UNITS[self.depth_kind]:
            raise UserError(
                f"--depth-unit: {self.depth_unit} is no unit of {self.depth_kind}: choose one of "
                f"{', '.join(DEPTH_UNITS[self.depth_kind])}."
            )
        if self.samples_per_shard < 1:
            raise UserError("--samples-per-shard: at least 1 is needed.")

    @property
    def is_depth_predicted(self) -> bool:
        return self.depth == AUTO

    @property
    def tag(self) -> str:
        return self.source or self.folder.resolve().name


def pack(
    config: PackConfig, load_depth_model: Callable[[], PredictDisparity] | None = None
) -> Manifest:
    """Pack a folder of images into a new folder of shards, and return its manifest.

    Args:
        config: What is packed.
        load_depth_model: Of `--depth auto`; called once all else was checked.

    Raises:
        UserError: The output exists, there is nothing to pack, or files are bad (up to five are
            named); then nothing is written.
    """
    # Check what there is to pack
    if config.output.exists():
        raise UserError(f"{config.output}: it exists already: remove it or choose another folder.")
    listing = find_pairs(config.folder, None if config.is_depth_predicted else config.depth)
    if not listing.pairs:
        raise UserError(f"{config.folder}: there is no JPEG, PNG or WebP image in it.")
    depth = next((pair.depth for pair in listing.pairs if pair.depth), None)
    if config.is_depth_predicted and depth is not None:
        raise UserError(
            f"{depth}: --depth auto: there is a depth map already; leave the option out, or move "
            "the maps away."
        )
    if config.depth_kind is None and depth is not None:
        raise UserError(
            f"{depth}: say with --depth-kind what the depth maps hold: disparity (larger is "
            "nearer) or depth (larger is farther)."
        )
    for path in listing.left_out:
        print(f"left out: {path} (not a JPEG, PNG or WebP image)", flush=True)

    # Write the shards; nothing where all images were left out
    predict = load_depth_model() if config.is_depth_predicted and load_depth_model else None
    return pack_pairs(listing, config, predict)


def pack_pairs(
    listing: Listing,
    config: PackConfig,
    predict: PredictDisparity | None = None,
    reader: PairReader | None = None,
    terms: Mapping[str, str] | None = None,
) -> Manifest:
    """Write the shards of pairs that were found; nothing where one is bad.

    Args:
        listing: The pairs, and faults that are reported with those found here.
        config: What the manifest says of them, and where they go.
        predict: Depth model of `--depth auto`.
        reader: How files are read; by default as they are.
        terms: Of the manifest.

    Raises:
        UserError: Files are bad (up to five are named), or the disk is full.
    """
    without_exif: Counter[str] = Counter()
    return write_shards(
        config.output,
        _samples(listing, config, predict, without_exif, reader or PairReader()),
        source=config.tag,
        licence=config.licence,
        split=config.split,
        depth_kind="disparity" if config.is_depth_predicted else config.depth_kind,
        depth_unit=config.depth_unit,
        samples_per_shard=config.samples_per_shard,
        without_exif=without_exif,
        terms=terms,
    )


# Yield every sample; after the first fault only check the rest, then report all faults.
def _samples(
    listing: Listing,
    config: PackConfig,
    predict: PredictDisparity | None,
    without_exif: Counter[str],
    reader: PairReader,
) -> Iterator[tuple[str, dict[str, bytes]]]:
    faults = list(listing.faults)
    for number, pair in enumerate(listing.pairs):
        try:
            extension, data = reader.image(pair.image)
            camera = reader.camera(pair, data)
            if camera.lacks is not None:
                without_exif[f"no {camera.lacks}"] += 1
            if camera.lacks is not None and config.require_exif:
                continue
            members = {extension: data, **_members(pair, data, config, predict, camera, reader)}
        except UserError as error:
            faults.append(str(error).rstrip("."))
        if not faults:
            yield sample_key(number, pair.stem), members
        if (number + 1) % PROGRESS_EVERY == 0:
            print(f"{number + 1} of {len(listing.pairs)} images", flush=True)

    # The first faults, in one sentence
    if faults:
        named = "; ".join(faults[:NAMED_FAULTS])
        more = f"; and {len(faults) - NAMED_FAULTS} more" if len(faults) > NAMED_FAULTS else ""
        raise UserError(
            f"{named}{more}: nothing was written ({len(faults)} of {len(listing.pairs)} samples "
            "are at fault)."
        )
    if config.require_exif and without_exif.total() == len(listing.pairs):
        raise UserError(
            f"{config.folder}: --require-exif: no image is left ({reasons(without_exif)}): pack "
            "files as the camera wrote them, or leave the option out."
        )


def reasons(without_exif: Mapping[str, int]) -> str:
    """Say why photographs have no camera, the most frequent reason first."""
    counted = sorted(without_exif.items(), key=lambda each: -each[1])
    return ", ".join(f"{count} with {reason} in EXIF" for reason, count in counted)


# Return a sample's members beside its image, each decoded once as a check.
def _members(
    pair: Pair,
    image_bytes: bytes,
    config: PackConfig,
    predict: PredictDisparity | None,
    camera: CameraExif,
    reader: PairReader,
) -> dict[str, bytes]:
    # Image and its metadata
    image_srgb = decode_image(image_bytes, str(pair.image))
    height, width = image_srgb.shape[:2]
    record: dict[str, object] = {
        "source": config.tag,
        "licence": config.licence,
        "file": pair.image.name,
        **reader.facts(pair),
    }
    members = {}
    if camera.lacks is None:
        record["exif"] = exif_record(camera)

    # Depth map
    if pair.depth is not None:
        assert config.depth_kind is not None
        extension, depth_bytes = reader.depth(pair.depth)
        depth_map = DECODERS[f"depth.{extension}"](depth_bytes, str(pair.depth))
        disparity_from_depth_map(depth_map, config.depth_kind, (height, width), str(pair.depth))
        members[f"depth.{extension}"] = depth_bytes
        record["depth"] = {
            "kind": config.depth_kind,
            "unit": config.depth_unit,
            "smallest": float(depth_map.min()),
            "largest": float(depth_map.max()),
        }

    # Depth predicted, 0 to 1, in 16 bits
    if predict is not None:
        members["depth.png"], record["depth"] = predicted_depth(
            predict, image_srgb, config.depth_model
        )

    # Caption
    if pair.caption is not None:
        members[CAPTION_EXTENSION] = pair.caption.read_bytes()
        decode_text(members[CAPTION_EXTENSION], str(pair.caption))
    return {**members, "json": json.dumps(record).encode()}
