"""Every photograph under the right rule, into shards that training reads."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter

import pytest

from dofsuite.curation.engine import claimed
from dofsuite.curation.settings import Curation
from dofsuite.curation.verdicts import read_verdicts
from dofsuite.data.manifest import verify_shards
from dofsuite.data.sample_record import read_record
from dofsuite.data.shards import ShardReader
from dofsuite.errors import UserError
from tests.curation.conftest import OPTIONS, curate, results


def verdicts_of(output) -> dict[str, str | None]:
    """The rule that rejected each image, by name."""
    curation = Curation(output)
    found = {}
    for number in range(curation.input_count):
        for row in read_verdicts(curation, number)[0]:
            found[row["name"]] = row.get("rejected_by")
    for line in (output / "plan" / "rejections.jsonl").read_text().splitlines():
        rejection = json.loads(line)
        assert found[rejection["name"]] is None
        found[rejection["name"]] = rejection["rule"]
    return found


def test_each_of_200_photographs_is_counted_under_the_rule_it_was_planted_for(curated):
    found = verdicts_of(curated.output)
    assert found == {name: planted.rule for name, planted in curated.truth.items()}
    report = json.loads((curated.output / "report.json").read_text())
    planted = Counter(f"{each.set}/{each.rule or 'kept'}" for each in curated.truth.values())
    assert report["counts"] == dict(planted)
    assert sum(report["counts"].values()) == 200


def test_shards_hold_what_is_kept_byte_for_byte_with_caption_and_camera(curated):
    kept = {name: each for name, each in curated.truth.items() if each.rule is None}
    found = {}
    for set_name in ("deep", "shallow"):
        for split in ("train", "test"):
            folder = curated.output / set_name / split
            reader = ShardReader(folder)
            verify_shards(folder, reader.manifest)
            assert (reader.manifest.split, reader.manifest.samples_with_exif) == (
                split,
                len(reader),
            )
            assert reader.manifest.samples_with_caption == len(reader)
            assert "f < 10" in reader.manifest.curation["rules"]["aperture"]
            for number in range(len(reader)):
                members = reader.read(number).members
                name = json.loads(members["json"])["file"]
                found[name] = (set_name, split)
                assert members["jpg"] == (curated.folder / name).read_bytes()
                record = read_record(members, name)
                assert record.caption.startswith("scene ")
                assert record.sensor_width_mm == 36
                assert (record.f_number < 10) == (set_name == "shallow")
    assert {name: place[0] for name, place in found.items()} == {n: p.set for n, p in kept.items()}


def test_tarfile_lists_the_same_samples_as_the_index(curated):
    folder = curated.output / "deep" / "train"
    reader = ShardReader(folder)
    names = []
    for shard in reader.manifest.shards:
        with tarfile.open(folder / f"{shard.name}.tar") as tar:
            names += [name.split(".")[0] for name in tar.getnames() if name.endswith(".jpg")]
    assert names == [reader.read(number).key for number in range(len(reader))]


def test_the_same_command_again_changes_nothing_and_does_only_what_is_missing(curated, tmp_path):
    words = ("--answers", curated.answers, *OPTIONS, "--test-share", 0.2, "--licence", "CC0")
    before = results(curated.output)
    removed = curated.output / "shallow" / "train" / "shard-000001.tar"
    untouched = curated.output / "shallow" / "train" / "shard-000000.tar"
    written = untouched.stat().st_mtime_ns
    removed.unlink()
    (curated.output / "done" / "shallow-train-000001.json").unlink()
    assert curate(curated.folder / "photos", "-o", curated.output, *words) == 0
    assert results(curated.output) == before
    assert untouched.stat().st_mtime_ns == written


def test_an_array_of_tasks_gives_the_shards_of_one_process(curated, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted((curated.folder / "photos").iterdir())[:24]:
        (photos / path.name).write_bytes(path.read_bytes())
    words = ("--answers", curated.answers, "--threshold", "min_side_px=48", "--test-share", "0.2")
    words = (*words, "--images-per-input", 5, "--samples-per-shard", 3)
    assert curate(photos, "-o", tmp_path / "one", *words) == 0

    # Three tasks, SLURM's numbers from 1, in any order
    for stage in ("map", "merge", "write"):
        for task in (3, 1, 2) if stage != "merge" else (1,):
            for key, value in {"ID": task, "MIN": 1, "MAX": 3, "COUNT": 3}.items():
                monkeypatch.setenv(f"SLURM_ARRAY_TASK_{key}", str(value))
            assert curate(photos, "-o", tmp_path / "array", *words, "--stage", stage) == 0
    assert results(tmp_path / "array") == results(tmp_path / "one")


@pytest.mark.slow
def test_tars_of_the_same_photographs_give_the_same_verdicts(curated, tmp_path):
    files = sorted((curated.folder / "photos").iterdir())
    stems = {path.name: f"tars/{int(k >= 90)}/{path.stem}" for k, path in enumerate(files)}
    (tmp_path / "tars").mkdir()
    for number, part in enumerate((files[:90], files[90:])):
        with tarfile.open(tmp_path / "tars" / f"{number}.tar", "w") as tar:
            for file in part:
                tar.add(file, file.name)
    lines = [json.loads(line) for line in curated.answers.read_text().splitlines()]
    for line in lines:
        line["name"] = stems[line["name"].removeprefix("photos/")]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = tmp_path / "out"
    words = ("--answers", answers, *OPTIONS, "--test-share", 0.2)
    assert curate(tmp_path / "tars", "-o", output, *words) == 0
    expected = {stems[name.removeprefix("photos/")]: p.rule for name, p in curated.truth.items()}
    assert verdicts_of(output) == expected
    assert len(ShardReader(output / "deep" / "train")) > 20


def test_a_tar_without_its_end_is_named_and_what_is_whole_in_it_is_used(curated, tmp_path):
    files = sorted((curated.folder / "photos").glob("*_good.jpg"))[:6]
    path = tmp_path / "cut.tar"
    with tarfile.open(path, "w") as tar:
        for file in files:
            tar.add(file, file.name)
    # Cut between two members, where Python's tarfile sees a whole tar
    with tarfile.open(path) as tar:
        end = tar.getmembers()[4].offset
    path.write_bytes(path.read_bytes()[:end])
    words = ("--without", "blur", "photograph", "--captioner", "none", *OPTIONS)
    assert curate(f"cut={path}", "-o", tmp_path / "out", *words) == 0
    found = verdicts_of(tmp_path / "out")
    assert found.pop(str(path)) == "readable"
    assert len(found) == 4


def claim_in_another_process(folder, items: range) -> str:
    """What another process is told that wants items."""
    child = os.fork()
    if not child:
        try:
            with claimed(folder, "map", items):
                os._exit(0)
        except UserError as error:
            os._exit(2 if "another process is at map" in str(error) else 3)
    return {0: "yours", 2: "refused"}[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


def test_a_second_process_on_the_same_part_or_some_of_it_is_refused(tmp_path):
    with claimed(tmp_path, "map", range(2, 5)):
        found = [claim_in_another_process(tmp_path, range(*part)) for part in ((0, 4), (3, 9))]
        assert found == ["refused", "refused"]
        assert claim_in_another_process(tmp_path, range(5, 9)) == "yours"
        assert claim_in_another_process(tmp_path, range(3, 3)) == "yours"
    assert claim_in_another_process(tmp_path, range(0, 4)) == "yours"


def test_other_options_in_the_same_folder_are_refused(curated, capsys):
    photos = curated.folder / "photos"
    words = ("--answers", curated.answers, *OPTIONS)
    assert curate(photos, "-o", curated.output, *words, "--without", "optics") == 2
    assert "another without" in capsys.readouterr().err
    assert curate(photos, "-o", curated.output, *words, "--test-share", 0.5) == 2
    assert "shards of another plan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--without", "exif"], "--without: 'exif' is none of"),
        (["--threshold", "f=2"], "--threshold: 'f=2' is not NAME=VALUE"),
        (["--part", "4/4", "--stage", "map"], "--part: '4/4' is not I/N"),
        (["--part", "0/4"], "--part: give --stage map"),
        (["--workers", "0"], "--workers: at least 1"),
        (["--sharpness", "100"], "--sharpness: '100' is not SOURCE=VALUE"),
        (["--answers", "none.jsonl"], "none.jsonl: --answers: it cannot be read"),
        (["--stage", "merge"], "nothing was begun here"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, capsys, words, sentence):
    assert curate(tmp_path, "-o", tmp_path / "out", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_classifier_is_said_and_nothing_is_made_up(curated, tmp_path, capsys):
    photos = curated.folder / "photos"
    words = (photos, "-o", tmp_path / "out", "--blur-classifier", "none", *OPTIONS)
    assert curate(*words) == 2
    assert "--blur-classifier: none: some images have no recorded answer" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("verdicts/*"))


def test_changed_photographs_are_noticed_before_they_are_written(curated, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted((curated.folder / "photos").glob("*_good.jpg"))[:4]:
        (photos / path.name).write_bytes(path.read_bytes())
    words = [photos, "-o", tmp_path / "out", "--without", "blur", "photograph", *OPTIONS]
    words += ["--captioner", "none"]
    assert curate(*words, "--stage", "map") == 0
    assert curate(*words, "--stage", "merge") == 0
    (photos / path.name).write_bytes(path.read_bytes() + b"x")
    assert curate(*words, "--stage", "write") == 2
    assert "the file was altered" in capsys.readouterr().err
