"""Alternating optimization: one counted step per batch, micro-batches, clipping, checkpoints.

Lightning's accumulation and clipping are for automatic optimization, so they are arguments here.
`global_step` counts steps of generator, critic and teacher: the focus predictor's own go past
Lightning (and past a gradient scaler: bfloat16 needs none, `16-mixed` is not supported).
"""

from abc import abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dofsuite.backbones import Acceleration
from dofsuite.data import Batch
from dofsuite.data.source_mix import SourceMix
from dofsuite.text2image.dmd2 import checks
from dofsuite.text2image.dmd2.sample_buffer import GeneratedSample, split_batch
from dofsuite.text2image.dmd2.stages import Stages, Step
from dofsuite.text2image.dmd2.trained_weights import TrainedWeights, is_trained
from dofsuite.text2image.dmd2.training_options import Training
from dofsuite.text2image.networks import Networks
from dofsuite.training.checkpoints.compatibility import TEXT2IMAGE_STATE_DICT, renamed
from dofsuite.training.optimizers import fuse
from dofsuite.training.run.log import logs_this_step
from dofsuite.training.run.nonfinite import clip_gradients, make_step
from dofsuite.training.sharding import fsdp

Losses = dict[str, Tensor]


class AlternatingOptimization(pl.LightningModule):
    """The part of `Text2Image` that is not in the paper.

    Networks are frozen alternately. On several ranks that means `trainer.strategy:
    ddp_find_unused_parameters_true`, since every step leaves some weights without a gradient, or
    `fsdp2` (`dofsuite.training.FullySharded`), which shards the weights; checkpoints are the same
    with both.
    """

    def __init__(
        self,
        stages: Stages,
        training: Training,
        optimizers: dict[str, OptimizerCallable],
        acceleration: Acceleration,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold trained weights only
        self.stages, self.seed = stages, seed
        self.training_config, self.optimizer_factories = training, optimizers
        self.acceleration = acceleration
        self.networks: Any = None
        self.trained: dict[str, TrainedWeights] = {}
        self.lr_schedulers_by_name: dict[str, LambdaLR] = {}
        self.ema_generator: AveragedModel | None = None
        self.generated: GeneratedSample | None = None
        # Figures that this step's losses noted, and the last of each name: ever, and since the last
        # row of the log.
        self.noted: dict[str, list[Tensor]] = {}
        self.latest, self.unlogged = dict[str, Tensor](), dict[str, Tensor]()
        # Copies on the meta device of what FSDP2 shards, and its gathered weights after training.
        self.meta_networks: dict[str, nn.Module] = {}
        self.full_networks: Any = None

    @property
    def source_mix(self) -> SourceMix:
        # Which set each step's samples are drawn from; the data module reads it.
        return self.stages.source_mix

    @property
    def brought(self) -> Collection[str]:
        """Kinds of side-cars that all photographs and captions come with."""
        data = self._trainer and getattr(self._trainer, "datamodule", None)
        return getattr(data, "brought", ())

    @abstractmethod
    def build(self) -> Networks: ...

    @abstractmethod
    def losses(
        self, step: Step, batch: Batch, sample: GeneratedSample | None
    ) -> tuple[Losses, GeneratedSample | None]:
        """Return a step's losses on a (micro-)batch, and the sample that the generator made."""

    @abstractmethod
    def gather_for_export(self) -> Any:
        """Gather what is sharded and exported on the first rank. Collective."""

    def configure_model(self) -> None:
        # Load frozen networks and build trained ones, the same on every rank.
        if self.networks is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self.networks = self.build()
            if self.training_config.ema_decay is not None:
                ema = get_ema_multi_avg_fn(self.training_config.ema_decay)
                self.ema_generator = AveragedModel(self.networks.generator, multi_avg_fn=ema)
                self.networks.share_frozen(self.ema_generator.module)
            self.trained = self.networks.trained(with_teacher=self.stages.teacher > 0)
            self.set_requires_grad(self.trained)
        # Shard them under FSDP2.
        if self.device_mesh is not None and not self.meta_networks:
            self.networks.accelerate(self.acceleration)
            mesh = fsdp.data_mesh(self.device_mesh)
            self.meta_networks = fsdp.shard_networks(
                self.networks, self.ema_generator, mesh, self.trainer.precision
            )

    # --- one optimizer step ---

    def training_step(self, batch: Batch, batch_idx: int) -> Losses:
        # What this step trains, and from what.
        step = self.stages.step(self.global_step)
        networks = self.networks
        if self.global_step == self.stages.teacher > 0:
            networks.init_from_teacher()
        active = self.active_optimizers(step)
        self.set_requires_grad(active)

        # Gradients, and the sample that the next critic step reuses.
        losses, generated = self.accumulate_gradients(step, batch)
        self.generated = GeneratedSample.joined(generated) if generated else None
        self.step_optimizers(step, active)

        # Between steps all trained weights require gradients: RunCheckpoint inspects them.
        self.networks.release_working_copies()
        self.set_requires_grad(self.trained)
        self.log_latest(losses, len(batch.key))
        return losses

    def note(self, name: str, value: Tensor) -> None:
        """Note the mean of a figure that is logged beside the losses; waits for no device."""
        self.noted.setdefault(name, []).append(value.detach().float().mean())

    def log_latest(self, losses: Losses, batch_size: int) -> None:
        """Log the last value of every loss and figure since the last row, in logged steps.

        A step has the figures of its network and kind alone; a row of several steps has more.
        """
        noted = {name: torch.stack(values).mean() for name, values in self.noted.items()}
        self.noted.clear()
        new = {f"train/{name}": value for name, value in (losses | noted).items()}
        self.latest |= new
        self.unlogged |= new
        if logs_this_step(self.trainer):
            self.log_dict(self.unlogged, batch_size=batch_size)
            self.unlogged = {}

    def active_optimizers(self, step: Step) -> list[str]:
        if step.stage == "teacher":
            return ["teacher"]
        counted = "generator" if step.is_generator else "critic"
        return [counted, "focus"] if "focus" in self.trained else [counted]

    def set_requires_grad(self, names: Collection[str]) -> None:
        for name, group in self.trained.items():
            group.requires_grad_(name in names)

    def accumulate_gradients(
        self, step: Step, batch: Batch
    ) -> tuple[Losses, list[GeneratedSample]]:
        """Accumulate gradients over micro-batches; return mean losses and generated samples."""
        parts = split_batch(batch, self.training_config.micro_batches)
        pending = self.pending_sample(step, batch)
        samples = pending.split(len(parts)) if pending else [None] * len(parts)
        self.loss_terms: Losses = {}
        generated = []
        for number, (part, sample) in enumerate(zip(parts, samples, strict=True), start=1):
            # Gradients are reduced over ranks in the last backward alone.
            with nullcontext() if number == len(parts) else self.no_sync():
                self.networks.bind_working_copies()
                losses, new = self.losses(step, part, sample)
                losses = {"loss": torch.stack(list(losses.values())).sum(), **losses}
                self.manual_backward(losses["loss"] / len(parts))
            for name, loss in losses.items():
                self.loss_terms[name] = self.loss_terms.get(name, 0) + loss.detach() / len(parts)
            generated += [new] if new is not None else []
        return self.loss_terms, generated

    def pending_sample(self, step: Step, batch: Batch) -> GeneratedSample | None:
        """Return the sample buffered from the last generator step, if this step learns from it.

        None where the batch size changed on resume, so that the buffered sample no longer matches
        the batch: the critic then draws a new one, as in its other steps.
        """
        sample = self.generated
        if not step.reuses_generator_sample or sample is None:
            return None
        return sample.to(self.device) if len(sample.latent) == len(batch.key) else None

    def no_sync(self) -> AbstractContextManager[None]:
        # Gradients add up on each rank; the next backward outside reduces them over ranks.
        if self.meta_networks:
            return fsdp.no_sync([getattr(self.networks, name) for name in self.meta_networks])
        strategy = self.trainer.strategy
        return (
            strategy.block_backward_sync()
            if isinstance(strategy, ParallelStrategy)
            else nullcontext()
        )

    def step_optimizers(self, step: Step, active: list[str]) -> None:
        """Clip and step: the counted optimizer through Lightning, the focus predictor's past it."""
        all_optimizers = cast("list[LightningOptimizer]", self.optimizers(use_pl_optimizer=True))
        optimizers = dict(zip(self.trained, all_optimizers, strict=True))
        clip = self.training_config.gradient_clip
        for name in active:
            # The gradient's norm, clipped, and the step.
            optimizer = optimizers[name]
            norm = clip_gradients(self, optimizer.optimizer, clip)
            self.note(f"gradient_norm/{name}", fsdp.full(norm))
            if name == "focus":
                make_step(self, optimizer.optimizer)
            else:
                optimizer.step()
            optimizer.zero_grad()
            if self.lr_schedulers_by_name:
                self.lr_schedulers_by_name[name].step()
        if step.is_generator and self.ema_generator is not None:
            self.ema_generator.update_parameters(self.networks.generator)

    # --- Lightning ---

    def setup(self, stage: str) -> None:
        checks.check_strategy(self.trainer)
        checks.check_precision(self.trainer)
        checks.check_callbacks(self.trainer)
        checks.check_sources(self.stages, self.trainer)

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[LambdaLR]]:
        """One optimizer per parameter group, in the order of `trained`."""
        # What is trained, each at its own rate.
        optimizers = {
            name: self.optimizer_factories[name](list(group.parameters()))
            for name, group in self.trained.items()
        }
        # Their rates over the run.
        if self.training_config.has_lr_schedules:
            self.lr_schedulers_by_name = {
                name: LambdaLR(
                    optimizer,
                    partial(
                        self.training_config.lr_schedule(name).factor,
                        max_steps=self.stages.teacher,
                    ),
                )
                for name, optimizer in optimizers.items()
            }
        fused = [fuse(optimizer) for optimizer in optimizers.values()]
        return fused, list(self.lr_schedulers_by_name.values())

    def on_fit_start(self) -> None:
        checks.check_trained_weights(self.trained)

    def check_batch(self, batch: Batch) -> None:
        # `ShardData` calls it while the batch is on the CPU, where looking waits for nothing.
        networks, step = self.networks, self.stages.step(self.global_step)
        checks.check_batch(batch, step, networks.size_px, networks.focus is not None)

    def on_train_start(self) -> None:
        # Once the weights are on their device and restored.
        if self.meta_networks:
            return
        if self.training_config.working_copies and self.trainer.precision == "bf16-mixed":
            self.networks.use_working_copies()
        self.networks.accelerate(self.acceleration)

    def on_fit_end(self) -> None:
        self.networks.working.clear()
        if self.meta_networks:
            self.full_networks = self.gather_for_export()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Trained weights alone: the rest is frozen.
        names = ["generator", "critic", "discriminator", "focus"]
        names += ["teacher"] if self.stages.teacher else []
        roots = {f"networks.{name}.": getattr(self.networks, name) for name in names}
        if self.ema_generator is not None:
            roots |= {"ema_generator.module.": self.ema_generator.module}
            roots |= {"ema_generator.n_averaged": self.ema_generator}
        checkpoint["state_dict"] = {
            key: value
            for key, value in checkpoint["state_dict"].items()
            for prefix, root in roots.items()
            if key.startswith(prefix) and is_trained(root, key)
        }
        checkpoint["generated"] = self.generated.state() if self.generated is not None else None
        checkpoint["network_signature"] = self._network_signature()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The same networks are trained; checkpoints from before the renames have other names.
        checkpoint["state_dict"] = renamed(checkpoint["state_dict"], TEXT2IMAGE_STATE_DICT)
        signature = checkpoint.get("network_signature", checkpoint.get("kinds"))
        if signature is not None:
            checks.check_network_signature(signature, self._network_signature())

        # The buffered sample.
        state, trainer = checkpoint.get("generated", checkpoint.get("carried")), self.trainer
        self.generated = state and GeneratedSample.from_state(
            state, trainer.global_rank, trainer.world_size
        )

    def _network_signature(self) -> dict[str, list[str]]:
        return {
            "trained": list(self.trained),
            "exif_conditioned": sorted(self.networks.exif_conditioned),
            "lora": self.networks.described_loras,
        }
