"""A Hugging Face `datasets` image folder: images in splits, with metadata.csv or metadata.jsonl.

Traps: `file_name` is relative to the metadata file; a depth map is a column (`depth_file_name`),
not a neighbor; a set that was uploaded as Parquet has no files to read. Its license stands in the
card, README.md, and is taken from there.
"""

import csv
import io
import re
from pathlib import Path
from typing import Any

from dofsuite.data.importers.data_set import NOT_STATED, DataSet, Found, Photograph
from dofsuite.data.importers.folder import SPLITS
from dofsuite.data.packing.match_files import Pair
from dofsuite.errors import UserError
from dofsuite.files import parse_json, read_bytes
from dofsuite.images import IMAGE_EXTENSIONS

CAPTION_COLUMNS = ("caption", "text", "prompt")
DEPTH_COLUMNS = ("depth_file_name", "depth_map_file_name", "disparity_file_name")
METADATA = ("metadata.csv", "metadata.jsonl")


def find(folder: Path) -> Found:
    """Read an image folder.

    Raises:
        UserError: It is missing, has no image, is in Parquet, or its metadata cannot be read.
    """
    images = [
        path for path in sorted(folder.rglob("*")) if path.suffix[1:].lower() in IMAGE_EXTENSIONS
    ]
    if not images:
        parquet = any(folder.rglob("*.parquet"))
        reason = "its images are in Parquet; save it as an image folder first"
        raise UserError(
            f"{folder}: hugging_face: {reason if parquet else 'there is no image in it'}."
        )
    # Rows of all metadata files, by the path of their image
    rows: dict[Path, dict[str, Any]] = {}
    faults, depths = [], set()
    for file in sorted(path for name in METADATA for path in folder.rglob(name)):
        for row in read_rows(file):
            image, depth = (inside(folder, file, row.get(key)) for key in ("file_name", "depth"))
            if image is None or not image.is_file():
                faults.append(f"{file}: {row.get('file_name')}: there is no such image")
            elif depth is not None and not depth.is_file():
                faults.append(f"{file}: {depth.name}: there is no such depth map")
            else:
                rows[image] = row | {"depth": depth}
                depths.add(depth)
    # Images; where there are metadata, those that they name
    chosen = [path for path in images if path not in depths and (path in rows or not rows)]
    photographs = [photograph(folder, path, rows.get(path, {})) for path in chosen]
    unnamed = len(images) - len(chosen) - len(depths - {None})
    left_out = {"images that the metadata do not name": unnamed} if unnamed else {}
    return Found(photographs, [], left_out, faults)


def photograph(folder: Path, path: Path, row: dict[str, Any]) -> Photograph:
    place = path.relative_to(folder)
    named = next((part for part in place.parts[:-1] if part in SPLITS), "train")
    pair = Pair(place.with_suffix("").as_posix(), path, row.get("depth"))
    return Photograph(
        pair, SPLITS[named], {"caption": row["caption"]} if row.get("caption") else {}
    )


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read a metadata file's rows: file_name, depth and caption, under these names.

    Raises:
        UserError: It is no such file.
    """
    text = read_bytes(file).decode("utf-8-sig", "replace")
    try:
        if file.suffix == ".csv":
            rows: list[Any] = list(csv.DictReader(io.StringIO(text), strict=True))
        else:
            rows = [parse_json(line) for line in text.splitlines() if line.strip()]
        # What is used of them, under one name each
        return [
            {
                "file_name": row["file_name"],
                "depth": first(row, DEPTH_COLUMNS),
                "caption": first(row, CAPTION_COLUMNS),
            }
            for row in rows
        ]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(
            f"{file}: it is no metadata of an image folder, with a column file_name ({error!r})."
        ) from error


def first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name)), None)


def inside(folder: Path, file: Path, name: Any) -> Path | None:
    """Return the file that a row names; None where it names none.

    Raises:
        UserError: It lies outside the data set.
    """
    if not name:
        return None
    path = file.parent / str(name)
    if folder.resolve() not in path.resolve().parents:
        raise UserError(f"{file}: {name}: it lies outside {folder}; mend the row.")
    return path


def licence_of_card(folder: Path) -> str | None:
    """Return the license that a data set's card names."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    head = re.match(r"---\n(.*?)\n---", card.read_text(errors="replace"), re.DOTALL)
    found = re.search(r"^license:\s*(\S+)", head[1], re.MULTILINE) if head else None
    return found[1].strip("'\"") if found else None


DATA_SET = DataSet(
    name="hugging_face",
    title="a Hugging Face image folder",
    licence=NOT_STATED,
    source="the hub",
    find=find,
)
