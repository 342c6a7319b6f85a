"""`python -m dofsuite.data index FOLDER`: an index and a manifest for tars that others wrote.

The tars are those of webdataset's writers, uncompressed; they are read once and not changed. For
shards of our own it writes the file of image sizes alone, which aspect-ratio buckets need of a
remote set.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dofsuite.cli import option
from dofsuite.data.damage import PICKLES
from dofsuite.data.manifest import (
    DEPTH_KINDS,
    MANIFEST_FILE,
    Manifest,
    ShardEntry,
    read_manifest,
)
from dofsuite.data.sample_record import read_record
from dofsuite.data.shards import ShardReader, shard_entry
from dofsuite.data.tar_index import index_of
from dofsuite.errors import UserError
from dofsuite.files import write_atomic, write_bytes, write_json
from dofsuite.images import IMAGE_EXTENSIONS


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Which tars, and what the manifest says of them."""

    folder: Path = option(type=Path, metavar="FOLDER", help="a folder of uncompressed tars")
    licence: str = option("--licence", default="unknown", help="license of the images")
    source: str = option("--source", default="", help="where they are from; default: the folder")
    split: str = option(
        "--split", default="train", choices=("train", "val", "test"), help="what the set is for"
    )
    depth_kind: str = option(
        "--depth-kind",
        default="disparity",
        choices=DEPTH_KINDS,
        help="of KEY.depth.png and KEY.depth.npy: disparity (larger is nearer) or depth",
    )
    depth_unit: str = option("--depth-unit", default="relative", help="unit of the depth maps")
    skip_damaged: int = option(
        "--skip-damaged",
        type=int,
        default=0,
        help="most samples without an image or with unreadable metadata that are left out",
    )


def index(config: IndexConfig, say: Callable[[str], object] = print) -> Manifest:
    """Write what is missing beside the tars of a folder, the manifest last.

    Raises:
        UserError: There is no tar, one is compressed, truncated or holds a name that leads outside,
            or more samples are damaged than may be left out.
    """
    from dofsuite.data.buckets import image_sizes, sizes_file

    folder = config.folder
    if not (folder / MANIFEST_FILE).is_file():
        _write_manifest(config, say)
    # Sizes of the images, beside the shards
    reader = ShardReader(folder)
    sizes, path = image_sizes(reader), folder / sizes_file(reader.manifest)
    if not path.is_file():
        write_atomic(path, lambda file: np.save(file, sizes))
    return read_manifest(folder)


def _write_manifest(config: IndexConfig, say: Callable[[str], object]) -> None:
    folder, tars = config.folder, _tars(config.folder)
    # Index and count each
    counts: Counter[str] = Counter()
    entries: list[ShardEntry] = []
    left_out = 0
    for tar in tqdm(tars, desc="index", unit="shard", disable=None):
        kept = []
        for key, members in index_of(tar):
            try:
                counts.update(_counted(tar, key, members))
                kept.append([key, members])
            except UserError as error:
                left_out += 1
                if left_out > config.skip_damaged:
                    raise
                say(f"left out, {left_out} of at most {config.skip_damaged}: {error}")
        if not kept:
            raise UserError(f"{tar}: it holds no sample: remove it.")
        data, path = json.dumps(kept).encode(), tar.with_suffix(".index.json")
        if path.exists() and path.read_bytes() != data:
            raise UserError(f"{path}: another index lies where this one is to be: move it away.")
        write_bytes(path, data)
        entries.append(shard_entry(tar, len(kept), data))

    # What is in them
    for extension in sorted(PICKLES & counts.keys()):
        say(f"{counts[extension]} .{extension} members are never opened")
    has_depth = counts["with depth"] > 0
    manifest = Manifest(
        source=config.source or folder.resolve().name,
        licence=config.licence,
        split=config.split,
        depth_kind=config.depth_kind if has_depth else None,
        depth_unit=config.depth_unit if has_depth else None,
        samples=sum(entry.samples for entry in entries),
        samples_with_depth=counts["with depth"],
        samples_with_caption=counts["with caption"],
        samples_with_exif=counts["with exif"],
        shards=tuple(entries),
    )
    write_json(folder / MANIFEST_FILE, asdict(manifest))


def _tars(folder: Path) -> list[Path]:
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    packed = [name for name in names if name.endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.bz2"))]
    tars = [folder / name for name in names if name.endswith(".tar") and not name.startswith(".")]
    if packed:
        raise UserError(f"{folder / packed[0]}: a compressed tar: unpack it to a .tar first.")
    if not tars:
        raise UserError(f"{folder}: there is no .tar in it: name a folder of shards.")
    return tars


# What a sample has; metadata is read, images are decoded in training.
def _counted(tar: Path, key: str, members: dict[str, list[Any]]) -> Counter[str]:
    name = f"{tar}: {key}"
    images = [extension for extension in IMAGE_EXTENSIONS if extension in members]
    if len(images) != 1:
        raise UserError(f"{name}: a sample needs one image, this one has {len(images)}.")
    # Its metadata
    with open(tar, "rb") as file:
        read: dict[str, bytes] = {
            extension: os.pread(file.fileno(), members[extension][1], members[extension][0])
            for extension in ("json", "txt")
            if extension in members
        }
    record = read_record(read, name)
    has_depth = any(extension.startswith("depth.") for extension in members)
    return Counter(
        {
            **{extension.rpartition(".")[2]: 1 for extension in members},
            "with depth": int(has_depth),
            "with caption": int(bool(record.caption)),
            "with exif": int(record.has_exif),
        }
    )
