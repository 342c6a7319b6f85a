"""Damaged samples: which were skipped, how many may be, and what took their place.

The order stays a function of seed and position: the sample at a position that cannot be read is
replaced by the next one in the order of its own source (and bucket) that can, which is also drawn
at its own place. Training samples alone are skipped; a held-out one that is damaged ends the run,
or its numbers would be of other images than before.
"""

import contextlib
import json
import logging
from pathlib import Path
from typing import NamedTuple

from dofsuite.errors import UserError
from dofsuite.files import as_user_error, make_folder, parse_json, read_bytes

log = logging.getLogger("dofsuite")

SKIPPED_FILE = "skipped_samples.jsonl"
# Extensions of pickles: webdataset would execute what is in them.
PICKLES = frozenset({"pyd", "pkl", "pickle", "pth", "pt", "pyc"})


class Skipped(NamedTuple):
    """A damaged sample: where the run met it, which it is of its source, and what is wrong."""

    position: int
    source: int
    number: int
    reason: str


class Damage:
    """The damaged samples of a run, each counted once."""

    def __init__(self, limit: int) -> None:
        """Allow `limit` damaged samples; without `open` nothing is written down."""
        self.limit = limit
        self.skipped: dict[tuple[int, int], Skipped] = {}
        self.noted: set[str] = set()
        self._file: Path | None = None

    def open(self, folder: Path, rank: int) -> None:
        """Write down what is skipped in a run folder, and go on from what was skipped before."""
        self._file, self._rank = folder / SKIPPED_FILE, rank
        if self.limit and self._file.is_file():
            data = read_bytes(self._file)
            if not data.endswith(b"\n"):
                self._append("")
            for line in data.splitlines():
                # A last line that a crash cut short is met and written again
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    row = parse_json(line)
                    skipped = Skipped(row["position"], row["source"], row["number"], row["reason"])
                    self.skipped.setdefault((skipped.source, skipped.number), skipped)

    def add(self, skipped: Skipped) -> None:
        """Count, log and write down a sample that was skipped.

        Raises:
            UserError: It is one more than may be skipped.
        """
        # Each once
        place = (skipped.source, skipped.number)
        if place in self.skipped:
            return
        self.skipped[place] = skipped
        count = len(self.skipped)
        if count > self.limit:
            raise too_many(self.limit, skipped.reason)
        # Said and written down
        log.warning(
            "skipped damaged sample %d of at most %d (data.skip_damaged): %s",
            count,
            self.limit,
            skipped.reason,
        )
        if self._file is not None:
            self._append(json.dumps({"rank": self._rank, **skipped._asdict()}))

    def _append(self, line: str) -> None:
        assert self._file is not None
        make_folder(self._file.parent)
        with as_user_error(self._file), open(self._file, "a") as file:
            file.write(line + "\n")

    def note(self, remark: str) -> None:
        """Log a remark once."""
        if remark not in self.noted:
            self.noted.add(remark)
            log.warning("%s", remark)


def too_many(limit: int, last: str) -> UserError:
    """Return the error of one damaged sample too many, with what is wrong with it."""
    return UserError(
        f"data.skip_damaged: more than {limit} damaged samples; the last: {last.rstrip('.')}; mend "
        "the set, or raise this key."
    )


def remark_of_pickles(shard: str, extensions: set[str]) -> str | None:
    """Return a remark where a sample has members that could hold code."""
    found = sorted(PICKLES & {extension.rpartition(".")[2] for extension in extensions})
    return f"{shard}: .{' and .'.join(found)} members are never opened." if found else None
