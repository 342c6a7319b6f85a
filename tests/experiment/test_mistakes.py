"""Every mistake in an experiment is one line: `<file>: <key>: <reason>`, exit code 2, and nothing
is left behind.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from dofsuite.experiment.messages import key_named_in
from dofsuite.fit import main
from tests.tiny_runs import EXPERIMENT

DEL = object()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(changes: dict[str, Any]) -> str:
    content = copy.deepcopy(EXPERIMENT)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = content
        for parent in parents:
            node = node[parent]
        if value is DEL:
            del node[last]
        else:
            node[last] = value
    Path("x.yaml").write_text(yaml.safe_dump(content))
    return "x.yaml"


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command says on stderr, once it is known to be one line, with exit code 2 and no run
    folder.
    """
    code = main([*words, "--allow-import", "tests"])
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert not Path("runs").exists() or not any(path.is_file() for path in Path("runs").rglob("*"))
    return err.rstrip("\n")


IN_THE_FILE = {
    "unknown section": ({"modle": {}}, "modle: no such key; did you mean model?"),
    "unknown key": (
        {"seed_everythin": 1},
        "seed_everythin: no such key; did you mean seed_everything?",
    ),
    "trainer key": (
        {"trainer.max_step": 1},
        "trainer.max_step: no such key; did you mean trainer.max_steps?",
    ),
    "empty unknown key": (
        {"model.init_args.shedule": {}},
        "model.init_args.shedule: no such key; did you mean model.init_args.schedule?",
    ),
    "nested key": (
        {"model.init_args.schedule.learning_rat": 1},
        "model.init_args.schedule.learning_rat: no such key; did you mean model.init_args.schedule.learning_rate?",
    ),
    "key one level too high": (
        {"model.init_args.learning_rate": 1.0},
        "model.init_args.learning_rate: no such key; did you mean model.init_args.schedule.learning_rate?",
    ),
    "a key like no other": ({"trainer.bananas": 1}, "trainer.bananas: no such key."),
    "nested type": (
        {"model.init_args.schedule.width": "w"},
        "model.init_args.schedule.width: expected int, got 'w'.",
    ),
    "type": (
        {"data.init_args.batch_size": "two"},
        "data.init_args.batch_size: expected int, got 'two'.",
    ),
    "null": (
        {"model.init_args.schedule.width": None},
        "model.init_args.schedule.width: expected int, got null.",
    ),
    "null for the seed": (
        {"seed_everything": None},
        "seed_everything: expected bool or int, got null.",
    ),
    "trainer type": ({"trainer.max_steps": "many"}, "trainer.max_steps: expected int, got 'many'."),
    "class": (
        {"model.class_path": "tests.tiny_runs.TinyModl"},
        "model.class_path: tests.tiny_runs has no TinyModl; did you mean tests.tiny_runs.TinyModel?",
    ),
    "module": (
        {"model.class_path": "tests.tiny_run.TinyModel"},
        "model.class_path: tests has no tiny_run; did you mean tests.tiny_runs.TinyModel?",
    ),
    "class of another kind": (
        {"model.class_path": "tests.tiny_runs.TinyData"},
        "model.class_path: tests.tiny_runs.TinyData is not a LightningModule.",
    ),
    "code by name": (
        {"model.class_path": "os.system"},
        "model.class_path: os.system may not be imported; add --allow-import os if you trust that package.",
    ),
    "class in a list": (
        {"trainer.callbacks": [{"class_path": "pytorch_lightning.callbacks.EarlyStoping"}]},
        "trainer.callbacks: pytorch_lightning.callbacks has no EarlyStoping; "
        "did you mean pytorch_lightning.callbacks.EarlyStopping?",
    ),
    "key in a list": (
        {
            "trainer.callbacks": [
                {"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": {"x": 1}}
            ]
        },
        "trainer.callbacks.init_args.x: no such key.",
    ),
    "no model": (
        {"model": DEL},
        "model: missing; name the class, as in class_path: dofsuite.refocus.Refocus.",
    ),
    "no class": (
        {"data.class_path": DEL},
        "data.class_path: missing; name the class, as in class_path: dofsuite.data.ShardData.",
    ),
    "empty init_args": (
        {"model.init_args": None},
        "model.init_args: expected keys and values below it; leave init_args out where there are none.",
    ),
    "unchecked arguments": (
        {"model.dict_kwargs": {"x": 1}},
        "model.dict_kwargs: nothing would check these; name the arguments below init_args.",
    ),
    "section of another shape": (
        {"checkpoint": 3},
        "checkpoint: expected keys and values below it, got 3.",
    ),
    "value refused by a dataclass": (
        {"model.init_args.schedule.width": 0},
        "model.init_args.schedule.width: width must be at least 1, not 0.",
    ),
    "value refused by a class": (
        {"checkpoint.every_n_train_steps": 0},
        "checkpoint.every_n_train_steps: every_n_train_steps must be at least 1, not 0.",
    ),
    "values that exclude each other": (
        {"model.init_args.fail_with": "value"},
        "model.init_args.fail_with: schedule and fail_with exclude each other.",
    ),
}


