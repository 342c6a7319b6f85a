"""Manual optimisation in turns: one counted step a turn, micro-batches, clipping, the carried sample, checkpoints.

Lightning's accumulation and clipping are for automatic optimisation, so they are arguments here.
`global_step` counts
turns: the focus predictor's own steps go past Lightning (and past a gradient scaler: bfloat16 needs
none, `16-mixed` is not for these trainings).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dofsuite.data import Batch, SourceMix
from dofsuite.text2image.dmd2 import checks as preconditions
from dofsuite.text2image.dmd2.sample_buffer import GeneratedSample, batch_parts
from dofsuite.text2image.dmd2.stages import Stages, Turn
from dofsuite.text2image.networks import Networks
from dofsuite.training.sharding import fsdp as sharding

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Training:
    """How turns become steps.

    Attributes:
        micro_batches: Parts of a batch whose gradients are added up before a turn's step.
        gradient_clip: Largest gradient norm of each optimiser (*inferred* from DMD2: 10).
        warmup_steps: Steps of each optimiser over which its rate rises from nothing (*ours*: 0;
            DMD2 has 500).
        ema_decay: Of a running average of the generator, which is then exported; null for none (as
            DMD2).

    Raises:
        ValueError: on numbers that no training has.
    """

    micro_batches: int = 1
    gradient_clip: float = 10.0
    warmup_steps: int = 0
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        """Refuse them in the words of the experiment file."""
        if self.micro_batches < 1 or self.gradient_clip <= 0 or self.warmup_steps < 0:
            raise ValueError(
                "micro_batches must be 1 or more, gradient_clip above 0, warmup_steps 0 or more"
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay: between 0 and 1 is expected, not {self.ema_decay}")


class AlternatingOptimization(pl.LightningModule):
    """The part of `Text2Image` that is not in the paper.

    Networks are frozen by turns. On several ranks that means `trainer.strategy:
    ddp_find_unused_parameters_true`, since every turn leaves the others' weights without a
    gradient, or `fsdp2` (`dofsuite.training.FullySharded`), with which each rank holds a share of
    the weights; checkpoints are the same with both.
    """

    def __init__(
        self,
        stages: Stages,
        training: Training,
        optimizers: dict[str, OptimizerCallable],
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold trained weights only
        self.stages, self.turning, self.optimizer_of, self.seed = stages, training, optimizers, seed
        self.networks: Any = None
        self.trained: dict[str, nn.ModuleList] = {}
        self.rises: dict[str, LambdaLR] = {}
        self.average: AveragedModel | None = None
        self.carried: GeneratedSample | None = None
        self.meta_networks: dict[
            str, nn.Module
        ] = {}  # of what is dealt over the ranks: see `sharding`
        self.whole: Any = None  # of what is dealt over the ranks, after training: see `export`

    @property
    def source_mix(self) -> SourceMix:
        """Which set each step's samples are drawn from; the data module asks for it."""
        return self.stages.source_mix

    @abstractmethod
    def build(self) -> Networks:
        """Make all networks."""

    @abstractmethod
    def phase(
        self, turn: Turn, batch: Batch, carried: GeneratedSample | None
    ) -> tuple[Losses, GeneratedSample | None]:
        """Return a turn's losses on (a part of) a batch, and the sample that the generator made."""

    def configure_model(self) -> None:
        """Load the frozen networks, and make the trained ones from the seed; deal them over the ranks under FSDP2."""
        if self.networks is None:
            self.make_networks()
        if self.device_mesh is not None and not self.meta_networks:
            mesh = self.device_mesh["data_parallel"]
            self.meta_networks = sharding.shard(
                self.networks, self.average, mesh, self.trainer.precision
            )

    def make_networks(self) -> None:
        """Load and make all networks, the same ones on every rank."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.networks = self.build()
        if self.turning.ema_decay is not None:
            average = get_ema_multi_avg_fn(self.turning.ema_decay)
            self.average = AveragedModel(self.networks.generator, multi_avg_fn=average)
        self.trained = self.networks.trained(with_teacher=self.stages.teacher > 0)
        self.set_requires_grad(self.trained)

    # --- a turn ---

    def training_step(self, batch: Batch, batch_idx: int) -> Losses:
        """Take one turn: its phase on every part of the batch, then one counted step."""
        turn = self.stages.turn(self.global_step)
        preconditions.check_batch(batch, turn, self.stages, self.networks)
        if self.global_step == self.stages.teacher > 0:
            self.networks.init_from_teacher()
        learning = self.active_optimizers(turn)
        self.set_requires_grad(learning)
        losses, made = self.gradients(turn, batch)
        self.carried = GeneratedSample.joined(made) if made else None
        self.step(turn, learning)
        self.set_requires_grad(
            self.trained
        )  # between turns, so that whoever asks sees what is trained (as RunCheckpoint does)
        self.log_dict(
            {f"train/{name}": loss for name, loss in losses.items()}, batch_size=len(batch.key)
        )
        return losses

    def active_optimizers(self, turn: Turn) -> list[str]:
        """Name the optimisers that step in a turn, the counted one first."""
        counted = (
            "teacher" if turn.stage == "teacher" else "generator" if turn.is_generator else "critic"
        )
        return [
            counted,
            *(["focus"] if turn.stage != "teacher" and "focus" in self.trained else []),
        ]

    def set_requires_grad(self, names: Collection[str]) -> None:
        """Ask for the gradients of these groups of weights, and of no others."""
        for name, group in self.trained.items():
            group.requires_grad_(name in names)

    def gradients(self, turn: Turn, batch: Batch) -> tuple[Losses, list[GeneratedSample]]:
        """Add up the gradients of all parts; return the mean losses and what the generator made."""
        parts = batch_parts(batch, self.turning.micro_batches)
        waiting = self.waiting(turn, batch)
        samples = waiting.parts(len(parts)) if waiting else [None] * len(parts)
        totals: Losses = {}
        made = []
        for number, (part, sample) in enumerate(zip(parts, samples, strict=True), start=1):
            with nullcontext() if number == len(parts) else self.apart():
                losses, new = self.phase(turn, part, sample)
                losses = {"loss": torch.stack(list(losses.values())).sum(), **losses}
                self.manual_backward(losses["loss"] / len(parts))
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0) + loss.detach() / len(parts)
            made += [new] if new is not None else []
        return totals, made

    def waiting(self, turn: Turn, batch: Batch) -> GeneratedSample | None:
        """Return the generator's sample of the turn before, if this turn learns from it.

        There is none where the run was resumed in between with another batch size, whose pictures
        it would not pair
        with: the critic then draws one afresh, as on its other turns.
        """
        if (
            not turn.reuses_generator_sample
            or self.carried is None
            or len(self.carried.latent) != len(batch.key)
        ):
            return None
        return self.carried.to(self.device)

    def apart(self) -> AbstractContextManager[None]:
        """Keep gradients to this rank; the last part's backward sends all of them."""
        if self.meta_networks:
            return sharding.apart(self.meta_networks, self.networks)
        strategy = self.trainer.strategy
        return (
            strategy.block_backward_sync()
            if isinstance(strategy, ParallelStrategy)
            else nullcontext()
        )

    def step(self, turn: Turn, learning: list[str]) -> None:
        """Step the turn's optimiser, counted, and the focus predictor's, not counted."""
        optimizers = dict(zip(self.trained, self.optimizers(use_pl_optimizer=True), strict=True))
        for name in learning:
            optimizer = optimizers[name]
            nn.utils.clip_grad_norm_(self.trained[name].parameters(), self.turning.gradient_clip)
            (optimizer.optimizer if name == "focus" else optimizer).step()
            optimizer.zero_grad()
            if self.rises:
                self.rises[name].step()
        if turn.is_generator and self.average is not None:
            self.average.update_parameters(self.networks.generator)

    # --- Lightning ---

    def setup(self, stage: str) -> None:
        """Refuse a strategy and a precision that these trainings cannot have."""
        preconditions.check_strategy(self.trainer)
        preconditions.check_precision(self.trainer)
        preconditions.check_sources(self.stages, self.trainer)

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[LambdaLR]]:
        """Make one optimiser for each group of `trained`, in its order, and let its rate rise."""
        optimizers = {
            name: self.optimizer_of[name](list(group.parameters()))
            for name, group in self.trained.items()
        }
        if turns := self.turning.warmup_steps:
            self.rises = {
                name: LambdaLR(optimizer, lambda taken: min(1.0, (taken + 1) / turns))
                for name, optimizer in optimizers.items()
            }
        return list(optimizers.values()), list(self.rises.values())

    def on_fit_start(self) -> None:
        """Refuse weights that small steps would not change."""
        preconditions.check_trained_weights(self.trained)

    def on_fit_end(self) -> None:
        """Bring together for export what is dealt over the ranks."""
        if self.meta_networks:
            from dofsuite.text2image.export import gather  # which loads diffusers

            self.whole = gather(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained, its kinds, and the sample that waits for the critic; all else is the backbone's."""
        kept = [f"networks.{name}." for name in ("generator", "critic", "head", "focus")] + [
            "average."
        ]
        kept += ["networks.teacher."] if self.stages.teacher else []
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            name: value for name, value in state.items() if name.startswith(tuple(kept))
        }
        checkpoint["carried"] = self.carried.state() if self.carried is not None else None
        checkpoint["kinds"] = preconditions.network_signature(self.trained, self.networks)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the sample that waits for the critic, if the checkpoint is of a run with the same networks."""
        preconditions.check_checkpoint(
            checkpoint, preconditions.network_signature(self.trained, self.networks)
        )
        state = checkpoint.get("carried")
        ranks = (self.trainer.global_rank, self.trainer.world_size)
        self.carried = GeneratedSample.restored(state, *ranks) if state is not None else None
