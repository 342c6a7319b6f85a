"""The job scripts: one sweep line a task, or one run on many; what was stopped is queued again."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from dofsuite.fit import main
from tests.tiny_runs import EXPERIMENT

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "slurm" / "array.sbatch"
TRAIN = ROOT / "experiments" / "slurm" / "train.sbatch"
TASK = {
    "SLURM_JOB_ID": "9",
    "SLURM_JOB_NAME": "dofsuite",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
}
FIRST_OF_ALL = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NNODES": "1"}


def run_task(
    folder: Path,
    exit_code: int,
    *words: str,
    script: Path = SCRIPT,
    replaced: dict[str, str] | None = None,
    **environment: str,
) -> tuple[int, list[str]]:
    """Run the script as Slurm would, with its programs replaced by ones that note how they were
    called.
    """
    (folder / ".venv" / "bin").mkdir(parents=True)
    programs = {
        "bin/srun": 'while [ "${1#--}" != "$1" ]; do shift; done; "$@"',
        "bin/scontrol": 'echo "scontrol $*" >> calls',
        ".venv/bin/python": f'echo "python $*" >> calls; exit {exit_code}',
    }
    (folder / "bin").mkdir()
    programs |= replaced or {}
    for name, body in programs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", script, *words], cwd=folder, env={"PATH": path, **environment}, check=False
    )
    calls = folder / "calls"
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


def test_a_task_runs_its_line_and_passes_overrides_on(tmp_path: Path) -> None:
    code, calls = run_task(
        tmp_path, 0, "x.yaml", "s.txt", "--trainer.max_steps", "3", SLURM_ARRAY_TASK_ID="1"
    )
    assert (code, calls) == (
        0,
        ["python -m dofsuite.fit x.yaml --sweep s.txt --trainer.max_steps 3"],
    )


def test_a_task_that_was_stopped_after_saving_is_queued_again(tmp_path: Path) -> None:
    ids = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    code, calls = run_task(tmp_path, 143, "x.yaml", "s.txt", **ids)
    assert (code, calls[1:]) == (143, ["scontrol requeue 7_1"])


@pytest.mark.parametrize("code", [138, 140])
def test_a_signal_while_python_starts_is_a_stop_too(tmp_path: Path, code: int) -> None:
    ended, calls = run_task(tmp_path, code, "x.yaml", "s.txt", SLURM_JOB_ID="9")
    assert (ended, calls[1:]) == (code, ["scontrol requeue 9"])


def test_a_signal_to_the_batch_script_alone_reaches_the_run(tmp_path: Path) -> None:
    """As `scancel --signal=USR1 --batch` sends it; the run saves for a while before it ends."""
    python = "trap 'sleep 0.3; exit 143' USR1; kill -USR1 $PPID; while :; do sleep 0.05; done"
    replaced = {
        "bin/srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
        ".venv/bin/python": f"echo started >> calls; {python}",
    }
    code, calls = run_task(tmp_path, 0, "x.yaml", "s.txt", replaced=replaced, SLURM_JOB_ID="9")
    assert (code, calls) == (143, ["started", "scontrol requeue 9"])


def test_an_array_ends_all_ranks_of_a_step() -> None:
    assert "srun --kill-on-bad-exit=1 " in SCRIPT.read_text()


def test_a_users_mistake_is_not_queued_again(tmp_path: Path) -> None:
    code, calls = run_task(tmp_path, 2, "x.yaml", "s.txt", SLURM_JOB_ID="9")
    assert (code, len(calls)) == (2, 1)


def test_a_run_on_many_nodes_passes_overrides_on_and_is_queued_again(tmp_path: Path) -> None:
    words = ("x.yaml", "--trainer.num_nodes", "4")
    code, calls = run_task(tmp_path, 143, *words, script=TRAIN, SLURM_JOB_ID="9")
    said = ["python -m dofsuite.fit x.yaml --trainer.num_nodes 4", "scontrol requeue 9"]
    assert (code, calls) == (143, said)


@pytest.mark.parametrize("exit_code", [0, 1, 2, 137])
def test_a_run_that_ended_otherwise_is_not_queued_again(tmp_path: Path, exit_code: int) -> None:
    code, calls = run_task(tmp_path, exit_code, "x.yaml", script=TRAIN, SLURM_JOB_ID="9")
    assert (code, len(calls)) == (exit_code, 1)


def test_a_run_starts_from_any_folder_with_an_interpreter(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    code, calls = run_task(tmp_path, 0, "x.yaml", script=TRAIN, DOFSUITE_PYTHON="nowhere/python")
    assert (code, calls) == (2, [])


@pytest.mark.parametrize("option", ["--requeue", "--open-mode=append", "--signal=USR1@"])
@pytest.mark.parametrize("script", [SCRIPT, TRAIN], ids=lambda script: script.stem)
def test_what_resuming_rests_on_is_asked_for(script: Path, option: str) -> None:
    assert f"#SBATCH {option}" in script.read_text()


def option(words: list[str], name: str) -> str:
    """The value of an option before the script's name, else the script's own."""
    (script,) = [word for word in words if word.endswith(".sbatch")]
    given = [word for word in words[: words.index(script)] if word.startswith(f"--{name}=")]
    own = re.findall(rf"^#SBATCH (--{name}=\S+)", (ROOT / script).read_text(), re.MULTILINE)
    return (given or own)[-1].partition("=")[2]


def of_trainer(words: list[str], name: str) -> str:
    """A key of the trainer: an override of the job's, or the experiment's."""
    if f"--trainer.{name}" in words:
        return words[words.index(f"--trainer.{name}") + 1]
    (experiment,) = [word for word in words if word.endswith(".yaml")]
    return str(yaml.safe_load((ROOT / experiment).read_text())["trainer"].get(name, 1))


@pytest.mark.parametrize(
    "file",
    ["docs/training.md", "experiments/slurm/array.sbatch", "experiments/slurm/train.sbatch"],
)
def test_a_documented_job_has_a_task_and_a_gpu_for_every_device(file: str) -> None:
    lines = re.findall(
        r"^(?:#\s+)?(sbatch .*\.sbatch .*\.yaml.*)", (ROOT / file).read_text(), re.MULTILINE
    )
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        devices = of_trainer(words, "devices")
        assert option(words, "ntasks-per-node") == option(words, "gpus-per-node") == devices
        assert option(words, "nodes") == of_trainer(words, "num_nodes")


def test_pages_that_experiments_cite_exist() -> None:
    cited = set()
    for file in (ROOT / "experiments").rglob("*.*"):
        cited |= set(re.findall(r"\b(?:docs/)?[\w-]+\.md\b", file.read_text()))
    assert "docs/data.md" in cited
    assert [page for page in cited if not (ROOT / page).is_file()] == []


def test_a_job_with_another_number_of_tasks_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {**TASK, **FIRST_OF_ALL}.items():
        monkeypatch.setenv(name, value)
    Path("x.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    assert main(["x.yaml", "--allow-import", "tests", "--trainer.devices", "2"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "command line: --trainer.devices: You set `devices=2` in Lightning, but the number of tasks"
    )
    assert said.count("\n") == 1
