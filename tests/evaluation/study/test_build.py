"""From folders of images to videos: the frames, the names, and what a second start does."""

import json

import av
import numpy as np
import pytest
from PIL import Image

from dofsuite.evaluate import main
from dofsuite.evaluation.study.study import open_study

F_NUMBERS = ("1.8", "4", "11")
SIZE = (36, 48)


def write_method(folder, level, prompts=("a", "b", "c"), size=SIZE):
    """Gray images: `level`, 20 more with each prompt and 8 with each aperture."""
    for i, prompt in enumerate(prompts):
        (folder / prompt).mkdir(parents=True)
        for k, number in enumerate(F_NUMBERS):
            image = np.full((*size, 3), level + 20 * i + 8 * k, np.uint8)
            Image.fromarray(image).save(folder / prompt / f"f{number}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    for level, name in enumerate(("ours", "one", "two"), 1):
        write_method(tmp_path / name, 60 * level)
    return tmp_path


def build(folder, *words):
    sources = [f"{name}={folder / name}" for name in ("ours", "one", "two")]
    options = ["--f-numbers", *F_NUMBERS, "--size", "48", "-o", str(folder / "study")]
    return main(["study", "build", *options, *sources, *words])


def frames_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.duration * stream.time_base) == 1.5
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert {frame.shape for frame in frames} == {(36, 48, 3)}
    return [float(frame.mean()) for frame in frames]


def test_a_video_goes_from_the_first_aperture_to_the_last(folder, capsys):
    assert build(folder) == 0
    study = open_study(folder / "study")
    assert (study.ours, study.baselines, study.prompts) == ("ours", ("one", "two"), ("a", "b", "c"))
    for level, method in enumerate(("ours", "one", "two"), 1):
        for i, prompt in enumerate("abc"):
            found = frames_of(study.path(study.video(method, prompt)))
            assert found == pytest.approx([60 * level + 20 * i + 8 * k for k in range(3)], abs=3)
    # A check shows another scene at every aperture, apertures falling
    assert frames_of(study.path(study.check_video("a"))) == pytest.approx([96, 108, 80], abs=3)
    # The power, said before any answer
    text = capsys.readouterr().out
    assert "25 participants with 20 votes each give 250 votes for each of 2 baselines" in text
    assert "3 prompts (the paper: 25)" in text


def test_the_paper_s_study_has_83_votes_a_baseline(folder, capsys):
    for number in range(3, 7):
        write_method(folder / f"m{number}", 10 * number)
    build(folder, *(f"m{n}={folder / f'm{n}'}" for n in range(3, 7)))
    text = capsys.readouterr().out
    assert "give 83 votes for each of 6 baselines" in text
    assert "[73.5%, 89.6%]" in text


def test_a_second_start_encodes_nothing_and_keeps_the_names(folder):
    build(folder)
    before = {file: file.stat().st_mtime_ns for file in (folder / "study").rglob("*")}
    first = next((folder / "study" / "videos").iterdir())
    first.unlink()
    assert build(folder) == 0
    after = {file: file.stat().st_mtime_ns for file in (folder / "study").rglob("*")}
    changed = {file for file in before if before[file] != after[file]}
    assert changed <= {first, first.parent}
    assert first in changed


def test_names_say_nothing_without_the_key(folder):
    build(folder)
    first = {file.name for file in (folder / "study" / "videos").iterdir()}
    (folder / "study").rename(folder / "elsewhere")
    build(folder)
    assert first.isdisjoint(file.name for file in (folder / "study" / "videos").iterdir())
    names = json.loads((folder / "elsewhere" / "key.json").read_text())["videos"]
    assert {name for by_prompt in names.values() for name in by_prompt.values()} == first


def test_a_folder_of_evaluate_text2image_has_all_of_its_methods(folder, capsys):
    for name in ("ours", "one", "two"):
        (folder / "table" / "pictures").mkdir(parents=True, exist_ok=True)
        (folder / name).rename(folder / "table" / "pictures" / name)
        (folder / "table" / "pictures" / name / "settings.json").write_text("{}")
    words = ["-o", str(folder / "study"), "--size", "48", "--f-numbers", *F_NUMBERS]
    table = str(folder / "table")
    assert main(["study", "build", table, *words]) == 2
    assert "--ours: say which method is yours: one, ours, two" in capsys.readouterr().err
    assert main(["study", "build", table, *words, "--ours", "ours"]) == 0
    assert open_study(folder / "study").baselines == ("one", "two")


def test_images_of_another_shape_are_cropped_to_one_size(folder, capsys):
    write_method(folder / "wide", 10, size=(24, 64))
    assert build(folder, f"wide={folder / 'wide'}") == 0
    study = open_study(folder / "study")
    frames_of(study.path(study.video("wide", "a")))
    assert "9 images have another shape" in capsys.readouterr().out


def spoil_prompt(folder):
    (folder / "two" / "b").rename(folder / "two" / "d")


def spoil_prompts(folder):
    for prompt in "bc":
        (folder / "ours" / prompt).rename(folder / prompt)


def spoil_image(folder):
    (folder / "one" / "b" / "f4.png").unlink()


MISTAKES = {
    "missing prompt": (spoil_prompt, [], "two/b: f1.8.png is missing, of method two"),
    "one prompt": (spoil_prompts, [], "ours: a study needs 3 prompts at least"),
    "missing image": (spoil_image, [], "one/b: f4.png is missing, of method one"),
    "unknown ours": (None, ["--ours", "three"], "--ours: there is no three; choose one of ours"),
    "no folder": (None, ["three=nowhere"], "three=nowhere: there is no such folder"),
    "double name": (None, ["one=."], "two methods are named one"),
    "two prompts": (None, ["--count", "2"], "--count: must be at least 3"),
    "size": (None, ["--size", "4"], "--size: must be at least 32"),
    "votes": (None, ["--votes", "0"], "--votes: must be at least 4"),
    "order": (None, ["--f-numbers", "4", "2"], "--f-numbers: a sweep needs"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_builds_nothing(folder, capsys, mistake):
    spoil, words, expected = MISTAKES[mistake]
    if spoil:
        spoil(folder)
    assert build(folder, *words) == 2
    text = capsys.readouterr().err
    assert expected in text
    assert text.count("\n") == 1
    assert not (folder / "study").exists()


def test_another_study_in_the_same_folder_is_refused(folder, capsys):
    build(folder)
    before = (folder / "study" / "key.json").read_bytes()
    assert build(folder, "--votes", "8") == 2
    assert "setting votes: this study has 20, not 8" in capsys.readouterr().err
    Image.new("RGB", SIZE[::-1]).save(folder / "one" / "a" / "f4.png")
    assert build(folder) == 2
    assert "images of one: this study has" in capsys.readouterr().err
    assert (folder / "study" / "key.json").read_bytes() == before


def test_two_words_of_a_subcommand_are_needed(capsys):
    for words, named in ((["study"], "'study'"), (["study", "nothing"], "'study nothing'")):
        assert main(words) == 2
        text = capsys.readouterr().err
        assert named in text
        assert text.endswith("choose one of study build, study serve, study report.\n")
