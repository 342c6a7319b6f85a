"""Training of the small depth and saliency networks shipped with dofsuite (64 px images).

Both learn from synthetic scenes of known disparity (0 far, 1 near, as in `Batch`). Their targets
are *ours*: depth in metres by the scenes' own rule, and the nearest upright object.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dofsuite import diffusion
from dofsuite.backbones import Depth, Saliency, SmallDepth, SmallSaliency
from dofsuite.backbones.small.depth import save_small
from dofsuite.data import Batch
from dofsuite.pretraining.cosine_decay import with_cosine_decay

# Depth of disparity 1 and of disparity 0 in the synthetic scenes.
NEAR_M, FAR_M = 1.0, 10.0

# Change of disparity to the next row below which a surface is upright; a floor in 64 rows: .03.
UPRIGHT = 0.004
# Disparity up to which a surface is background, whatever its slope.
BACKGROUND = 0.05
# Difference of disparity within which upright surfaces are one object; the synthetic scenes keep
# twice that between objects.
SAME_OBJECT = 0.06


def depth_target_m(disparity: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Convert disparity in [0, 1] to metres: inverse depth is affine in it, 1 m at 1, 10 m at 0."""
    return 1 / (1 / FAR_M + (1 / NEAR_M - 1 / FAR_M) * disparity)


def saliency_target(disparity: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return the soft mask in [0, 1] of the nearest upright object; 0 where there is none.

    A pixel is upright if its disparity is that of the pixel above or below it and not the
    background's: objects are, a floor rises towards the camera. The mask fades over its outermost
    pixels, inwards only: outside it is 0, so that the saliency-weighted mean depth, the target of
    the focus predictor, excludes the background.
    """
    # Upright surfaces: constant disparity along a column
    same = (disparity[..., 1:, :] - disparity[..., :-1, :]).abs() < UPRIGHT
    upright = torch.zeros_like(disparity, dtype=torch.bool)
    upright[..., 1:, :] |= same
    upright[..., :-1, :] |= same
    upright &= disparity > BACKGROUND
    # The nearest of them, with a soft border
    nearest = torch.where(upright, disparity, 0.0).amax((2, 3), keepdim=True)
    object_mask = upright & (disparity > nearest - SAME_OBJECT)
    neighbors = avg_pool2d(object_mask.float(), 3, stride=1, padding=1, count_include_pad=False)
    return object_mask * neighbors


def weighted_mean(
    values: Float[Tensor, "b 1 h w"], weights: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    """Return the weighted mean; 0 where all weights are 0."""
    return (values * weights).sum() / weights.sum().clamp(min=1)


class Surrogate(pl.LightningModule, ABC):
    """Trains a small image-to-map network on batches of known disparity."""

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
        self.backbone, self.optimizer = backbone, optimizer
        self.noise_std, self.seed = noise_std, seed
        self.model: Any = None

    def configure_model(self) -> None:
        if self.model is None:
            self.model = self.backbone.load().requires_grad_(True)

    @abstractmethod
    def losses(self, output: Tensor, batch: Batch, weights: Tensor) -> dict[str, Tensor]:
        """Return `loss` and a readable error of outputs [b, 1, h, w], weighted by pixel."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Train with a little input noise: generated images are not clean either (*ours*)."""
        shape, index = batch.image_srgb.shape[1:], batch.index.tolist()
        noise = diffusion.draw_noise(shape, self.seed, index, "stand-in").to(self.device)
        return self.log_losses("train", batch, batch.image_srgb + self.noise_std * noise)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log_losses("val", batch, batch.image_srgb)

    def log_losses(self, split: str, batch: Batch, image: Tensor) -> Tensor:
        """Log the losses of a batch and return the one to minimize."""
        losses = self.losses(self.model(image), batch, known(batch))
        self.log_dict(
            {f"{split}/{name}": loss for name, loss in losses.items()}, batch_size=len(batch.key)
        )
        return losses["loss"]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return with_cosine_decay(self.optimizer(self.parameters()), self.trainer.max_steps)

    def export(self, folder: Path) -> None:
        """Write the network in transformers' format, as 16-bit safetensors."""
        save_small(self.model.network, folder)


def known(batch: Batch) -> Float[Tensor, "b 1 h w"]:
    """Return 1 where the disparity is measured, else 0."""
    return (batch.valid & batch.has_depth[:, None, None, None]).float()


class DepthSurrogate(Surrogate):
    """Trains `SmallDepth` on the depth of synthetic scenes, in metres."""

    def __init__(
        self,
        backbone: Depth = SmallDepth(weights=None),  # noqa: B008  (a light descriptor)
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01),
        noise_std: float = 0.02,
        seed: int = 0,
    ) -> None:
        """Store the configuration; the network is built in `configure_model`.

        Args:
            backbone: Which network.
            optimizer: Its learning rate is the peak of the cosine decay.
            noise_std: Standard deviation of the input noise, in display values.
            seed: Of that noise.
        """
        super().__init__(backbone, optimizer, noise_std, seed)

    def losses(self, output: Tensor, batch: Batch, weights: Tensor) -> dict[str, Tensor]:
        """Mean |log D - log D*|, a relative error; and mean |D - D*| / D*."""
        target_m = depth_target_m(batch.disparity)
        loss = weighted_mean((output.log() - target_m.log()).abs(), weights)
        relative = weighted_mean((output.detach() - target_m).abs() / target_m, weights)
        return {"loss": loss, "relative_error": relative}


class SaliencySurrogate(Surrogate):
    """Trains `SmallSaliency` on the nearest upright object of synthetic scenes."""

    def __init__(
        self,
        backbone: Saliency = SmallSaliency(weights=None),  # noqa: B008
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01),
        noise_std: float = 0.02,
        seed: int = 0,
    ) -> None:
        """Store the configuration; the network is built in `configure_model`.

        Args:
            backbone: Which network.
            optimizer: Its learning rate is the peak of the cosine decay.
            noise_std: Standard deviation of the input noise, in display values.
            seed: Of that noise.
        """
        super().__init__(backbone, optimizer, noise_std, seed)

    def losses(self, output: Tensor, batch: Batch, weights: Tensor) -> dict[str, Tensor]:
        """Cross-entropy and mean |S - S*|, over the images with an upright object."""
        target = saliency_target(batch.disparity)
        weights = weights * (target.amax((1, 2, 3), keepdim=True) > 0)
        probability = output.clamp(1e-6, 1 - 1e-6)
        entropy = -(target * probability.log() + (1 - target) * (1 - probability).log())
        error = weighted_mean((output.detach() - target).abs(), weights)
        return {"loss": weighted_mean(entropy, weights), "absolute_error": error}
