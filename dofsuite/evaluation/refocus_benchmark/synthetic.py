"""A synthetic set as a benchmark's originals: all in focus, with exact disparity, no download."""

from __future__ import annotations

from pathlib import Path

from dofsuite.data import ShardReader
from dofsuite.data.synthetic.names import PREFIX
from dofsuite.data.synthetic.sets import prepare
from dofsuite.errors import UserError
from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.evaluation.refocus_benchmark.sources import Original, find_originals
from dofsuite.files import write_bytes


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
