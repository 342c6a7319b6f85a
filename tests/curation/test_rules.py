"""Phones, the edges of thresholds, and splits that share no scene."""

from __future__ import annotations

import numpy as np
import pytest

from dofsuite.curation.answers import read_answers
from dofsuite.curation.inputs import find_inputs
from dofsuite.curation.merge import balance, plan_samples, read_decisions
from dofsuite.curation.merge_settings import MergeSettings
from dofsuite.curation.phones import is_phone, read_phones
from dofsuite.curation.rules import Limits, Thresholds, first_rejection, rules_of
from dofsuite.curation.scenes import Candidate, scenes_of
from dofsuite.errors import UserError

PHONES = [
    ("Apple", "iPhone 15 Pro"),
    ("samsung", "SM-G991B"),
    ("Google", "Pixel 8"),
    ("HUAWEI", "ELE-L29"),
    ("Xiaomi", "2201123G"),
    ("Sony", "XQ-CC54"),
    ("Sony", "G8341"),
    ("LEICA", "LEITZ PHONE 1"),
]
CAMERAS = [
    ("Canon", "Canon EOS R5"),
    ("NIKON CORPORATION", "NIKON D850"),
    ("SONY", "ILCE-7RM4"),
    ("SONY", "DSC-RX100M7"),
    ("SAMSUNG", "NX1"),
    ("SAMSUNG TECHWIN CO.", "SAMSUNG GX20"),
    ("Panasonic", "DC-GH5"),
    ("LEICA CAMERA AG", "LEICA Q2"),
    ("FUJIFILM", "X-T4"),
    ("Hasselblad", "L2D-20c"),
]


@pytest.mark.parametrize(
    ("makes", "expected"), [(PHONES, True), (CAMERAS, False)], ids=["phones", "cameras"]
)
def test_phones_are_told_from_cameras_of_the_same_makers(makes, expected):
    phones = read_phones()
    assert [is_phone(*each, phones) for each in makes] == [expected] * len(makes)


def test_the_list_of_phones_can_be_extended(tmp_path):
    path = tmp_path / "phones.txt"
    path.write_text("# mine\nAcme | Talk*\n")
    assert is_phone("ACME", "talk 3", read_phones(path))
    path.write_text("Acme\n")
    with pytest.raises(UserError, match=r"line 1: 'Acme' is not MAKE | MODEL"):
        read_phones(path)


def facts(**changes):
    good = {"source": "s", "has_exif": True, "f_number": 2.8, "make": "Canon", "model": "5D"}
    return {**good, "exposure_s": 0.01, "width": 600, "height": 600, **changes}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"f_number": 9.99}, None),
        ({"f_number": 10}, None),
        ({"f_number": 50}, None),
        ({"f_number": 50.5}, "aperture"),
        ({"f_number": 16, "exposure_s": 0.1}, None),
        ({"f_number": 16, "exposure_s": 0.1001}, "exposure"),
        ({"f_number": 2, "exposure_s": 3.0}, None),
        ({"f_number": 16, "make": "Apple"}, None),
        ({"f_number": 2, "make": "Apple"}, "device"),
        ({"height": 511}, "resolution"),
        ({"no_optics": "sensor width"}, "optics"),
        # Rejected by two: counted under the first
        ({"f_number": 60, "height": 10}, "aperture"),
        ({"f_number": 2, "make": "Apple", "no_optics": "sensor width"}, "device"),
    ],
)
def test_thresholds_at_their_edges(changes, rule):
    rules = tuple(each for each in rules_of("text2image") if each.stage == "header")
    found = first_rejection(rules, facts(**changes), Limits(phones=tuple(read_phones())))
    assert (found[0] if found else None) == rule


def candidate(number, *, set_name="deep", phash=None, camera="", taken_s=None, scene=None):
    drawn = int(np.random.default_rng(number).integers(0, 2**63))
    phash = drawn if phash is None else phash
    name = f"s/{number:04d}"
    return Candidate(0, number, name, set_name, name, phash, 9, 9, camera, taken_s, scene)


def test_scenes_are_alike_in_quick_succession_or_named():
    near = int(np.random.default_rng(0).integers(0, 2**63)) ^ 0b1011011
    images = [
        candidate(0),
        candidate(1, phash=near),
        candidate(2, camera="a", taken_s=100),
        candidate(3, camera="a", taken_s=130),
        candidate(4, camera="a", taken_s=160),
        candidate(5, camera="a", taken_s=191),
        candidate(6, camera="b", taken_s=100),
        candidate(7, scene="x"),
        candidate(8, scene="x", set_name="shallow"),
    ]
    scenes = scenes_of(images, Thresholds())
    assert scenes == [f"s/000{k}" for k in (0, 0, 2, 2, 2, 5, 6, 7, 7)]


def test_no_scene_lies_in_two_splits_and_shares_are_those_wanted():
    images = [
        candidate(k, camera="a", taken_s=1000 * (k // 3), set_name=("deep", "shallow")[k % 2])
        for k in range(600)
    ]
    settings = MergeSettings(test_share=0.2, val_share=0.1)
    merged = plan_samples(images, Thresholds(), settings, {})
    split_of = {each.name: key for key, found in merged.samples.items() for each in found}
    assert len(split_of) == 600
    for first in range(0, 600, 3):
        splits = {split_of[f"s/{k:04d}"].partition("/")[2] for k in range(first, first + 3)}
        assert len(splits) == 1
    assert sum(key.endswith("test") for key in split_of.values()) == 120
    assert sum(key.endswith("val") for key in split_of.values()) == 60
    # Whatever the order of the inputs
    again = plan_samples(images[::-1], Thresholds(), settings, {})
    assert {n.name for n in again.samples["deep/test"]} == {
        n.name for n in merged.samples["deep/test"]
    }


def test_balance_cuts_the_larger_set_and_names_what_it_left_out():
    samples = {
        "deep/train": [candidate(k) for k in range(10)],
        "shallow/train": [candidate(k, set_name="shallow") for k in range(20, 27)],
    }
    rejections = balance(samples)
    assert [len(each) for each in samples.values()] == [7, 7]
    assert {each.rule for each in rejections} == {"balance"}
    assert len(rejections) == 3


def test_recorded_answers_and_decisions_are_checked_line_by_line(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"name": "a", "photograph": true}\n{"name": "a", "blur": "none"}\n')
    assert read_answers(path) == {"a": {"photograph": "yes", "blur": "none"}}
    path.write_text('{"name": "a"}\n{"name": "b", "blur": "some"}\n')
    with pytest.raises(UserError, match="line 2: blur: 'some' is none of none, desirable"):
        read_answers(path)
    path.write_text("name,decision\na,drop\nb,perhaps\n")
    with pytest.raises(UserError, match="line 3: 'perhaps' is neither keep nor drop"):
        read_decisions(path)


def test_inputs_that_would_share_names_are_refused(tmp_path):
    for folder in ("one/photos", "two/photos"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.jpg").write_bytes(b"")
    paths = [str(tmp_path / "one/photos"), str(tmp_path / "two/photos")]
    with pytest.raises(UserError, match="photos: two inputs would have this name"):
        find_inputs(paths, 10)
    assert len(find_inputs([f"first={paths[0]}", f"second={paths[1]}"], 10)) == 2
    with pytest.raises(UserError, match="pipe:cat://x: pipe: addresses run commands"):
        find_inputs(["pipe:cat://x"], 10)
