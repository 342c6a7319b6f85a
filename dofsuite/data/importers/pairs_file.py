"""Real pairs in a folder: the photographs, and `pairs.json`, which says what each is.

pairs.json   data set, license, and for each pair its scene, files and cameras; written last
images/      as published, or as 8-bit PNG where training does not read the format
depth/       where the data set has depth
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from dofsuite.data.importers import PAIRS_FILE
from dofsuite.data.importers.data_set import DataSet, RealPair, slug
from dofsuite.data.manifest import sha256_of
from dofsuite.errors import UserError
from dofsuite.files import parse_json, read_bytes, write_bytes, write_json
from dofsuite.images import decode_image

FORMAT = 1


class StoredPair(NamedTuple):
    """A pair of `pairs.json`; paths are relative to its folder."""

    name: str
    scene: str
    sharp: str
    blurred: str
    sharp_camera: dict[str, float]
    blurred_camera: dict[str, float]
    depth: str | None = None


class StoredPairs(NamedTuple):
    folder: Path
    data_set: str
    licence: str
    depth_kind: str | None
    pairs: list[StoredPair]
    # sha256 of the whole file, which has those of all images.
    checksum: str


def write_pairs(folder: Path, pairs: Sequence[RealPair], chosen: DataSet, licence: str) -> None:
    """Write pairs into a new folder.

    Raises:
        UserError: A photograph cannot be read, or the two of a pair differ in size.
    """
    # Each file once; several pairs share a sharp one
    files: dict[str, dict[str, Any]] = {}
    sizes: dict[str, tuple[int, int]] = {}

    def store(path: Path, stem: str, read: Callable[[Path], tuple[str, bytes]]) -> str:
        extension, data = read(path)
        name = f"{stem}.{extension}"
        if stem.startswith("images/"):
            height, width = decode_image(data, str(path)).shape[:2]
            sizes[name] = (width, height)
        write_bytes(folder / name, data)
        files[name] = {"sha256": sha256_of(data), "bytes": len(data), "from": path.name}
        return name

    stored, of_scene = [], dict[str, tuple[str, str | None]]()
    for pair in tqdm(pairs, desc="pairs", unit="pair", disable=None):
        # Sharp photograph and depth of its scene, once
        scene = slug(pair.scene)
        if scene not in of_scene:
            sharp = store(pair.sharp, f"images/{scene}-sharp", chosen.image)
            depth = store(pair.depth, f"depth/{scene}", chosen.depth) if pair.depth else None
            of_scene[scene] = (sharp, depth)
        sharp, depth = of_scene[scene]
        # The blurred one
        blurred = store(pair.blurred, f"images/{slug(pair.name)}-blurred", chosen.image)
        if sizes[blurred] != sizes[sharp]:
            raise UserError(
                f"{pair.blurred}: it has {sizes[blurred]} px and its sharp partner "
                f"{sizes[sharp]} px; copy them again."
            )
        cameras = (pair.sharp_camera, pair.blurred_camera)
        stored.append(StoredPair(slug(pair.name), scene, sharp, blurred, *cameras, depth)._asdict())
    write_json(
        folder / PAIRS_FILE,
        {
            "format": FORMAT,
            "data_set": chosen.title,
            "licence": licence,
            "depth_kind": chosen.depth_kind,
            "pairs": stored,
            "files": files,
        },
    )


def read_pairs(folder: Path) -> StoredPairs:
    """Read the pairs of a folder; images are compared with their size here.

    Raises:
        UserError: There are none, or a file is missing.
    """
    path = folder / PAIRS_FILE
    data = read_bytes(path)
    try:
        record = parse_json(data)
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}")
        pairs = [StoredPair(**pair) for pair in record["pairs"]]
        # Its files, by size
        for name, entry in record["files"].items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != entry["bytes"]:
                raise UserError(
                    f"{folder / name}: it is missing or cut; import the data set again."
                )
        return StoredPairs(
            folder,
            record["data_set"],
            record["licence"],
            record["depth_kind"],
            pairs,
            sha256_of(data),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: it is no file of pairs ({error}); import them again.") from error
