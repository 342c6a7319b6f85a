"""The steps of both works' trainings: FLOPs, peak memory, how often each is taken."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from dofsuite.refocus import Refocus
from dofsuite.refocus.footprint import step_footprint as refocus_footprint
from dofsuite.text2image import Text2Image
from dofsuite.text2image.footprint import averaged_weights, kind_of, sharded, step_kinds
from dofsuite.text2image.footprint import step_footprint as text2image_footprint
from dofsuite.training.checkpoints.space import bytes_of
from dofsuite.training.footprint import Footprint


@dataclass(frozen=True)
class Step:
    """One kind of optimizer step, on one GPU."""

    name: str
    # All of its micro-batches.
    flops: int
    peak_bytes: int
    at_peak: dict[str, int]


@dataclass(frozen=True)
class StepCosts:
    """A run's steps."""

    work: str
    steps: tuple[Step, ...]
    num_gpus: int
    # FLOPs of the whole run; None where it is not limited in steps.
    total_flops_per_gpu: float | None
    is_compiled: bool
    # Of the float32 weights that are trained, and of an average that checkpoints hold too.
    trained_bytes: int
    averaged_bytes: int = 0
    # Float32 numbers that the optimizer keeps for each of them.
    moments: float = 2


def step_costs(model: object, config: Mapping[str, Any], first_step: int = 0) -> StepCosts | None:
    """Count the steps of an experiment; None for a model that is neither work's.

    Args:
        model: Configured, not built.
        config: The resolved experiment.
        first_step: Where it begins; above 0 if it continues another run.
    """
    if isinstance(model, Refocus):
        return _refocus(model, config, first_step)
    return _text2image(model, config, first_step) if isinstance(model, Text2Image) else None


def num_gpus(config: Mapping[str, Any]) -> int:
    devices = config["trainer"]["devices"]
    count = devices if isinstance(devices, int) and devices > 0 else 1
    return count * (config["trainer"]["num_nodes"] or 1)


def moments_of(counted: Footprint) -> float:
    return counted.at_peak.get("optimizer", 0) / counted.trained_bytes


def _refocus(model: Refocus, config: Mapping[str, Any], first_step: int) -> StepCosts:
    data, trainer = config["data"]["init_args"], config["trainer"]
    is_mixed = "mixed" in str(trainer["precision"])
    counted = refocus_footprint(model, data["batch_size"], data["size_px"], is_mixed)
    # DDP reduces gradients in buckets: one more copy of them.
    buckets = counted.trained_bytes if num_gpus(config) > 1 else 0
    at_peak = counted.at_peak | ({"DDP's buckets": buckets} if buckets else {})
    flops = counted.flops * trainer["accumulate_grad_batches"]
    step = Step("a step", flops, counted.peak_bytes + buckets, at_peak)
    steps = trainer["max_steps"] - first_step
    total = float(flops) * steps if steps > 0 else None
    is_compiled = model.acceleration.compile == "blocks"
    return StepCosts(
        "refocus",
        (step,),
        num_gpus(config),
        total,
        is_compiled,
        counted.trained_bytes,
        moments=moments_of(counted),
    )


def _text2image(model: Text2Image, config: Mapping[str, Any], first_step: int) -> StepCosts:
    data, trainer = config["data"]["init_args"], config["trainer"]
    gpus = num_gpus(config)
    is_sharded = "fsdp" in str(trainer["strategy"]).lower() and gpus > 1
    micro_batches = model.training_config.micro_batches
    # Every kind of step; under FSDP2 each GPU holds a part of what stands
    steps: dict[str, Step] = {}
    trained_bytes, moments = 0, 2.0
    for name, index in tqdm(step_kinds(model).items(), desc="counting steps", leave=False):
        batch_size = data["batch_size"] // micro_batches
        counted = text2image_footprint(model, index, batch_size, data["size_px"])
        trained_bytes, moments = counted.trained_bytes, moments_of(counted)
        if is_sharded:
            counted = sharded(counted, model, index, gpus)
        # DDP: one more copy of all gradients, in buckets
        buckets = trained_bytes if gpus > 1 and not is_sharded else 0
        at_peak = counted.at_peak | ({"DDP's buckets": buckets} if buckets else {})
        flops = counted.flops * micro_batches
        steps[name] = Step(name, flops, counted.peak_bytes + buckets, at_peak)
    # How often each is taken in the run
    total = None
    if trainer["max_steps"] > 0:
        indices = range(first_step, trainer["max_steps"])
        taken = Counter(kind_of(model.stages.step(index)) for index in indices)
        total = float(sum(steps[name].flops * count for name, count in taken.items()))
    averaged_bytes = bytes_of(averaged_weights(model))
    is_compiled = model.acceleration.compile == "blocks"
    return StepCosts(
        "text2image",
        tuple(steps.values()),
        gpus,
        total,
        is_compiled,
        trained_bytes,
        averaged_bytes,
        moments,
    )
