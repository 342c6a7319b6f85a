"""What trains the small depth and saliency models that dofsuite carries; they stand in for the large ones at 64 px.

Both learn from scenes whose disparity is known (0 far, 1 near, as in `Batch`). Their targets are
*ours*: a depth in metres by the rule of the synthetic scenes, and the nearest thing that stands
    upright.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dofsuite import diffusion
from dofsuite.backbones import Depth, Saliency, SmallDepth, SmallSaliency
from dofsuite.backbones.small.depth import save_small
from dofsuite.data import Batch

NEAR_M, FAR_M = 1.0, 10.0
"""Depth of disparity 1 and of disparity 0 in the synthetic scenes."""

UPRIGHT = 0.004
"""Change of disparity to the next row below which a surface stands upright; a floor in 64 rows changes by .03."""
BEHIND = 0.05
"""Disparity up to which a surface is background, whatever its slope."""
SAME_THING = 0.06
"""Difference of disparity within which upright surfaces are one thing; the synthetic scenes keep twice that."""


def depth_target_m(disparity: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return metres for a disparity in [0, 1]: inverse depth is affine in it, 1 m at 1 and 10 m at 0."""
    return 1 / (1 / FAR_M + (1 / NEAR_M - 1 / FAR_M) * disparity)


def saliency_target(disparity: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return the soft mask in [0, 1] of the nearest thing that stands upright; 0 where nothing does.

    A pixel stands upright if its disparity is that of the pixel above or below it and not the
    background's: things do, a floor rises towards the camera. The mask fades over its outermost
    pixels, inwards alone: outside it is 0, so that a mean of depth by saliency, which is where the
        focus predictor gets its target, holds nothing of the background.
    """
    same = (disparity[..., 1:, :] - disparity[..., :-1, :]).abs() < UPRIGHT
    upright = torch.zeros_like(disparity, dtype=torch.bool)
    upright[..., 1:, :] |= same
    upright[..., :-1, :] |= same
    upright &= disparity > BEHIND
    nearest = torch.where(upright, disparity, 0.0).amax((2, 3), keepdim=True)
    thing = upright & (disparity > nearest - SAME_THING)
    return thing * avg_pool2d(thing.float(), 3, stride=1, padding=1, count_include_pad=False)


def weighted_mean(
    values: Float[Tensor, "b 1 h w"], weights: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    """Return the mean of `values` by `weights`; 0 where no pixel counts."""
    return (values * weights).sum() / weights.sum().clamp(min=1)


class StandIn(pl.LightningModule, ABC):
    """Trains a small network of pictures on batches whose disparity is known."""

    def __init__(
        self,
        backbone: Depth | Saliency,
        optimizer: OptimizerCallable,
        noise_std: float = 0.02,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if noise_std < 0:
            raise ValueError(f"noise_std: must be 0 or above, got {noise_std}")
        self.backbone, self.optimizer, self.noise_std, self.seed = (
            backbone,
            optimizer,
            noise_std,
            seed,
        )
        self.model: torch.nn.Module | None = None

    def configure_model(self) -> None:
        """Build the network and train all of it."""
        if self.model is None:
            self.model = self.backbone.load().requires_grad_(True)

    @abstractmethod
    def losses(self, answer: Tensor, batch: Batch, weights: Tensor) -> dict[str, Tensor]:
        """Return `loss`, and an error that a person can read, of answers [b, 1, h, w] over pixels that count."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Answer for pictures with a little noise, as a generator's are not clean either (*ours*)."""
        noise = diffusion.draw_noise(
            batch.image_srgb.shape[1:], self.seed, batch.index.tolist(), "stand-in"
        )
        losses = self.losses(
            self.model(batch.image_srgb + self.noise_std * noise.to(self.device)),
            batch,
            known(batch),
        )
        self.log_dict(
            {f"train/{name}": loss for name, loss in losses.items()}, batch_size=len(batch.key)
        )
        return losses["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the same of held-out pictures."""
        losses = self.losses(self.model(batch.image_srgb), batch, known(batch))
        self.log_dict(
            {f"val/{name}": loss for name, loss in losses.items()}, batch_size=len(batch.key)
        )

    def configure_optimizers(self) -> dict[str, object]:
        """Make the optimiser; its rate falls along a cosine to 0 at the run's end (*ours*)."""
        optimizer = self.optimizer(self.parameters())
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, max(1, self.trainer.max_steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def export(self, folder: Path) -> None:
        """Write the network as transformers loads it, in 16 bit safetensors."""
        save_small(self.model.network, folder)


def known(batch: Batch) -> Float[Tensor, "b 1 h w"]:
    """Return 1 where the disparity was measured, else 0."""
    return (batch.valid & batch.has_depth[:, None, None, None]).float()


class DepthSurrogate(StandIn):
    """Trains `SmallDepth` on the depth of synthetic scenes, in metres."""

    def __init__(
        self,
        backbone: Depth = SmallDepth(weights=None),  # noqa: B008  (a light description, never changed)
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01),
        noise_std: float = 0.02,
        seed: int = 0,
    ) -> None:
        """Describe the training; the network is built when it begins.

        Args:
            backbone: Which network.
            optimizer: Its rate is the highest of a cosine.
            noise_std: Of noise on display values in training.
            seed: Of that noise.
        """
        super().__init__(backbone, optimizer, noise_std, seed)

    def losses(self, answer: Tensor, batch: Batch, weights: Tensor) -> dict[str, Tensor]:
        """Mean |log D - log D*|: relative error, the same for near and far; and mean |D - D*| / D*."""
        target_m = depth_target_m(batch.disparity)
        loss = weighted_mean((answer.log() - target_m.log()).abs(), weights)
        relative = weighted_mean((answer.detach() - target_m).abs() / target_m, weights)
        return {"loss": loss, "relative_error": relative}


class SaliencySurrogate(StandIn):
    """Trains `SmallSaliency` on the nearest upright thing of synthetic scenes."""

    def __init__(
        self,
        backbone: Saliency = SmallSaliency(weights=None),  # noqa: B008
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01),
        noise_std: float = 0.02,
        seed: int = 0,
    ) -> None:
        """Describe the training; the network is built when it begins.

        Args:
            backbone: Which network.
            optimizer: Its rate is the highest of a cosine.
            noise_std: Of noise on display values in training.
            seed: Of that noise.
        """
        super().__init__(backbone, optimizer, noise_std, seed)

    def losses(self, answer: Tensor, batch: Batch, weights: Tensor) -> dict[str, Tensor]:
        """Cross-entropy and mean |S - S*|, over the pictures in which something stands upright."""
        target = saliency_target(batch.disparity)
        weights = weights * (target.amax((1, 2, 3), keepdim=True) > 0)
        odds = answer.clamp(1e-6, 1 - 1e-6)
        entropy = -(target * odds.log() + (1 - target) * (1 - odds).log())
        error = weighted_mean((answer.detach() - target).abs(), weights)
        return {"loss": weighted_mean(entropy, weights), "absolute_error": error}
