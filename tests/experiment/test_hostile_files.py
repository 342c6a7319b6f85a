"""A file or an option that is no tree of words and values is one sentence, at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dofsuite.errors import UserError
from dofsuite.evaluation.text2image.methods import content_of
from dofsuite.experiment.command import read_command
from dofsuite.experiment.optimizer_numbers import refused_numbers
from dofsuite.experiment.yaml_file import check_option, read_experiment_file
from dofsuite.fit import main
from dofsuite.training.run.log import read_rows
from dofsuite.training.run.record import finished_at, stored_config, write_record
from tests.experiment.test_mistakes import EXPERIMENTS, write

NINE = ",".join(["x"] * 9)
BOMB = f"a0: &a0 [{NINE}]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
FILES = {
    "a list in itself": ("a: &a [*a]\n", "an alias stands inside of what it names"),
    "a mapping in itself": ("model: &m {x: *m}\n", "an alias stands inside of what it names"),
    "a list as key": ("? [1, 2]\n: 3\n", "a key has to be a word"),
    "a mapping as key": ("? {a: 1}\n: 3\n", "a key has to be a word"),
    "a number as key": ("1: 3\n", "a key has to be a word; put it in quotes"),
    "nothing as key": ("null: 3\n", "a key has to be a word; put it in quotes"),
    "a billion laughs": (BOMB, "aliases multiply to more than"),
    "brackets": (f"a: {'[' * 400}{']' * 400}\n", "nested too deep"),
}


@pytest.mark.parametrize(("text", "sentence"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_tree_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"x\.yaml: .*{sentence}"):
        read_experiment_file(tmp_path / "x.yaml")


@pytest.mark.parametrize("name", [name for name in FILES if " as key" not in name])
def test_a_method_s_file_and_a_run_s_record_are_refused_likewise(name: str, tmp_path: Path) -> None:
    text, sentence = FILES[name]
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"config\.yaml: it is no YAML \(.*{sentence}"):
        content_of(tmp_path / "config.yaml")
    with pytest.raises(UserError, match=r"config\.yaml: not the record of a run"):
        stored_config(tmp_path)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "null", "3"])
def test_a_damaged_record_of_a_run_is_none(text: str, tmp_path: Path) -> None:
    for name in ("finished.json", "versions.json", "metrics.jsonl"):
        (tmp_path / name).write_text(text)
    assert finished_at(tmp_path) is None
    assert read_rows(tmp_path / "metrics.jsonl") == []
    write_record(tmp_path, {}, [])
    assert len(json.loads((tmp_path / "versions.json").read_text())) == 1


def test_aliases_of_ordinary_use_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\n")
    assert read_experiment_file(tmp_path / "x.yaml")["d"] == {"b": 1, "e": 2}


def test_an_option_is_refused_likewise() -> None:
    for text in ("[" * 1000, "{" * 1000, "&a [*a]"):
        with pytest.raises(UserError, match="command line: "):
            check_option(text)
    check_option("[1, {a: null}]")
    check_option("a: b: c")  # text, which the parser judges


@pytest.mark.parametrize("package", ["*", "", "a b", "jsonargparse", "os.*"])
def test_what_is_no_package_cannot_be_allowed(package: str) -> None:
    with pytest.raises(UserError, match=r"--allow-import: .* is no package that may be allowed"):
        read_command(["x.yaml", "--allow-import", package])


NUMBERS = {
    "accumulation": (["--trainer.accumulate_grad_batches", "0"], "at least 1 is expected, not 0"),
    "rate": (["--model.schedule.learning_rate", "-1"], "Invalid learning rate: -1.0"),
    "gpu": (
        ["--trainer.accelerator", "gpu"],
        "no GPU is here; leave the key out, or set it to cpu",
    ),
}


@pytest.mark.parametrize(("words", "sentence"), NUMBERS.values(), ids=NUMBERS)
def test_a_number_that_cannot_be_is_named_by_its_key(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([write({}), *words, "--allow-import", "tests"]) == 2
    assert f"command line: {words[0]}: {sentence}" in capsys.readouterr().err


OPTIMIZERS = {
    "learning rate": ("lr", "-1", "Invalid learning rate: -1.0"),
    "beta": ("betas", "[1.5, 0.9]", "Invalid beta parameter at index 0: 1.5"),
    "decay": ("weight_decay", "-3", "Invalid weight_decay value: -3.0"),
}


@pytest.mark.parametrize("check", [[], ["--check"]], ids=["fit", "check"])
@pytest.mark.parametrize(("name", "value", "sentence"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_what_an_optimizer_refuses_is_said_before_data_are_made(
    name: str,
    value: str,
    sentence: str,
    check: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOFSUITE_CACHE", str(tmp_path / "cache"))
    key = f"--model.optimizer.init_args.{name}"
    assert main([str(EXPERIMENTS / "quickstart.yaml"), key, value, *check]) == 2
    assert capsys.readouterr() == ("", f"command line: {key}: {sentence}.\n")
    assert list(tmp_path.iterdir()) == []


def test_the_optimizer_that_refuses_is_told_from_its_sister() -> None:
    config = {
        "model": {
            "critic": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}},
            "generator": {"class_path": "torch.optim.SGD", "init_args": {"lr": -1.0}},
            "others": [{"class_path": "torch.optim.Muon", "init_args": {"lr": 0.1}}],
            "rises": {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {}},
        }
    }
    found = list(refused_numbers(config))
    assert found == [("model.generator.init_args.lr", "Invalid learning rate: -1.0")]


def test_a_number_that_lightning_would_divide_by_is_said_by_check_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--trainer.accumulate_grad_batches", "0", "--allow-import", "tests", "--check"]
    assert main([write({}), *words]) == 2
    assert capsys.readouterr().err.startswith("command line: --trainer.accumulate_grad_batches: at")
