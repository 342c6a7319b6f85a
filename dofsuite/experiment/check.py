"""`fit X.yaml --check`: whether a run will fit and how long it takes, before it is queued.

Nothing is downloaded and no weights are read. The training step runs on fake tensors, so the bytes
and FLOPs are those of the run's own code.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from dofsuite.backbones.perception.remote_code import MayRunRemoteCode
from dofsuite.backbones.quantization import check_can_quantize
from dofsuite.data.manifest import KINDS, MANIFEST_FILE
from dofsuite.data.remote import is_remote
from dofsuite.data.shard_files import files_of
from dofsuite.data.synthetic.names import is_synthetic
from dofsuite.errors import UserError
from dofsuite.experiment.cards import (
    CARDS,
    GIB,
    MEASURED_OVER_COUNTED,
    SPARE_GIB,
    Card,
    card_here,
    share_of_gemm,
    sizes_that_hold,
)
from dofsuite.experiment.downloads import download_lines, licence_lines
from dofsuite.experiment.experiment import Experiment
from dofsuite.experiment.step_costs import Step, StepCosts, step_costs
from dofsuite.experiment.yaml_file import read_experiment_file
from dofsuite.training.checkpoints.space import checkpoint_space
from dofsuite.training.run.record import finished_at


def check(experiment: Experiment) -> int:
    """Print what a run needs; return the exit code.

    Raises:
        UserError: A class refuses its values, or something would stop the run: the first of it.
    """
    problems: list[str] = []
    for line in lines_of(experiment, problems):
        print(line, flush=True)
    if problems:
        raise UserError(problems[0])
    return 0


def lines_of(experiment: Experiment, problems: list[str]) -> Iterator[str]:
    """Say what a run needs of data, downloads, disk, memory and time.

    Args:
        experiment: Parsed.
        problems: Gets a sentence for each thing that would stop the run.
    """
    config, model = experiment.config, experiment.model()
    # What lies on this machine, and what does not yet
    yield f"{experiment.sources[0].source}: the configuration is complete"
    yield from data_lines(config, problems)
    yield from licence_lines(model)
    yield from download_lines(model)
    yield from code_lines(model, config, problems)
    yield from quantization_lines(model, problems)
    # What a step needs of a GPU
    with warnings.catch_warnings():
        # Small networks read their weights, which have no place on the meta device.
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
        costs = step_costs(model, config, first_step(experiment))
    if costs is None:
        yield f"memory, time: not counted for {type(model).__name__}"
        return
    card = card_of(config)
    yield from disk_lines(experiment.folder, costs, config, problems)
    yield from memory_lines(costs, card, problems)
    yield from time_lines(costs, card)


def first_step(experiment: Experiment) -> int:
    """Return the step at which the run that this one continues ends, as far as it can be known."""
    continued = experiment.config["continue_from"]
    if continued is None:
        return 0
    # It has finished, or its file lies beside this one
    if (end := finished_at(Path(continued))) is not None:
        return int(end["step"])
    file = Path(experiment.sources[0].source).with_name(f"{Path(continued).name}.yaml")
    if not file.is_file():
        return 0
    end = read_experiment_file(file).get("trainer", {}).get("max_steps")
    return max(0, end) if isinstance(end, int) else 0


def card_of(config: Mapping[str, Any]) -> Card | None:
    """Return the GPU that is here, or else the one that the file names."""
    return card_here() or (CARDS[config["gpu"]] if config.get("gpu") else None)


def data_lines(config: Mapping[str, Any], problems: list[str]) -> Iterator[str]:
    """Say what each set of shards holds; a missing one is a problem."""
    # All sources and the held-out set
    data = config["data"]["init_args"]
    folders = {f"data.train.{tag}": folder for tag, folder in data.get("train", {}).items()}
    folders |= {"data.val": data["val"]} if data.get("val") else {}
    # A line for each
    for key, folder in folders.items():
        if is_synthetic(folder):
            yield f"{key}: {folder}, which dofsuite makes itself"
            continue
        try:
            manifest = files_of(folder, None).manifest()
        except UserError as error:
            problems.append(f"{key}: {error}")
            yield f"{key}: {error}"
            continue
        encoded = kinds_beside(folder)
        beside = f"; encoded beforehand: {', '.join(encoded)}" if encoded else ""
        yield (
            f"{key}: {manifest.samples} samples in {len(manifest.shards)} shards, "
            f"{manifest.samples_with_depth} with depth{beside}; licence: {manifest.licence}"
        )


def kinds_beside(folder: str) -> list[str]:
    """Return the kinds of side-cars that lie beside a set of shards on this machine."""
    kinds = () if is_remote(folder) or is_synthetic(folder) else KINDS
    return [kind for kind in kinds if (Path(folder) / kind / MANIFEST_FILE).is_file()]


def code_lines(model: Any, config: Mapping[str, Any], problems: list[str]) -> Iterator[str]:
    """Say whose code a run executes; what is not trusted yet is a problem, with what to add."""
    # Nothing of the camera is loaded without a lens, no saliency where the data bring its targets
    folders = config["data"]["init_args"].get("train", {}).values()
    brought = bool(folders) and all("focus_targets" in kinds_beside(each) for each in folders)
    for name, network in vars(model).items():
        place = network.code_place() if isinstance(network, MayRunRemoteCode) else None
        unused = getattr(model, "lens", True) is None or (name == "saliency" and brought)
        if place is None or unused:
            continue
        # A line for each
        where = "@".join(filter(None, place))
        yield f"code: model.{name}: {type(network).__name__} runs code of {where}"
        try:
            network.check_trusted(f"model.{name}")
        except UserError as error:
            problems.append(f"model.{name}: {error}")


def quantization_lines(model: Any, problems: list[str]) -> Iterator[str]:
    """Say why the base cannot be quantized as the file says, if it cannot."""
    try:
        check_can_quantize(getattr(model, "quantize", "none"), "model.quantize")
    except UserError as error:
        problems.append(str(error))
        yield str(error)


def disk_lines(
    folder: Path, costs: StepCosts, config: Mapping[str, Any], problems: list[str]
) -> Iterator[str]:
    trained, averaged = (
        torch.empty(size // 4, device="meta")
        for size in (costs.trained_bytes, costs.averaged_bytes)
    )
    keep = config["checkpoint"]["keep"]
    space = checkpoint_space(folder, [trained], [averaged], keep, costs.moments)
    yield (
        f"disk: a checkpoint has {space.checkpoint / 1e9:.1f} GB; the run needs "
        f"{space.needed / 1e9:.1f} GB in {folder}, {space.free / 1e9:.0f} GB are free"
    )
    if not space.fits:
        problems.append(
            f"{folder}: {space.needed / 1e9:.1f} GB of checkpoints do not fit on its disk; name "
            "another with --trainer.default_root_dir."
        )


def memory_lines(costs: StepCosts, card: Card | None, problems: list[str]) -> Iterator[str]:
    """Say the peak of every kind of step, by component, against the card."""
    # Every kind of step, and what the largest consists of
    largest = max(costs.steps, key=lambda step: step.peak_bytes)
    for step in costs.steps:
        yield f"memory, {step.name}: {peak_gib(step):.1f} GiB a GPU"
    for name, size in sorted(largest.at_peak.items(), key=lambda item: -item[1]):
        yield f"    {name}: {size / GIB * MEASURED_OVER_COUNTED:.1f} GiB"
    yield f"memory: {sizes_that_hold(peak_gib(largest))} ({SPARE_GIB:g} GiB spare)"
    # Against the card
    if card is None:
        yield "memory: no GPU is here to compare with, and the file names none (gpu: H100)"
        return
    usable = card.memory_gib - SPARE_GIB
    fits = peak_gib(largest) <= usable
    yield (
        f"memory: {peak_gib(largest):.1f} of {usable:.1f} GiB of {card.name} "
        f"({SPARE_GIB:g} GiB spare): {'fits' if fits else 'does not fit'}"
    )
    if not fits:
        problems.append(
            f"memory: {peak_gib(largest):.1f} GiB do not fit {card.name}'s {usable:.1f}; lower "
            "data.batch_size, or set model.gradient_checkpointing, or of refocus "
            "model.split_backward or model.quantize."
        )


def peak_gib(step: Step) -> float:
    return step.peak_bytes / GIB * MEASURED_OVER_COUNTED


def time_lines(costs: StepCosts, card: Card | None) -> Iterator[str]:
    """Say FLOPs, and hours at the share of the GPU's matrix rate that was measured."""
    for step in costs.steps:
        yield f"FLOPs, {step.name}: {step.flops / 1e12:.0f} TFLOP a GPU"
    total = costs.total_flops_per_gpu
    if card is None or total is None:
        return
    share, source = share_of_gemm(costs.work, costs.is_compiled)
    hours = total / (share * card.gemm_tflops * 1e12) / 3600
    days = hours * costs.num_gpus / 24
    yield (
        f"time: {hours:.0f} h on {costs.num_gpus} x {card.name} ({days:.1f} GPU-days) at {share:g} "
        f"of {card.gemm_tflops:.0f} TFLOP/s ({source})"
    )
