"""Sweeps are counted from 0, without blank lines and comments."""

from __future__ import annotations

from pathlib import Path

import pytest

from dofsuite.errors import UserError
from dofsuite.experiment.command import read_command, read_sweep
from dofsuite.fit import main

SWEEP = """
# the first line of overrides has index 0
--model.lambda 0.1 --model.name "two words"

   # indented comment
--model.lambda=0   # after the words too
--model.lambda 1
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "lambda.txt"
    path.write_text(SWEEP)
    return path


def test_blank_lines_and_comments_do_not_count(sweep: Path) -> None:
    assert read_sweep(sweep) == [
        ["--model.lambda", "0.1", "--model.name", "two words"],
        ["--model.lambda=0"],
        ["--model.lambda", "1"],
    ]


def test_count_prints_how_many(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sweep", str(sweep), "--count"]) == 0
    assert capsys.readouterr().out == "3\n"


def test_the_index_is_the_array_tasks_unless_given(sweep: Path) -> None:
    words = ["x.yaml", "--sweep", str(sweep)]
    of_task = read_command(words, {"SLURM_ARRAY_TASK_ID": "2"})
    assert (of_task.index, of_task.sweep_overrides) == (2, ("--model.lambda", "1"))
    assert of_task.run_folder == Path("runs/lambda/2")
    given = read_command([*words, "--index=1"], {"SLURM_ARRAY_TASK_ID": "2"})
    assert (given.index, given.sweep_overrides) == (1, ("--model.lambda=0",))


def test_without_a_sweep_an_array_task_runs_in_the_files_folder() -> None:
    command = read_command(
        ["experiments/x.yaml", "--trainer.max_steps", "3"], {"SLURM_ARRAY_TASK_ID": "2"}
    )
    assert command.run_folder == Path("runs/x")
    assert command.overrides == ("--trainer.max_steps", "3")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--index", "3"], "3 is beyond .*, which has 3 lines, counted from 0"),
        (["--index", "-1"], "expected a whole number from 0, got '-1'"),
        ([], "say which of the 3 lines"),
    ],
)
def test_a_line_that_does_not_exist_is_refused(sweep: Path, words: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read_command(["x.yaml", "--sweep", str(sweep), *words], {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('--a "b', "line 1: no closing quotation"),
        ("a b", "line 1: overrides are written --key value, not 'a'"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "s.txt").write_text(text)
    with pytest.raises(UserError, match=reason):
        read_sweep(tmp_path / "s.txt")
