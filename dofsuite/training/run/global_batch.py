"""Samples of an optimiser step: what stays the same when a run goes on with other devices, and how batches follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

BATCH_SIZE = "data.init_args.batch_size"
ACCUMULATED = "trainer.accumulate_grad_batches"
MICRO_BATCHES = "model.init_args.training.micro_batches"
FACTORS = (BATCH_SIZE, ACCUMULATED, "trainer.devices", "trainer.num_nodes")
"""Keys whose product is the samples of a step."""


def devices_here() -> int:
    """Return how many devices Lightning takes where it may choose: all GPUs, or one CPU process."""
    return torch.cuda.device_count() or 1


def samples_per_step(config: Mapping[str, Any], available: int) -> int:
    """Return the samples that all devices together give an optimiser step.

    Args:
        config: Value of every dotted key of the experiment; a data module without a batch size
            counts its batches.
        available: Devices of the machine, for an experiment that takes all there are.
    """
    ranks = _devices(config, available) * (config.get("trainer.num_nodes") or 1)
    return ranks * (config.get(ACCUMULATED) or 1) * (config.get(BATCH_SIZE) or 1)


def _devices(config: Mapping[str, Any], available: int) -> int:
    """Return the devices of a node, as Lightning counts them."""
    devices, accelerator = (
        config.get("trainer.devices", 1),
        config.get("trainer.accelerator", "auto"),
    )
    if isinstance(devices, str) and "," in devices:
        devices = [name for name in devices.split(",") if name.strip()]
    if isinstance(devices, list):
        return len(devices)
    if devices in ("auto", "-1", -1, None):
        return available if accelerator in ("auto", "gpu", "cuda") else 1
    return int(devices)


def mend(config: Mapping[str, Any], wanted: int, now: int) -> str:
    """Return what to set so that a step that has `now` samples has `wanted` again.

    A module that takes its batch apart itself (`micro_batches`) is given another batch, any other
    accumulates more.
    """
    key = BATCH_SIZE if MICRO_BATCHES in config else ACCUMULATED
    value, rest = divmod(wanted * (config.get(key) or 1), now)
    if rest or value < 1:
        return f"choose {', '.join(FACTORS)} whose product is {wanted}"
    return f"set {key.replace('init_args.', '')} to {value}"


def rescale_batch_counters(checkpoint: dict[str, Any], before: int, now: int) -> dict[str, Any]:
    """Return a checkpoint whose batches are counted as if `now` had always been accumulated for a step.

    Lightning steps wherever the batches of the epoch are a multiple of those to accumulate.
    Checkpoints are saved after whole steps, so this is where the run stands.

    Args:
        checkpoint: As saved under `before` accumulated batches.
        before: Of the run that saved it.
        now: Of this one.
    """
    loops = checkpoint["loops"].get("fit_loop", {})
    progress = loops.get("epoch_loop.batch_progress")
    if progress is None or before == now:
        return checkpoint
    counts = {name: _recounted(progress[name], before, now) for name in ("total", "current")}
    fit_loop = {**loops, "epoch_loop.batch_progress": {**progress, **counts}}
    return {**checkpoint, "loops": {**checkpoint["loops"], "fit_loop": fit_loop}}


def _recounted(counts: Mapping[str, int], before: int, now: int) -> dict[str, int]:
    """Shift all counts by as much as whole steps shift: the last batch may not be counted as completed yet."""
    shift = counts["ready"] // before * (now - before)
    return {name: count + shift for name, count in counts.items()}
