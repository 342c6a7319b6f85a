"""What a training by turns cannot have, said in one sentence before its first turn, or at the picture that shows it."""

from __future__ import annotations

from collections.abc import Mapping
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


# --- the trainer ---


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


# --- the data ---


def check_sources(stages: Stages, trainer: Trainer) -> None:
    """Refuse a run that will come to Shallow cycles without a Shallow set."""
    data = trainer.datamodule
    if not isinstance(data, ShardData) or len(data.train) == 2 or stages.full_from is None:
        return
    first_shallow = stages.full_from + stages.steps_per_cycle
    if trainer.max_steps < 0 or trainer.max_steps > first_shallow:
        raise UserError(
            f"data.train: from step {first_shallow} on the run learns from a Shallow DoF set; give "
            "it as the second set, or end the run before with trainer.max_steps."
        )


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
        name = "Shallow (second)" if turn.is_shallow else "Deep (first)"
        raise UserError(
            f"data.train: step {turn.step} learns from the {name} set and an image of the other "
            "came: the run's batch_size x devices has changed since it began; give the former."
        )
    has_exif = (batch.f_number > 0) & (batch.focal_length_mm > 0)  # false where they are nan
    if turn.is_shallow and networks.focus is not None and not bool(has_exif.all()):
        key = batch.key[has_exif.tolist().index(False)]
        raise UserError(
            f"data.require_exif: the picture {key} of the Shallow set has no f-number or no focal length, which "
            "the lens needs; take it out, and set this to true to be told before the run begins."
        )


# --- a checkpoint ---


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
