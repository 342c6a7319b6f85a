"""An experiment in its run folder: begun, resumed or already finished, and at the end exported."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer

from dofsuite.errors import UserError
from dofsuite.experiment.command import EXIT_STOPPED
from dofsuite.experiment.downloads import licence_lines
from dofsuite.experiment.experiment import Experiment
from dofsuite.experiment.shards_of_run import record_shards
from dofsuite.files import replace_folder, write_json
from dofsuite.training.checkpoints.io import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import (
    KeepNewOptimizerHparams,
    LastValidation,
    as_warm_start,
    checkpoints_of,
    choose_start,
    step_of,
)
from dofsuite.training.run.folder import held, is_first_rank
from dofsuite.training.run.log import RunLog
from dofsuite.training.run.progress import RunProgress
from dofsuite.training.run.record import finished_at, write_record
from dofsuite.training.run.stopping import RunStopped, shield_workers
from dofsuite.training.run.threads import use_usable_cores

LIMITS = ("max_steps", "max_epochs", "max_time")


def run(experiment: Experiment, argv: Sequence[str] = ()) -> int:
    """Train the experiment in its run folder unless it is finished there; return the exit code.

    Raises:
        UserError: The folder holds another experiment, is held by another process, or cannot be
            written.
    """
    use_usable_cores()
    folder, first_rank = experiment.folder, is_first_rank()
    with held(folder):
        experiment.check_against(folder)
        # Finished already: nothing is left to do under these limits.
        if _is_finished(experiment, folder):
            if first_rank:
                _say_where(folder)
            return 0
        # Begin or resume.
        experiment.check_shards(folder)
        try:
            _train(experiment, folder, argv)
        except RunStopped as stop:
            if first_rank:
                print(
                    f"{folder}: {stop} and saved; the same command goes on from there.", flush=True
                )
            return EXIT_STOPPED
    return 0


def _is_finished(experiment: Experiment, folder: Path) -> bool:
    """Whether a run has reached these limits, its export included, and say so.

    Raises:
        UserError: Something is left to do, and the checkpoints are gone that it needs.
    """
    end, limits = finished_at(folder), experiment.config["trainer"]
    if end is None:
        return False
    is_reached = 0 <= limits["max_steps"] <= end["step"] or all(
        end.get(name) == limits.get(name) for name in LIMITS
    )
    has_export = not end.get("export") or (folder / "export").is_dir()
    if not (is_reached and has_export):
        # From nothing it would be trained anew, and its export replaced.
        had_checkpoints = end.get("checkpoints", experiment.config["continue_from"] is None)
        if had_checkpoints and not checkpoints_of(folder):
            raise UserError(
                f"{folder}: finished at step {end['step']}, but its checkpoints are gone, so that "
                "it cannot go on; name another folder with --trainer.default_root_dir."
            )
        return False
    if is_first_rank():
        print(f"{folder}: finished at step {end['step']}; raise --trainer.max_steps to go on.")
    return True


def _train(experiment: Experiment, folder: Path, argv: Sequence[str]) -> None:
    start, continues = choose_start(folder, experiment.config["continue_from"])
    checkpoint_io = AtomicCheckpointIO(on_load=as_warm_start if continues else None)
    # The trainer, with what a run of ours has.
    log, last_validation = RunLog(folder), LastValidation(folder)
    callbacks = [last_validation, *([KeepNewOptimizerHparams()] if continues else [])]
    trainer = experiment.build(log, [checkpoint_io], callbacks, RunProgress())
    log.completed_steps = lambda: trainer.global_step
    if trainer.is_global_zero:
        write_record(folder, experiment.config, argv)
        record_shards(experiment.config, folder, is_begun=bool(start) and not continues)
        log.resume(step_of(start) if start else 0)
        if start is not None:
            print(
                f"{folder}: {'continuing' if continues else 'resuming from'} {start}.", flush=True
            )
    model, data = experiment.cli.model, experiment.cli.datamodule
    if trainer.is_global_zero:
        for line in licence_lines(model):
            print(line, flush=True)
    shield_workers(data)
    with experiment.refused_values(by_lightning=True):
        trainer.fit(model, datamodule=data, ckpt_path=start)
        # A start that only had this left to do (the last one was stopped in its last validation)
        # does it now.
        if trainer.enable_validation and last_validation.step != trainer.global_step:
            trainer.validate(model, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        _finish(trainer, folder, {name: experiment.config["trainer"][name] for name in LIMITS})


def _finish(trainer: Trainer, folder: Path, limits: dict[str, Any]) -> None:
    model: Any = trainer.lightning_module
    has_export = hasattr(model, "export")
    if has_export:
        replace_folder(folder / "export", model.export)
    # A run that had nothing to train has saved no checkpoint.
    has_checkpoints = bool(checkpoints_of(folder))
    end = {"step": trainer.global_step, **limits, "export": has_export}
    end |= {"checkpoints": has_checkpoints}
    write_json(folder / "finished.json", {**end, "finished": time.strftime("%FT%T%z")})
    print(f"{folder}: finished at step {trainer.global_step}.")
    _say_where(folder)


def _say_where(folder: Path) -> None:
    """Name the newest sample sheet, the metrics and the export, as far as the run has them."""
    places = {"sheet": "sheets/*.png", "metrics": "metrics.json", "export": "export"}
    for name, pattern in places.items():
        for path in sorted(folder.glob(pattern))[-1:]:
            print(f"{name:8}{path}", flush=True)
