"""Packing a folder of pictures, with or without depth maps and captions, into shards.

Every file is decoded once, as training will, before anything appears: the shards get their name
only when all of them are good. Pictures and depth maps are stored byte for byte, so nothing is lost
by packing. A picture's f-number and focal length are read from its own EXIF into the sample's JSON,
its caption from the text file beside it; what a picture lacks, its sample lacks.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from dofsuite.data.decode import (
    decode_depth_image,
    decode_npy,
    decode_text,
    disparity_from_depth_map,
)
from dofsuite.data.manifest import Manifest
from dofsuite.data.packing.match_files import CAPTION_EXTENSION, Listing, Pair, find_pairs
from dofsuite.data.packing.photo_exif import exif_of_photograph
from dofsuite.data.shards import ShardWriter, new_folder
from dofsuite.errors import UserError
from dofsuite.images import decode_image

DEPTH_UNITS = {"disparity": ("relative", "1/m", "px"), "depth": ("relative", "m", "mm")}
NAMED_FAULTS = 5
PROGRESS_EVERY = 256


@dataclass(frozen=True)
class PackOptions:
    """What the packed shards say about their pictures."""

    source: str
    """Where the pictures are from: a tag."""
    licence: str = "not stated"
    """Under which terms they may be used."""
    split: str = "train"
    """`train`, `val` or `test`; only `train` can be trained on."""
    depth_kind: str | None = None
    """`disparity` (larger is nearer) or `depth` (larger is farther)."""
    depth_unit: str = "relative"
    """Unit of the depth maps' numbers."""
    samples_per_shard: int = 256
    """Pictures a shard."""

    def __post_init__(self) -> None:
        """Check kind and unit."""
        if self.depth_kind is not None and self.depth_unit not in DEPTH_UNITS[self.depth_kind]:
            units = ", ".join(DEPTH_UNITS[self.depth_kind])
            raise UserError(
                f"--depth-unit: {self.depth_unit} is no unit of {self.depth_kind}: choose one of {units}."
            )
        if self.samples_per_shard < 1:
            raise UserError("--samples-per-shard: at least 1 is needed.")


def pack(
    folder: Path, output: Path, options: PackOptions, depth_folder: Path | None = None
) -> Manifest:
    """Pack `folder` into the new folder `output`, and return its manifest.

    Raises:
        UserError: `output` exists, there is nothing to pack, or files are bad (up to five are
            named); then nothing is written.
    """
    if output.exists():
        raise UserError(f"{output}: it exists already: remove it or choose another folder.")
    listing = find_pairs(folder, depth_folder)
    if not listing.pairs:
        raise UserError(f"{folder}: there is no JPEG, PNG or WebP picture in it.")
    if options.depth_kind is None and any(pair.depth for pair in listing.pairs):
        raise UserError(
            f"{next(pair.depth for pair in listing.pairs if pair.depth)}: say with --depth-kind what the depth maps "
            "hold: disparity (larger is nearer) or depth (larger is farther)."
        )
    for path in listing.left_out:
        print(f"left out: {path} (not a JPEG, PNG or WebP picture)", flush=True)
    with (
        new_folder(output) as temporary,
        ShardWriter(temporary, options.samples_per_shard) as writer,
    ):
        _write_pairs(writer, listing, options)
        return writer.close(
            source=options.source,
            licence=options.licence,
            split=options.split,
            depth_kind=options.depth_kind,
            depth_unit=options.depth_unit,
        )


def _write_pairs(writer: ShardWriter, listing: Listing, options: PackOptions) -> None:
    """Write every pair, or go on checking after the first fault and then refuse them together."""
    faults = list(listing.wrong)
    for number, pair in enumerate(listing.pairs):
        try:
            members = _members(pair, options)
        except UserError as error:
            faults.append(str(error).rstrip("."))
        if not faults:
            writer.add(f"{number:06d}_{_slug(pair.stem)}", members)
        if (number + 1) % PROGRESS_EVERY == 0:
            print(f"{number + 1} of {len(listing.pairs)} pictures", flush=True)
    if faults:
        named = "; ".join(faults[:NAMED_FAULTS])
        more = f"; and {len(faults) - NAMED_FAULTS} more" if len(faults) > NAMED_FAULTS else ""
        raise UserError(
            f"{named}{more}: nothing was written ({len(faults)} of {len(listing.pairs)} samples are at fault)."
        )


def _members(pair: Pair, options: PackOptions) -> dict[str, bytes]:
    """Return a sample's members, decoded once to be sure of them."""
    image_bytes = pair.image.read_bytes()
    height, width = decode_image(image_bytes, str(pair.image)).shape[:2]
    record: dict[str, object] = {
        "source": options.source,
        "licence": options.licence,
        "file": pair.image.name,
    }
    members = {pair.image.suffix[1:].lower(): image_bytes}
    if pair.depth is not None:
        assert options.depth_kind is not None
        depth_bytes, extension = pair.depth.read_bytes(), pair.depth.suffix[1:].lower()
        decode = decode_npy if extension == "npy" else decode_depth_image
        depth_map = decode(depth_bytes, str(pair.depth))
        disparity_from_depth_map(depth_map, options.depth_kind, (height, width), str(pair.depth))
        members[f"depth.{extension}"] = depth_bytes
        record["depth"] = {
            "kind": options.depth_kind,
            "unit": options.depth_unit,
            "smallest": float(depth_map.min()),
            "largest": float(depth_map.max()),
        }
    if exif := exif_of_photograph(image_bytes):
        record["exif"] = exif
    if pair.caption is not None:
        members[CAPTION_EXTENSION] = pair.caption.read_bytes()
        decode_text(members[CAPTION_EXTENSION], str(pair.caption))
    return {**members, "json": json.dumps(record).encode()}


def _slug(stem: str) -> str:
    """Return a key that tars and webdataset take: no dots, no slashes, no path from outside."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:48]
