"""What a training by turns cannot have, said in one sentence before its first turn, or at the picture that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn

from dofsuite.data import Batch, ShardData
from dofsuite.errors import UserError
from dofsuite.text2image.dmd2.stages import Stages, Turn
from dofsuite.training import FullySharded

if TYPE_CHECKING:
    from dofsuite.text2image.networks import Networks

PRECISIONS = ("32-true", "bf16-mixed")
CYCLES_COMPARED = 3
"""Cycles of the full stage after which a schedule that has fitted goes on fitting: each set has begun and ended."""
A_LONG_RUN = 100_000
"""Turns that are compared of a deep stage without an end."""


# --- the trainer -----------------------------------------------------------------------------------------------------


def check_strategy(trainer: Trainer) -> None:
    """Refuse strategies that want a gradient of every weight on every turn, or whose checkpoints do not fit.

    Raises:
        UserError: The trainer's strategy is one of them.
    """
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get("find_unused_parameters"):
        raise UserError(
            "trainer.strategy: ddp waits for a gradient of every weight, and each turn leaves the other networks' "
            "without; write ddp_find_unused_parameters_true, or fsdp2."
        )
    if isinstance(strategy, FSDPStrategy | ModelParallelStrategy) and not isinstance(
        strategy, FullySharded
    ):
        raise UserError(
            f"trainer.strategy: {type(strategy).__name__} cannot train networks by turns; write fsdp2, or "
            "ddp_find_unused_parameters_true."
        )


def check_precision(trainer: Trainer) -> None:
    """Refuse precisions that do not keep the weights in float32, and those that scale gradients.

    A step of the papers' rate, 5e-7, is below what a bfloat16 weight can tell from none: under
    `bf16-true` one step changed .7 % of the weights. float64 would train, to no use, and frozen
    networks do not take it (*ours*).

    Raises:
        UserError: The trainer's precision is another than `32-true` or `bf16-mixed`.
    """
    if trainer.precision not in PRECISIONS:
        raise UserError(
            f"trainer.precision: {trainer.precision} does not train float32 weights with unscaled gradients, which "
            "small steps need; write bf16-mixed, or 32-true."
        )


def check_trained_weights(trained: Mapping[str, nn.Module]) -> None:
    """Refuse trained weights in another type than float32, for the same reason.

    Raises:
        UserError: The backbone loads them in another.
    """
    for name, group in trained.items():
        for weight in group.parameters():
            if weight.dtype != torch.float32:
                raise UserError(
                    f"model.backbone.dtype: {str(weight.dtype).removeprefix('torch.')} weights of the {name} would "
                    "round small steps away; write float32 (with trainer.precision: bf16-mixed they are used in half)."
                )


# --- the data --------------------------------------------------------------------------------------------------------


def check_schedule(stages: Stages, trainer: Trainer) -> None:
    """Refuse data whose sets do not come on the turns that learn from them, from where the run stands to its end.

    Raises:
        UserError: Both sets come in turn on other turns than the teacher's, or a turn would get the
            other set.
    """
    data = trainer.datamodule
    if not isinstance(data, ShardData):
        return
    mixed = getattr(data.schedule, "interleave_steps", 0) if len(data.train) == 2 else 0
    if mixed not in (0, stages.teacher):
        raise UserError(
            f"data.schedule.interleave_steps: {mixed} turns draw from both sets, and the teacher's, which alone learn from "
            f"both, are {stages.teacher}; give interleave_steps: {stages.teacher}, or change model.stages.teacher."
        )
    batch = data.batch_size * trainer.world_size
    last = trainer.max_steps if trainer.max_steps >= 0 else inf
    wrong = first_wrong_turn(stages, data, batch, trainer.global_step, last)
    if wrong is not None:
        raise UserError(f"data.schedule: {wanted_set(stages, wrong, 'would come', batch)}")


def first_wrong_turn(
    stages: Stages, data: ShardData, batch: int, begun: int, last: float | int
) -> Turn | None:
    """Return the first of the turns `[begun, last)` that would get a picture of the other set.

    Args:
        stages: Of the run.
        data: Whose next sample is turn `begun`'s first.
        batch: Samples of a turn, of all ranks.
        begun: Turns that were taken.
        last: `trainer.max_steps`, or infinity.
    """

    def shallow_before(turn: int) -> int:
        position = data.samples_seen + (turn - begun) * batch
        return data.schedule.num_second_before(position, data.seed) if len(data.train) == 2 else 0

    first = max(begun, stages.teacher)
    full = stages.full_from if stages.full_from is not None else begun + A_LONG_RUN
    end = max(first, full) + CYCLES_COMPARED * stages.steps_per_cycle
    for turn in map(stages.turn, range(first, int(min(last, end)))):
        if shallow_before(turn.step + 1) - shallow_before(turn.step) != batch * turn.is_shallow:
            return turn
    return None


def check_batch(batch: Batch, turn: Turn, stages: Stages, networks: Networks) -> None:
    """Refuse pictures that a turn cannot learn from.

    Raises:
        UserError: They are of another size than the networks', of the other set, or without EXIF
            where there is a lens.
    """
    side = networks.size_px
    if tuple(batch.image_srgb.shape[-2:]) != (side, side):
        height, width = batch.image_srgb.shape[-2:]
        raise UserError(
            f"data.size_px: pictures of {width} x {height} px came and model.size_px is {side}; give both the same."
        )
    if turn.stage != "teacher" and bool((batch.source != int(turn.is_shallow)).any()):
        raise UserError(f"data.schedule: {wanted_set(stages, turn, 'came')}")
    has_exif = (batch.f_number > 0) & (batch.focal_length_mm > 0)  # false where they are nan
    if turn.is_shallow and networks.focus is not None and not bool(has_exif.all()):
        key = batch.key[has_exif.tolist().index(False)]
        raise UserError(
            f"data.require_exif: the picture {key} of the Shallow set has no f-number or no focal length, which "
            "the lens needs; take it out, and set this to true to be told before the run begins."
        )


def wanted_set(stages: Stages, turn: Turn, came: str, batch: int | None = None) -> str:
    """Say which set a turn needs where the other `came`, and how to give it."""
    name = "Shallow (second)" if turn.is_shallow else "Deep (first)"
    said = f"turn {turn.step} learns from the {name} set of data.train and a picture of the other {came}; "
    if stages.full_from is None:
        return said + "give the Deep set alone, or end the deep stage with model.stages.deep."
    samples = "data.batch_size x ranks" if batch is None else f"{batch} (data.batch_size x ranks)"
    return (
        said
        + f"give turns: {stages.steps_per_cycle}, start_step: {stages.full_from} and samples_per_step: {samples}."
    )


# --- a checkpoint ----------------------------------------------------------------------------------------------------


def network_signature(trained: Mapping[str, Any], networks: Networks) -> dict[str, list[str]]:
    """Return what a checkpoint notes of the run that wrote it."""
    return {"trained": list(trained), "exif": sorted(networks.exif_names)}


def check_checkpoint(checkpoint: Mapping[str, Any], kinds: Mapping[str, list[str]]) -> None:
    """Refuse the checkpoint of a run with other networks; those of before this was noted are not compared.

    Raises:
        UserError: Other networks were trained or told the EXIF.
    """
    earlier = checkpoint.get("kinds", kinds)
    before, now = earlier["trained"], kinds["trained"]
    for network, key in (("focus", "model.lens"), ("teacher", "model.stages.teacher")):
        if (network in before) != (network in now):
            did, does = ("trained", "does not") if network in before else ("did not train", "does")
            raise UserError(
                f"{key}: the run that this one continues {did} the {network}'s weights and this one {does}; give the "
                "value of that run."
            )
    if earlier["exif"] != kinds["exif"]:
        told, tells = (f"[{', '.join(names)}]" for names in (earlier["exif"], kinds["exif"]))
        raise UserError(
            f"model.exif: the run that this one continues had {told}, not {tells}; give the value of that run."
        )