@pytest.mark.parametrize("mistake", IN_THE_FILE)
def test_a_mistake_in_the_file_names_file_key_and_reason(
    capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    changes, expected = IN_THE_FILE[mistake]
    assert complaint(capsys, write(changes)) == f"x.yaml: {expected}"


ON_THE_COMMAND_LINE = {
    "abbreviation": (
        ["--trainer.max_step", "3"],
        "--trainer.max_step: no such key; did you mean --trainer.max_steps?",
    ),
    "short form": (
        ["--model.schedule.learning_rat", "3"],
        "--model.schedule.learning_rat: no such key; did you mean --model.schedule.learning_rate?",
    ),
    "long form": (
        ["--model.init_args.schedule.learning_rat=3"],
        "--model.init_args.schedule.learning_rat: no such key; did you mean --model.init_args.schedule.learning_rate?",
    ),
    "data": (
        ["--data.batch_siz", "2"],
        "--data.batch_siz: no such key; did you mean --data.batch_size?",
    ),
    "section": (["--modle.x", "1"], "--modle.x: no such key; did you mean --model.x?"),
    "type": (["--data.batch_size", "3.5"], "--data.batch_size: expected int, got '3.5'."),
    "null": (
        ["--model.schedule.width", "null"],
        "--model.schedule.width: expected int, got null.",
    ),
    "null for a section's key": (
        ["--checkpoint.keep=null"],
        "--checkpoint.keep: expected int, got null.",
    ),
    "a key like no other": (["--bananas", "null"], "--bananas: no such key."),
    "class": (["--data", "tests.tiny_runs.Nope"], "--data: tests.tiny_runs has no Nope."),
    "no value": (["--trainer.max_steps"], "--trainer.max_steps: expected one argument."),
    "second file": (
        ["--config", "y.yaml"],
        "--config: the experiment file is the first argument, without --config.",
    ),
    "stray word": (
        ["--trainer.max_steps", "3", "4"],
        "4: not understood; overrides are written --key value.",
    ),
    "own option": (["--sweep"], "--sweep: expected one argument."),
    "own option misspelt": (["--chek"], "--chek: no such key; did you mean --check?"),
    "own option with a dash": (
        ["--print-config"],
        "--print-config: no such key; did you mean --print_config?",
    ),
    "own option with a value": (["--check=1"], "--check=1: it takes no value."),
    "one dash": (["-check"], "-check: write it with two dashes, --check."),
    "count alone": (["--count"], "--count: needs --sweep FILE, whose lines it counts."),
}


@pytest.mark.parametrize("mistake", ON_THE_COMMAND_LINE)
def test_a_mistake_on_the_command_line_is_spelled_as_there(
    capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    words, expected = ON_THE_COMMAND_LINE[mistake]
    words = [word for word in words if not word.startswith("--allow")]
    code = main([write({}), "--allow-import", "tests", *words])
    assert (code, capsys.readouterr().err) == (2, f"command line: {expected}\n")


def test_an_own_option_in_a_sweep_is_told_where_it_belongs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("s.txt").write_text("--trainer.max_steps 3 --check\n")
    said = complaint(capsys, write({}), "--sweep", "s.txt", "--index", "0")
    assert said == "s.txt, line of index 0: --check: no such key; it belongs on the command line."


EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    ("file", "words", "expected"),
    [
        ("quickstart", ["--data.schedule.turns", "6"], "data.source_mix.turns"),
        ("quickstart", ["--model.rows", "apart"], "model.split_backward"),
        ("quickstart", ["--model.init_args.time.shift=3"], "model.timestep_sampling.shift"),
        ("quickstart_text2image", ["--model.guidance", "2"], "model.guidance_scale"),
        (
            "quickstart_text2image",
            ["--model.stages.critic_turns", "2"],
            "model.stages.critic_steps",
        ),
    ],
)
def test_a_key_by_its_former_name_is_refused_with_the_present_one(
    capsys: pytest.CaptureFixture[str], file: str, words: list[str], expected: str
) -> None:
    assert main([str(EXPERIMENTS / f"{file}.yaml"), *words]) == 2
    option = words[0].partition("=")[0]
    said = f"command line: {option}: renamed to {expected}.\n"
    assert capsys.readouterr().err == said


def test_a_former_key_or_class_in_the_file_is_refused_with_the_present_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = yaml.safe_load((EXPERIMENTS / "quickstart.yaml").read_text())
    content["model"]["init_args"]["rows"] = "apart"
    Path("x.yaml").write_text(yaml.safe_dump(content))
    said = "x.yaml: model.init_args.rows: renamed to model.init_args.split_backward."
    assert complaint(capsys, "x.yaml") == said
    content["model"] = {"class_path": "dofsuite.refocus.RefocusBase"}
    Path("x.yaml").write_text(yaml.safe_dump(content))
    said = "x.yaml: model.class_path: dofsuite.refocus.RefocusBase is dofsuite.pretraining."
    assert complaint(capsys, "x.yaml") == f"{said}RefocusPretraining now."


def test_a_doubled_key_is_found_with_both_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.yaml").write_text("trainer:\n  max_steps: 1\nmodel: {}\ntrainer:\n  max_steps: 2\n")
    assert complaint(capsys, "x.yaml") == "x.yaml: trainer: written twice, in line 1 and in line 4."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "no such experiment file."),
        ("model: [", "line 1, column 9: expected the node content, but found '<stream end>'."),
        ("\tmodel: 1", "line 1, column 1: found character '\\t' that cannot start any token."),
        ("- a list", "an experiment file is a mapping with the keys model, data and trainer."),
    ],
)
def test_a_file_that_is_no_experiment(
    capsys: pytest.CaptureFixture[str], text: str | None, expected: str
) -> None:
    if text is not None:
        Path("x.yaml").write_text(text)
    assert complaint(capsys, "x.yaml") == f"x.yaml: {expected}"


