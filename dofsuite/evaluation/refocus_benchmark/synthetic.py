"""The synthetic scenes as a benchmark's originals: all in focus, with a disparity that is true, and nothing to fetch."""

from __future__ import annotations

from pathlib import Path

from dofsuite.data import ShardReader
from dofsuite.data.synthetic.sets import prepare
from dofsuite.errors import UserError
from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.evaluation.refocus_benchmark.sources import Original, find_originals
from dofsuite.files import write_bytes

ORIGINALS = "originals"
"""Folder of a benchmark in which the scenes are written."""


def synthetic_originals(
    name: str, count: int | None, tag: str | None, benchmark: Path
) -> list[Original]:
    """Write the first scenes of a synthetic set with their disparity where they are not there yet.

    Args:
        name: `synthetic:val` for what no model of ours was trained on.
        count: How many; None for all.
        tag: Source tag; None gives the three in turn, which mean nothing here but fill the table by
            source.
        benchmark: The benchmark's folder; they go into `originals/TAG/` of it.

    Raises:
        UserError: There is no such set, it has no disparity, or the folder cannot be written.
    """
    reader = ShardReader(prepare(name))
    if reader.manifest.depth_kind != "disparity":
        raise UserError(f"{name}: FOLDER: this set has no disparity; take synthetic:val.")
    written = set()
    for number in range(len(reader))[:count]:
        sample, folder = (
            reader.read(number),
            benchmark / ORIGINALS / (tag or SOURCES[number % len(SOURCES)]),
        )
        written.add(folder / f"{sample.key}.png")
        for extension in ("depth.png", "png"):
            if not (file := folder / f"{sample.key}.{extension}").is_file():
                write_bytes(file, sample.members[extension])
    return [
        original
        for original in find_originals(benchmark / ORIGINALS, tag)
        if original.path in written
    ]
