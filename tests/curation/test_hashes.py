"""Perceptual hashes against SciPy's transform, near pairs against every pair."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from dofsuite.curation.hashes import Groups, join_near, near_pairs, perceptual_hash
from tests.curation.photographs import texture


def test_a_hash_is_the_signs_of_scipy_s_lowest_frequencies():
    image = texture(3, 300, 200)
    gray = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    low = dctn(gray, norm="ortho")[:8, :8].ravel()
    expected = [False, *(low[1:] > np.median(low[1:]))]
    assert f"{perceptual_hash(image):064b}" == "".join("01"[int(bit)] for bit in expected)


def test_copies_lie_within_four_bits_and_other_photographs_far_apart():
    hashes = []
    for seed in range(20):
        original = texture(seed, 400, 300)
        file = io.BytesIO()
        original.resize((133, 100), Image.Resampling.LANCZOS).save(file, "JPEG", quality=60)
        same = perceptual_hash(original) ^ perceptual_hash(Image.open(file))
        assert same.bit_count() <= 4
        hashes.append(perceptual_hash(original))
    others = [(a ^ b).bit_count() for k, a in enumerate(hashes) for b in hashes[:k]]
    assert min(others) > 10


@pytest.mark.parametrize("most_bits", [0, 3, 4, 7, 9])
def test_near_pairs_are_all_of_them(most_bits):
    draws = np.random.default_rng(most_bits)
    hashes = draws.integers(0, 2**64, 60, dtype=np.uint64)
    # Neighbors of each at every distance up to 12
    flips = [sum(1 << int(bit) for bit in draws.permutation(64)[:k]) for k in range(13)]
    hashes = np.concatenate([hashes, *(hashes[:8] ^ np.uint64(flip) for flip in flips)])
    expected = [
        [i, j]
        for j in range(len(hashes))
        for i in range(j)
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= most_bits
    ]
    assert near_pairs(hashes, most_bits).tolist() == sorted(expected)


def test_a_thousand_equal_hashes_are_one_group_without_all_their_pairs():
    groups = Groups(1001)
    join_near(groups, np.array([7] * 1000 + [2**63 - 1], dtype=np.uint64), 4)
    assert {groups.find(number) for number in range(1000)} == {0}
    assert groups.find(1000) == 1000