def test_no_file_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(capsys).startswith("command line: name an experiment file first")


def test_a_mistake_of_the_data_while_training_is_one_line_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        main([write({"data.init_args": {"missing_shard": True}}), "--allow-import", "tests"]) == 2
    )
    assert (
        capsys.readouterr().err
        == "data/train-000001.tar: the shard is missing; pack the folder again.\n"
    )


def test_what_lightning_refuses_only_once_it_trains_is_one_line_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = {"trainer.val_check_interval": 6000, "trainer.check_val_every_n_epoch": 1}
    assert main([write(changes), "--allow-import", "tests"]) == 2
    assert capsys.readouterr().err.startswith(
        "x.yaml: trainer.val_check_interval: `val_check_interval` (6000) must be"
    )


def test_a_users_mistake_found_while_building_keeps_its_own_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        complaint(capsys, write({"model.init_args.fail_with": "user"}))
        == "weights.safetensors: no such file."
    )


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(AttributeError, match="a genuine bug") as caught:
        main([write({"model.init_args.fail_with": "bug"}), "--allow-import", "tests"])
    assert caught.traceback[-1].path.name == "tiny_runs.py"


def test_the_key_of_a_reason_is_the_one_that_ends_in_its_name() -> None:
    config = {"model": {"init_args": {"weights": {"deep": 1}, "stages": {"deep": 2, "teacher": 3}}}}
    for reason, key in {
        "weights.deep must be 0 or more": "model.init_args.weights.deep",
        "teacher must be 0 or more": "model.init_args.stages.teacher",
        "torch.stages.teacher of 1.5": "model.init_args.stages.teacher",
        "deep must be 0 or more": "model",
    }.items():
        assert key_named_in(reason, config) == key
