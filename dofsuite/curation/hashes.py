"""Perceptual hashes, and which of many lie close to each other.

A hash is 64 bits: of an image reduced to 32 x 32 gray values, the 8 x 8 lowest frequencies of its
cosine transform, each against their median (pHash). Copies that were scaled, recompressed or
slightly toned differ in a few bits, two photographs in about 32.
"""

from functools import cache

import numpy as np
from PIL import Image

SIDE_PX, FREQUENCIES = 32, 8
BANDS, BAND_BITS = 4, 16
# Pairs compared at a time.
CHUNK = 4_000_000


@cache
def cosine_rows() -> np.ndarray:
    """The first rows of the orthonormal DCT-II matrix, `[8, 32]`."""
    k, x = np.arange(FREQUENCIES)[:, None], np.arange(SIDE_PX)[None]
    rows = np.cos(np.pi * (2 * x + 1) * k / (2 * SIDE_PX)) * np.sqrt(2 / SIDE_PX)
    rows[0] /= np.sqrt(2)
    return rows


def perceptual_hash(image: Image.Image) -> int:
    """Return the 64-bit pHash of an upright image of any mode."""
    gray = np.asarray(image.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))
    # The transform of integers, rounded: sums in another order must not flip a bit.
    frequencies = (cosine_rows() @ gray.astype(np.float64) @ cosine_rows().T).round(6).ravel()
    # The mean brightness says nothing.
    bits = frequencies > np.median(frequencies[1:])
    bits[0] = False
    return int("".join("1" if bit else "0" for bit in bits), 2)


def count_bits(values: np.ndarray) -> np.ndarray:
    """Count the ones of uint64 `[n]`."""
    as_bytes = np.ascontiguousarray(values, dtype=np.uint64).view(np.uint8).reshape(-1, 8)
    return _ones_of_bytes()[as_bytes].sum(axis=1, dtype=np.int64)


@cache
def _ones_of_bytes() -> np.ndarray:
    return np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)


def near_pairs(hashes: np.ndarray, most_bits: int) -> np.ndarray:
    """Return all pairs `i < j` of uint64 `[n]` that differ in at most `most_bits` bits, `[m, 2]`.

    Exact: of two such hashes, one of four bands of 16 bits differs in at most `most_bits // 4` of
    them, so each band is looked up with every pattern of so many flipped bits (Norouzi et al.,
    Multi-Index Hashing, CVPR 2012). Equal hashes are best grouped before.
    """
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    flips = [mask for mask in range(1 << BAND_BITS) if bin(mask).count("1") <= most_bits // BANDS]
    for band in range(BANDS):
        keys = (hashes >> np.uint64(BAND_BITS * band)) & np.uint64((1 << BAND_BITS) - 1)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for flip in flips:
            # Where in the order the hashes with this key lie
            wanted = keys ^ np.uint64(flip)
            first = np.searchsorted(ordered, wanted, side="left")
            counts = np.searchsorted(ordered, wanted, side="right") - first
            pairs += _close(hashes, order, first, counts, most_bits)
    return np.unique(np.concatenate(pairs), axis=0)


# Compare hash i with the `counts[i]` ones that begin at `first[i]` of the order.
def _close(
    hashes: np.ndarray, order: np.ndarray, first: np.ndarray, counts: np.ndarray, most_bits: int
) -> list[np.ndarray]:
    found = []
    ends = np.cumsum(counts)
    start = 0
    while start < len(hashes):
        # As many hashes as have at most a chunk of comparisons, at least one
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK, side="right")))
        left = np.repeat(np.arange(start, stop), counts[start:stop])
        within = np.arange(len(left)) - np.repeat(
            ends[start:stop] - counts[start:stop] - before, counts[start:stop]
        )
        right = order[np.repeat(first[start:stop], counts[start:stop]) + within]
        # Each pair once, from the side of the smaller number
        left, right = left[left < right], right[left < right]
        is_near = count_bits(hashes[left] ^ hashes[right]) <= most_bits
        found.append(np.stack([left[is_near], right[is_near]], axis=1))
        start = stop
    return found


class Groups:
    """Numbers `0..n-1` in groups that can be joined (union-find)."""

    def __init__(self, count: int) -> None:
        self.parents = list(range(count))

    def find(self, number: int) -> int:
        """Return the group of a number: its smallest member."""
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.find(one), self.find(other)))
        self.parents[second] = first


def join_near(groups: Groups, hashes: np.ndarray, most_bits: int) -> None:
    """Join the numbers whose hashes, uint64 `[n]`, differ in at most `most_bits` bits."""
    # Equal ones first: a thousand black images are not half a million pairs
    values, first, group_of = np.unique(hashes, return_index=True, return_inverse=True)
    for number, group in enumerate(group_of.ravel().tolist()):
        groups.join(number, int(first[group]))
    for one, other in near_pairs(values, most_bits).tolist():
        groups.join(int(first[one]), int(first[other]))
