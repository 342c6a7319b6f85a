"""Samples of an optimizer step (the global batch), which stay the same when a run is resumed."""

from collections.abc import Mapping
from typing import Any

import torch

BATCH_SIZE = "data.init_args.batch_size"
ACCUMULATED = "trainer.accumulate_grad_batches"
MICRO_BATCHES = "model.init_args.training.micro_batches"
# Keys whose product is the samples of an optimizer step.
FACTORS = (BATCH_SIZE, ACCUMULATED, "trainer.devices", "trainer.num_nodes")


def devices_here() -> int:
    """Return the devices that Lightning uses under `auto`: all GPUs, or one CPU process."""
    return torch.cuda.device_count() or 1


def samples_per_step(config: Mapping[str, Any], available: int) -> int:
    """Return the samples of an optimizer step, over all devices.

    Args:
        config: The experiment's values by dotted key; without a batch size, batches are counted.
        available: Devices of the machine, for an experiment that uses all of them.
    """
    world_size = _devices(config, available) * (config.get("trainer.num_nodes") or 1)
    return world_size * (config.get(ACCUMULATED) or 1) * (config.get(BATCH_SIZE) or 1)


# The devices of a node, as Lightning counts them.
def _devices(config: Mapping[str, Any], available: int) -> int:
    devices = config.get("trainer.devices", 1)
    if isinstance(devices, str) and "," in devices:
        devices = [name for name in devices.split(",") if name.strip()]
    if isinstance(devices, list):
        return len(devices)
    if devices in ("auto", "-1", -1, None):
        uses_gpus = config.get("trainer.accelerator", "auto") in ("auto", "gpu", "cuda")
        return available if uses_gpus else 1
    return int(devices)


def fix_hint(config: Mapping[str, Any], wanted: int, now: int) -> str:
    """Return what to set so that a step of `now` samples has `wanted` again.

    A module that splits its batch itself (`micro_batches`) needs another batch size, any other
    another accumulation.
    """
    key = BATCH_SIZE if MICRO_BATCHES in config else ACCUMULATED
    value, rest = divmod(wanted * (config.get(key) or 1), now)
    if rest or value < 1:
        return f"choose {', '.join(FACTORS)} whose product is {wanted}"
    return f"set {key.replace('init_args.', '')} to {value}"


def rescale_batch_counters(checkpoint: dict[str, Any], before: int, now: int) -> dict[str, Any]:
    """Return a checkpoint whose batches are counted as if a step had always accumulated `now`.

    Lightning steps when the batch index in the epoch is a multiple of `accumulate_grad_batches`, so
    that a resumed run with another accumulation would step at the wrong batch.

    Args:
        checkpoint: Saved after a whole optimizer step of `before` batches.
        before: Accumulated batches of the run that saved it.
        now: Accumulated batches of this run.
    """
    loops = checkpoint["loops"].get("fit_loop", {})
    progress = loops.get("epoch_loop.batch_progress")
    if progress is None or before == now:
        return checkpoint
    # All counts shift alike: the last batch may not be counted as completed yet.
    rescaled = dict(progress)
    for name in ("total", "current"):
        shift = progress[name]["ready"] // before * (now - before)
        rescaled[name] = {key: count + shift for key, count in progress[name].items()}
    fit_loop = {**loops, "epoch_loop.batch_progress": rescaled}
    return {**checkpoint, "loops": {**checkpoint["loops"], "fit_loop": fit_loop}}
