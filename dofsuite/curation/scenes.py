"""Which images are copies of one photograph, and which are of one scene."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dofsuite.curation.hashes import Groups, join_near
from dofsuite.curation.rules import Thresholds


class Candidate(NamedTuple):
    """An image that all rules kept."""

    input_shard: int
    row: int
    name: str
    set: str
    sha256: str
    phash: int
    pixels: int
    bytes: int
    # Whose photographs of one minute are of one scene: make, model, serial; "" if not known.
    camera: str
    taken_s: int | None
    scene: str | None


def best_of_copies(candidates: Sequence[Candidate], most_bits: int) -> list[str]:
    """Return for each image the name of the one that stands for all its copies.

    Copies have the same bytes or nearly the same perceptual hash. The one with most pixels stands
    for them, then with most bytes, then the first by name (*ours*).
    """
    groups = Groups(len(candidates))
    hashes = np.array([candidate.phash for candidate in candidates], dtype=np.uint64)
    if candidates:
        join_near(groups, hashes, most_bits)
    _join_equal(groups, [candidate.sha256 for candidate in candidates])

    # The best of each group
    best: dict[int, Candidate] = {}
    for number, candidate in enumerate(candidates):
        group = groups.find(number)
        if group not in best or _worth(candidate) < _worth(best[group]):
            best[group] = candidate
    return [best[groups.find(number)].name for number in range(len(candidates))]


def _worth(candidate: Candidate) -> tuple[int, int, str]:
    return -candidate.pixels, -candidate.bytes, candidate.name


def _join_equal(groups: Groups, values: Sequence[str | None]) -> None:
    first: dict[str, int] = {}
    for number, value in enumerate(values):
        if value is not None:
            groups.join(first.setdefault(value, number), number)


def scenes_of(candidates: Sequence[Candidate], thresholds: Thresholds) -> list[str]:
    """Return each image's scene, named by the scene's first image.

    Of one scene are images that look alike, photographs of one camera in quick succession, and
    those whose records name one scene.
    """
    groups = Groups(len(candidates))
    hashes = np.array([candidate.phash for candidate in candidates], dtype=np.uint64)
    if candidates:
        join_near(groups, hashes, int(thresholds.scene_bits))
    _join_equal(groups, [candidate.scene for candidate in candidates])

    # Photographs of one camera, in the order of its clock
    timed = [
        (candidate.camera, candidate.taken_s, number)
        for number, candidate in enumerate(candidates)
        if candidate.camera and candidate.taken_s is not None
    ]
    timed.sort()
    for (camera, before_s, one), (next_camera, after_s, other) in pairwise(timed):
        if camera == next_camera and after_s - before_s <= thresholds.scene_s:
            groups.join(one, other)

    # A name that depends on the members alone
    names: dict[int, str] = {}
    for number, candidate in enumerate(candidates):
        group = groups.find(number)
        names[group] = min(names.get(group, candidate.name), candidate.name)
    return [names[groups.find(number)] for number in range(len(candidates))]
