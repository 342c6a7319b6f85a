"""The 200 planted photographs, and what a run of the command makes of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import pytest

from dofsuite.curate import main
from dofsuite.data.manifest import VERIFIED_FILE
from tests.curation.photographs import Planted, plant

OPTIONS = ("--threshold", "min_side_px=48", "--images-per-input", "50", "--samples-per-shard", "16")


class Fixture(NamedTuple):
    folder: Path
    truth: dict[str, Planted]
    answers: Path
    output: Path


def curate(*words: object) -> int:
    return main([str(word) for word in words])


def results(folder: Path) -> dict[str, str]:
    """Checksums of all that a curation made, but for its locks and what readers leave."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "locks" and path.name != VERIFIED_FILE
    }


@pytest.fixture(scope="session")
def curated(tmp_path_factory) -> Fixture:
    folder = tmp_path_factory.mktemp("curated")
    truth, answers = plant(folder)
    output = folder / "out"
    words = ("--answers", answers, *OPTIONS, "--test-share", 0.2, "--licence", "CC0")
    assert curate(folder / "photos", "-o", output, *words) == 0
    return Fixture(folder, truth, answers, output)
