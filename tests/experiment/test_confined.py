"""What a file may have the classes of the allowed packages do: no code, nothing outside of the run
folder.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
from lightning_fabric.plugins import CheckpointIO, ClusterEnvironment, Precision
from pytorch_lightning import Callback
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins import LayerSync
from pytorch_lightning.profilers import Profiler
from pytorch_lightning.strategies import Strategy

from dofsuite.experiment.confined import PLACE, is_function
from dofsuite.experiment.parser import IMPORTABLE
from dofsuite.fit import main
from tests.experiment.test_mistakes import write

KINDS = (Callback, Logger, Profiler, Strategy, Accelerator, Precision, CheckpointIO, LayerSync)
KINDS += (ClusterEnvironment,)
NO_PLACES = {
    "save_to_log_dir",  # a switch of SaveConfigCallback
    "multifile",
    "add_file_policy",  # of wandb: its own server
    "profiler_kwargs",
}
"""Arguments that are named like places and are none; looked at one by one."""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def named(class_path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"pytorch_lightning.{class_path}", "init_args": arguments}


FUNCTIONS = {
    "a function of ours": "dofsuite.files.clear_leftovers",
    "with arguments": {"class_path": "dofsuite.fit.main", "init_args": {"argv": ["x"]}},
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_file_names_no_function_to_call(function: Any, capsys: pytest.CaptureFixture) -> None:
    callback = named("callbacks.LambdaCallback", on_fit_start=function)
    assert main([write({"trainer.callbacks": [callback]}), "--allow-import", "tests"]) == 2
    said = capsys.readouterr().err
    assert "a file may name no function to call; leave it out, or add --allow-import " in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("module", ["dofsuite.files.os.system", "torch.utils.data.dataloader.os"])
def test_another_module_is_not_reached_through_an_allowed_one(
    module: str, capsys: pytest.CaptureFixture
) -> None:
    callback = named("callbacks.LambdaCallback", on_fit_start=module)
    assert main([write({"trainer.callbacks": [callback]}), "--allow-import", "tests"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


ELSEWHERE = {
    "checkpoints": ("callbacks", [named("callbacks.ModelCheckpoint", dirpath="mine")]),
    "name": ("callbacks", [named("callbacks.ModelCheckpoint", filename="../../mine/x")]),
    "log": ("logger", named("loggers.CSVLogger", save_dir="mine")),
    "profile": ("profiler", named("profilers.SimpleProfiler", dirpath="mine", filename="x")),
}


@pytest.mark.parametrize(("key", "value"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_nothing_is_written_outside_of_the_run_folder(
    key: str, value: Any, capsys: pytest.CaptureFixture
) -> None:
    Path("mine").mkdir()
    assert main([write({f"trainer.{key}": value}), "--allow-import", "tests"]) == 2
    said = capsys.readouterr().err
    assert re.match(rf"x\.yaml: trainer\.{key}.*: .*mine.* lies outside of the run folder", said)
    assert said.count("\n") == 1
    assert list(Path("mine").iterdir()) == []


def test_inside_the_run_folder_and_for_who_trusts_the_file_both_go(
    capsys: pytest.CaptureFixture,
) -> None:
    logger = named("loggers.CSVLogger", save_dir="runs/x/csv")
    assert (
        main([write({"trainer.logger": logger}), "--allow-import", "tests", "--print_config"]) == 0
    )
    assert "save_dir: runs/x/csv" in capsys.readouterr().out
    elsewhere = write({"trainer.logger": named("loggers.CSVLogger", save_dir="mine")})
    trusted = ["--allow-import", "tests,pytorch_lightning", "--print_config"]
    assert main([elsewhere, *trusted]) == 0


def classes_of(package: str) -> set[type]:
    """Every class that is defined in a package, its submodules that can be imported included."""
    found, root = set(), importlib.import_module(package)
    names = [info.name for info in pkgutil.walk_packages(root.__path__, f"{package}.")]
    for name in [package, *names]:
        try:
            module = importlib.import_module(name)
        except ImportError:  # what needs a package that is not here cannot be named either
            continue
        found |= {each for each in vars(module).values() if inspect.isclass(each)}
    return {each for each in found if each.__module__.startswith(package)}


@pytest.mark.slow
@pytest.mark.parametrize("package", IMPORTABLE)
def test_every_class_that_a_trainer_takes_is_confined(package: str) -> None:
    """By its arguments: functions are refused, and what says a place is one that is checked."""
    unchecked = []
    for each in classes_of(package):
        if not issubclass(each, KINDS) or each in KINDS:
            continue
        for name, parameter in inspect.signature(each.__init__).parameters.items():
            like_a_place = re.search(r"dir|path|file|folder|root", name) and name not in NO_PLACES
            if like_a_place and not (PLACE.fullmatch(name) or is_function(parameter)):
                unchecked.append(f"{each.__module__}.{each.__qualname__}: {name}")
    assert unchecked == []
