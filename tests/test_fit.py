"""`fit`: one folder a run, the same command resumes, and an interruption changes no bit of the
result.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dofsuite.fit import main
from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import checkpoints_of
from tests.tiny_runs import EXPERIMENT

ROOT = Path(__file__).parents[1]
DATA = "--data.init_args."


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    experiment("x.yaml")


def experiment(name: str, **changes: Any) -> None:
    content = copy.deepcopy(EXPERIMENT)
    for section, values in changes.items():
        content[section] = (
            {**content.get(section, {}), **values} if isinstance(values, dict) else values
        )
    Path(name).write_text(yaml.safe_dump(content))


def fit(*words: str) -> int:
    return main([*words, "--allow-import", "tests"])


def last_state(folder: str) -> dict[str, Any]:
    """The newest checkpoint of a run."""
    return AtomicCheckpointIO().load_checkpoint(checkpoints_of(Path(folder))[0])


def assert_same_run(folder: str, other: str, *, validated_alike: bool = True) -> None:
    """Weights, optimiser state, counters and log rows are equal bit for bit.

    A run that was given its steps in portions has validated at the end of each portion too.
    """
    one, two = last_state(folder), last_state(other)
    torch.testing.assert_close(one["state_dict"], two["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(one["optimizer_states"], two["optimizer_states"], rtol=0, atol=0)
    assert (one["global_step"], one["TinyData"]) == (two["global_step"], two["TinyData"])
    assert (
        one["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        == two["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    )
    if validated_alike:
        assert rows_of(folder) == rows_of(other)
    losses = [
        [(row["step"], row["loss"]) for row in rows_of(run) if "loss" in row]
        for run in (folder, other)
    ]
    assert losses[0] == losses[1]


def rows_of(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def uninterrupted(folder: str, *words: str) -> str:
    """A run of the same experiment that is never signalled (its signal counts as already sent)."""
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    Path(f"{folder}.signalled").touch()
    assert fit(*words, "--trainer.default_root_dir", folder) == 0
    return folder


def test_a_run_lies_in_one_folder_and_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("x.yaml") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("step 10/40  loss ")
    assert [line.split("  ")[0] for line in out[:6]] == [
        "step 10/40",
        "step 20/40",
        "step 20: validating",
        "step 30/40",
        "step 40/40",
        "step 40: validating",
    ]
    assert out[6:] == [
        "runs/x: finished at step 40.",
        "sheet   runs/x/sheets/step-00000040.png",
        "metrics runs/x/metrics.json",
        "export  runs/x/export",
    ]
    assert sorted(
        path.name for path in Path("runs/x").iterdir() if not path.name.startswith(".")
    ) == [
        "checkpoints",
        "command.txt",
        "config.yaml",
        "export",
        "finished.json",
        "metrics.json",
        "metrics.jsonl",
        "sheets",
        "versions.json",
    ]
    assert [path.name for path in checkpoints_of(Path("runs/x"))] == [
        "step-00000040.ckpt",
        "step-00000030.ckpt",
    ]
    assert [row["step"] for row in rows_of("runs/x")] == [10, 20, 30, 40]
    assert [row["step"] for row in rows_of("runs/x") if "val/loss" in row] == [20, 40]
    resolved = yaml.safe_load(Path("runs/x/config.yaml").read_text())
    assert resolved["model"]["init_args"]["schedule"] == {"learning_rate": 0.02, "width": 4}


def test_a_finished_run_says_so_and_touches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("x.yaml") == 0
    before = {
        path: path.stat().st_mtime_ns for path in Path("runs").rglob("*") if path.name != ".lock"
    }
    capsys.readouterr()
    assert fit("x.yaml") == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "runs/x: finished at step 40; raise --trainer.max_steps to go on.\nsheet "
    )
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_resolved_experiment_is_printed_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("x.yaml", "--model.schedule.learning_rate", "5e-7", "--print_config") == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["model"]["init_args"]["schedule"]["learning_rate"] == 5e-7
    assert not Path("runs").exists()
    Path("printed.yaml").write_text(printed)
    assert fit("printed.yaml", "--trainer.max_steps", "1") == 0
    assert Path("runs/x/finished.json").exists()  # the run folder is part of what was printed


def test_more_steps_go_on_as_if_they_had_been_asked_for_at_once() -> None:
    assert fit("x.yaml", "--trainer.max_steps", "30") == 0
    assert fit("x.yaml", "--trainer.log_every_n_steps", "10") == 0
    assert fit("x.yaml", "--trainer.default_root_dir", "runs/whole") == 0
    assert_same_run("runs/x", "runs/whole", validated_alike=False)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["--model.schedule.learning_rate", "0.5"], "--model.schedule.learning_rate: 0.5, but"),
        (["--data.batch_size", "4"], "--data.batch_size: 4, but"),
        (["--trainer.accumulate_grad_batches=2"], "--trainer.accumulate_grad_batches: 2, but"),
        (["--seed_everything", "1"], "--seed_everything: 1, but"),
    ],
)
def test_another_experiment_does_not_fit_into_the_folder(
    capsys: pytest.CaptureFixture[str], words: list[str], key: str
) -> None:
    assert fit("x.yaml", "--trainer.max_steps", "1") == 0
    capsys.readouterr()
    assert fit("x.yaml", *words) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"command line: {key} the run in runs/x was begun with ")
    assert "--trainer.default_root_dir" in err
    assert err.count("\n") == 1
    experiment("x.yaml", data={"init_args": {"batch_size": 8}})
    assert fit("x.yaml") == 2
    assert capsys.readouterr().err.startswith("x.yaml: data.init_args.batch_size: 8, but")


def test_a_killed_run_resumes_to_the_same_bits() -> None:
    step = random.Random(os.getpid()).randrange(11, 39)
    words = ["x.yaml", f"{DATA}signal_at", str(2 * step)]
    command = [sys.executable, "-m", "dofsuite.fit", *words, "--allow-import", "tests"]
    killed = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert last_state("runs/x")["global_step"] == step // 10 * 10
    assert fit(*words) == 0
    assert_same_run("runs/x", uninterrupted("runs/whole", *words))


@pytest.mark.slow
def test_a_signal_to_every_process_of_a_job_step_saves_too() -> None:
    """As Slurm signals: the loader's workers must not die of it, or the step under way fails."""
    words = [
        "x.yaml",
        f"{DATA}signal_at",
        "30",
        f"{DATA}signal_name",
        "SIGTERM",
        f"{DATA}signal_group",
        "true",
    ]
    words += [f"{DATA}num_workers", "1"]
    command = [sys.executable, "-m", "dofsuite.fit", *words, "--allow-import", "tests"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    stopped = subprocess.run(
        command, env=environment, capture_output=True, text=True, start_new_session=True
    )
    assert (stopped.returncode, stopped.stderr.count("Traceback")) == (143, 0), stopped.stderr
    assert "stopped by SIGTERM" in stopped.stdout
    assert fit(*words) == 0
    assert_same_run("runs/x", uninterrupted("runs/whole", *words))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_stop_signal_saves_at_the_end_of_the_step(
    capsys: pytest.CaptureFixture[str], name: str, accumulate: int
) -> None:
    words = ["x.yaml", f"{DATA}signal_at", "44", f"{DATA}signal_name", name]
    words += [
        "--trainer.accumulate_grad_batches",
        str(accumulate),
        "--trainer.max_steps",
        str(39 // accumulate),
    ]
    handler = signal.getsignal(signal.Signals[name])
    assert fit(*words) == 143
    step = 22 // accumulate + 1  # sample 44 is in batch 22, counted from 0
    assert f"runs/x: stopped by {name} at step {step} and saved" in capsys.readouterr().out
    assert last_state("runs/x")["global_step"] == step
    assert signal.getsignal(signal.Signals[name]) == handler
    assert fit(*words) == 0
    assert_same_run("runs/x", uninterrupted("runs/whole", *words))


def test_a_stop_signal_ends_a_validation_too() -> None:
    words = [
        "x.yaml",
        f"{DATA}signal_at",
        "1",
        f"{DATA}signal_name",
        "SIGTERM",
        f"{DATA}signal_in_validation",
        "true",
    ]
    words += ["--checkpoint.every_n_train_steps", "15"]
    assert fit(*words) == 143
    assert last_state("runs/x")["global_step"] == 20
    assert not Path("runs/x/sheets").exists()
    assert fit(*words) == 0
    # The validation that was cut off is there too.
    assert Path("runs/x/sheets/step-00000020.png").exists()
    whole = uninterrupted("runs/whole", *words)
    assert rows_of("runs/x") == rows_of(whole)
    torch.testing.assert_close(
        last_state("runs/x")["state_dict"], last_state(whole)["state_dict"], rtol=0, atol=0
    )


def test_a_run_that_was_stopped_in_its_last_validation_ends_with_its_sheet() -> None:
    words = [
        "x.yaml",
        f"{DATA}signal_at",
        "1",
        f"{DATA}signal_name",
        "SIGTERM",
        f"{DATA}signal_in_validation",
        "true",
    ]
    words += ["--trainer.val_check_interval", "40"]
    assert fit(*words) == 143
    assert fit(*words) == 0
    assert json.loads(Path("runs/x/metrics.json").read_text()) == {"step": 40}
    assert Path("runs/x/export/layers.pt").exists()
    assert [row["step"] for row in rows_of("runs/x") if "val/loss" in row] == [40]


def test_a_run_goes_on_with_its_steps_dealt_out_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Three batches a step become eight, and at step 3 nine are no multiple of eight: the count has
    to follow.
    """

    def dealt(batch_size: int, accumulated: int) -> list[str]:
        return [
            *(
                "--data.batch_size",
                str(batch_size),
                "--trainer.accumulate_grad_batches",
                str(accumulated),
            ),
            *(
                "--trainer.val_check_interval",
                str(6 * accumulated),
                "--checkpoint.every_n_train_steps",
                "3",
            ),
        ]

    assert fit("x.yaml", *dealt(8, 3), "--trainer.max_steps", "3") == 0
    assert fit("x.yaml", *dealt(3, 6), "--trainer.max_steps", "12") == 2
    assert (
        "24 samples a step and this makes 18; set trainer.accumulate_grad_batches to 8"
        in capsys.readouterr().err
    )
    assert fit("x.yaml", *dealt(3, 8), "--trainer.max_steps", "9") == 0
    assert fit("x.yaml", *dealt(8, 3), "--trainer.max_steps", "12") == 0
    assert (
        fit(
            "x.yaml",
            *dealt(8, 3),
            "--trainer.max_steps",
            "12",
            "--trainer.default_root_dir",
            "runs/whole",
        )
        == 0
    )
    one, two = last_state("runs/x"), last_state("runs/whole")
    torch.testing.assert_close(one["state_dict"], two["state_dict"], rtol=1e-4, atol=1e-6)
    assert one["TinyData"] == two["TinyData"] == {"samples_seen": 12 * 24}
    batches = [run["loops"]["fit_loop"]["epoch_loop.batch_progress"] for run in (one, two)]
    assert batches[0] == batches[1]


def test_resuming_inside_an_accumulation_window_twice_changes_nothing() -> None:
    long = ["--trainer.accumulate_grad_batches", "4", "--checkpoint.every_n_train_steps", "2"]
    long += ["--trainer.log_every_n_steps", "1"]
    assert fit("x.yaml", *long, "--trainer.max_steps", "4") == 0
    assert fit("x.yaml", *long, "--trainer.max_steps", "6") == 0
    assert fit("x.yaml", *long, "--trainer.max_steps", "9") == 0
    assert (
        fit("x.yaml", *long, "--trainer.max_steps", "9", "--trainer.default_root_dir", "runs/whole")
        == 0
    )
    assert_same_run("runs/x", "runs/whole", validated_alike=False)


def test_a_stop_inside_an_accumulation_waits_for_its_step() -> None:
    words = [
        "x.yaml",
        f"{DATA}signal_at",
        "1",
        f"{DATA}signal_name",
        "SIGTERM",
        f"{DATA}signal_in_validation",
        "true",
    ]
    words += [
        "--trainer.accumulate_grad_batches",
        "4",
        "--trainer.val_check_interval",
        "6",
        "--trainer.max_steps",
        "4",
    ]
    assert fit(*words) == 143
    assert (
        last_state("runs/x")["global_step"] == 2
    )  # batch 6, whose validation was signalled, is the second step's
    assert fit(*words) == 0
    whole = uninterrupted("runs/whole", *words)
    torch.testing.assert_close(
        last_state("runs/x")["state_dict"], last_state(whole)["state_dict"], rtol=0, atol=0
    )


def test_weights_that_are_not_finite_never_replace_a_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit("x.yaml", f"{DATA}poison_at", "50") == 2
    err = capsys.readouterr().err
    assert err.startswith("runs/x: step 25: not finite: batch[0]; ")
    assert [path.name for path in checkpoints_of(Path("runs/x"))] == [
        "step-00000020.ckpt",
        "step-00000010.ckpt",
    ]


def test_a_damaged_checkpoint_is_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("x.yaml", "--trainer.max_steps", "20") == 0
    newest = checkpoints_of(Path("runs/x"))[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert fit("x.yaml") == 0
    assert f"{newest}: damaged" in capsys.readouterr().out
    assert fit("x.yaml", "--trainer.default_root_dir", "runs/whole") == 0
    assert_same_run("runs/x", "runs/whole")


def test_a_sweep_line_has_a_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rates.txt").write_text(
        "# rates\n--model.schedule.learning_rate 0.1\n\n--model.schedule.learning_rat 0.2\n"
    )
    words = ["x.yaml", "--sweep", "rates.txt", "--trainer.max_steps", "2"]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert fit(*words) == 0
    assert yaml.safe_load(Path("runs/rates/0/config.yaml").read_text())["model"]["init_args"][
        "schedule"
    ] == {
        "learning_rate": 0.1,
        "width": 4,
    }
    capsys.readouterr()
    assert fit(*words, "--index", "1") == 2
    assert capsys.readouterr().err == (
        "rates.txt, line of index 1: --model.schedule.learning_rat: no such key; "
        "did you mean --model.schedule.learning_rate?\n"
    )
    assert not Path("runs/rates/1").exists()


def test_a_run_continues_anothers_weights_optimiser_and_step_counter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit("x.yaml", "--trainer.max_steps", "25") == 0
    before = last_state("runs/x")
    model = {**EXPERIMENT["model"], "init_args": {"schedule": {"learning_rate": 0.005}}}
    experiment("y.yaml", continue_from="runs/x", model=model, data={"init_args": {"batch_size": 4}})
    assert (
        fit("y.yaml", "--trainer.max_steps", "25") == 0
    )  # nothing to train: the start itself is exported
    exported = torch.load("runs/y/export/layers.pt", weights_only=True)
    torch.testing.assert_close(
        exported, {k[7:]: v for k, v in before["state_dict"].items()}, rtol=0, atol=0
    )
    assert fit("y.yaml", "--trainer.max_steps", "26") == 0
    after = last_state("runs/y")
    assert after["global_step"] == 26
    assert after["TinyData"] == {"samples_seen": 25 * 2 + 4}
    assert after["optimizer_states"][0]["param_groups"][0]["lr"] == 0.005
    assert after["optimizer_states"][0]["state"][0]["step"] == 26
    assert (
        after["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 0
    )  # saved before counting
    assert fit("y.yaml", "--trainer.max_steps", "30") == 0
    assert last_state("runs/y")["global_step"] == 30
    assert (
        "runs/y/checkpoints/step-00000026.ckpt" in capsys.readouterr().out
    )  # resumed from its own


def test_a_checkpoint_that_could_not_be_resumed_from_is_a_bug_at_once() -> None:
    with pytest.raises(RuntimeError, match="only tensors and plain values"):
        fit("x.yaml", "--model.unsafe_state", "true")


class Terminal(io.StringIO):
    """A terminal, as far as a program can tell."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert fit("x.yaml") == 0
    bar, *rest = terminal.getvalue().split("\n")
    assert re.search(r"100%.*40/40 .*loss \d\.\d+", bar.split("\r")[-1])
    assert rest[0] == "runs/x: finished at step 40."


def test_help_needs_no_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "python -m dofsuite.fit experiments/quickstart.yaml" in capsys.readouterr().out
