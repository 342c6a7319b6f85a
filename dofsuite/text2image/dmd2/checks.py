"""Startup and per-batch checks of alternating training; each failure is one sentence."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy

from dofsuite.data import Batch, ShardData
from dofsuite.errors import UserError
from dofsuite.text2image.dmd2.stages import Stages, Step
from dofsuite.text2image.dmd2.trained_weights import TrainedWeights
from dofsuite.training import FullySharded

PRECISIONS = ("32-true", "bf16-mixed")


# --- the options ---


def check_trained_teacher(
    teacher_dtype: str, generator_from: str | None, loras: Iterable[str]
) -> None:
    """Check the options of a run that trains the teacher, which they take as it is.

    Raises:
        ValueError: One of them needs a teacher that is not trained.
    """
    # Its precision
    reasons = {}
    if teacher_dtype == "bfloat16":
        reasons["teacher_dtype"] = "a teacher that is trained needs float32 weights"
    # What starts from it
    if generator_from is not None:
        reasons["generator_from"] = "the generator starts as the teacher that this run trains"
    for name in loras:
        reasons[f"{name}_lora"] = "adapters stand on a teacher that stays as it is"
    if reasons:
        key, reason = next(iter(reasons.items()))
        raise ValueError(f"{key}: {reason}; set stages.teacher: 0")


# --- the trainer ---


def check_strategy(trainer: Trainer) -> None:
    """Check for a strategy that accepts weights without gradients and keeps our checkpoints."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get("find_unused_parameters"):
        raise UserError(
            "trainer.strategy: ddp waits for a gradient of every weight, and each step leaves the "
            "other networks' without; write ddp_find_unused_parameters_true, or fsdp2."
        )
    sharded = isinstance(strategy, FSDPStrategy | ModelParallelStrategy)
    if sharded and not isinstance(strategy, FullySharded):
        raise UserError(
            f"trainer.strategy: {type(strategy).__name__} cannot train networks alternately; write "
            "fsdp2, or ddp_find_unused_parameters_true."
        )


def check_callbacks(trainer: Trainer) -> None:
    """Check for no weight averaging by a callback, which does not know alternating optimization.

    It averages after every optimizer step, of which the generator takes one in six; takes the fake
    score into the average too; and Lightning's own, all frozen networks.
    """
    callbacks: list[Callback] = cast(Any, trainer).callbacks
    if any(isinstance(callback, WeightAveraging) for callback in callbacks):
        raise UserError(
            "trainer.callbacks: weight averaging by a callback would average the fake score too, "
            "after every step; set model.training.ema_decay instead."
        )


def check_precision(trainer: Trainer) -> None:
    """Check for a precision that keeps weights in float32 and gradients unscaled.

    A step of the papers' rate, 5e-7, is below a bfloat16 weight's resolution: under `bf16-true` one
    step changed .7 % of the weights. float64 would train, to no use, and frozen networks do not
    take it (*ours*).
    """
    if trainer.precision not in PRECISIONS:
        raise UserError(
            f"trainer.precision: {trainer.precision} does not train float32 weights with unscaled "
            "gradients, which small steps need; write bf16-mixed, or 32-true."
        )


def check_trained_weights(trained: Mapping[str, TrainedWeights]) -> None:
    """Check that all trained weights are float32, for the same reason."""
    for name, group in trained.items():
        for weight in group.parameters():
            if weight.dtype != torch.float32:
                raise UserError(
                    f"model.backbone.dtype: {str(weight.dtype).removeprefix('torch.')} weights of "
                    f"the {name} would round small steps away; write float32 (trainer.precision: "
                    "bf16-mixed still computes in half)."
                )


# --- the data ---


def check_sources(stages: Stages, trainer: Trainer) -> None:
    """Check that a run that comes to Shallow cycles has a Shallow set."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, ShardData) or len(data.train) == 2:
        return
    first_shallow = stages.first_shallow
    if first_shallow is None:
        return
    if trainer.max_steps < 0 or trainer.max_steps > first_shallow:
        raise UserError(
            f"data.train: from step {first_shallow} on the run learns from a Shallow DoF set; give "
            "it as the second set, or end the run before with trainer.max_steps."
        )


def check_batch(batch: Batch, step: Step, size_px: int, has_lens: bool) -> None:
    """Check that a step can learn from a batch.

    Raises:
        UserError: Its images are of another size than the networks', of the other set, or without
            EXIF where the lens needs it.
    """
    height, width = batch.image_srgb.shape[-2:]
    if (height, width) != (size_px, size_px):
        raise UserError(
            f"data.size_px: images of {width} x {height} px came and model.size_px is {size_px}; "
            "give both the same."
        )

    # The set that this step learns from.
    if step.stage != "teacher" and bool((batch.source != int(step.is_shallow)).any()):
        name = "Shallow (second)" if step.is_shallow else "Deep (first)"
        raise UserError(
            f"data.train: step {step.index} learns from the {name} set and an image of the other "
            "came: batch_size x devices has changed since the run began; give the former product."
        )

    # EXIF, for the lens.
    has_exif = (batch.f_number > 0) & (batch.focal_length_mm > 0)  # false where they are NaN
    if step.is_shallow and has_lens and not bool(has_exif.all()):
        key = batch.key[has_exif.tolist().index(False)]
        raise UserError(
            f"data.require_exif: the image {key} of the Shallow set has no f-number or no focal "
            "length, which the lens needs; take it out, and set this to true to be told before the "
            "run begins."
        )


# --- a checkpoint ---


def check_network_signature(
    before: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]
) -> None:
    """Check that a checkpoint's run trained and conditioned the same networks."""
    for network, key in (("focus", "model.lens"), ("teacher", "model.stages.teacher")):
        was_trained, is_trained = (network in each["trained"] for each in (before, now))
        if was_trained != is_trained:
            did, does = ("trained", "does not") if was_trained else ("did not train", "does")
            raise UserError(
                f"{key}: the run that this one continues {did} the {network}'s weights and this "
                f"one {does}; give the value of that run."
            )

    # Adapters of the same networks and shapes; before there were any, all weights were trained.
    earlier_loras, loras = (list(each.get("lora", ())) for each in (before, now))
    if earlier_loras != loras:
        old, new = ("; ".join(lines) or "none" for lines in (earlier_loras, loras))
        raise UserError(
            f"model.generator_lora, model.critic_lora: the run that this one continues had LoRA "
            f"{old}, not {new}; give the values of that run."
        )

    # Checkpoints from before the key was renamed call it `exif`.
    earlier = before.get("exif_conditioned", before.get("exif", now["exif_conditioned"]))
    if list(earlier) != list(now["exif_conditioned"]):
        old, new = (f"[{', '.join(names)}]" for names in (earlier, now["exif_conditioned"]))
        raise UserError(
            f"model.exif_conditioned: the run that this one continues had {old}, not {new}; give "
            "the value of that run."
        )
