"""Training of the deblurrer on random scenes, blurred by the suite's own optics."""

from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from dofsuite.backbones.perception.deblur import DeblurModel
from dofsuite.backbones.small.deblur import SmallDeblur, save_deblur
from dofsuite.data.synthetic.scene_data import SceneBatch
from dofsuite.pretraining.defocused import (
    Defocus,
    draw_noise_std,
    draw_radius_px,
    photographed,
    with_noise,
)
from dofsuite.training.lr_schedule import LrSchedule

# What is validated: blur radius and noise, both as in the bars.
VALIDATED_RADII_PX = (0.0, 2.0, 4.0, 8.0)
VALIDATED_NOISE_STD = (0.0, 2 / 255)


class Gain(NamedTuple):
    """PSNR in dB of a defocused photograph, before and after restoration."""

    before: float
    after: float


class Deblurring(pl.LightningModule):
    """Trains a restoration network; validates it on held-out photographs behind one disc."""

    model: DeblurModel | None

    def __init__(
        self,
        backbone: SmallDeblur = SmallDeblur(weights=None),  # noqa: B008  (a light descriptor)
        defocus: Defocus = Defocus(),  # noqa: B008
        margin_px: int = 12,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3),
        lr_schedule: LrSchedule = LrSchedule(warmup_steps=100, cooldown_steps=400),  # noqa: B008
        seed: int = 0,
    ) -> None:
        """Store the configuration; the network is built in `configure_model`.

        Args:
            backbone: Which network.
            defocus: Of the inputs.
            margin_px: What is cut off the scene around the input after it is blurred, so that light
                comes from beyond the border, as in a photograph.
            optimizer: Its learning rate is that between warm-up and cool-down.
            lr_schedule: A run may be stopped and end earlier or later: only its end is slower
                (*ours*).
            seed: Of all draws.
        """
        super().__init__()
        if margin_px < 0:
            raise ValueError(f"margin_px: must be 0 or above, got {margin_px}")
        self.backbone, self.defocus = backbone, defocus
        self.margin_px, self.seed = margin_px, seed
        self.optimizer, self.lr_schedule = optimizer, lr_schedule
        self.model = None

    def configure_model(self) -> None:
        if self.model is None:
            self.model = self.backbone.load().requires_grad_(True)
            # Less time on a CPU
            self.model.network.to(memory_format=torch.channels_last)

    def training_step(self, batch: SceneBatch, batch_idx: int) -> Tensor:
        """Minimize Charbonnier's loss against the scene in focus."""
        given, target = self.pairs(batch)
        loss = charbonnier(self.network(given), target)
        self.log("train/loss", loss, batch_size=len(target))
        return loss

    @torch.no_grad()
    def pairs(self, batch: SceneBatch) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]]:
        """Return a batch's inputs and what they should become, without the margin."""
        index = batch.index.tolist()
        radius_px = draw_radius_px(batch.disparity.cpu(), self.defocus, self.seed, index)
        image = photographed(batch.all_in_focus, radius_px.to(self.device), self.defocus.num_layers)
        inside = slice(self.margin_px, image.shape[-1] - self.margin_px)
        std = draw_noise_std(self.defocus, self.seed, index)
        given = with_noise(image[..., inside, inside], std, self.seed, index)
        return given, batch.all_in_focus[..., inside, inside]

    def validation_step(self, batch: SceneBatch, batch_idx: int) -> None:
        """Log the gain in PSNR for each radius and noise, the mean over the photographs."""
        if self.model is None:
            raise RuntimeError("configure_model comes first")
        for radius_px in VALIDATED_RADII_PX:
            for std in VALIDATED_NOISE_STD:
                gain = measure_gain(self.model, batch.all_in_focus, radius_px, std)
                name = f"r{radius_px:g}_n{255 * std:g}"
                self.log(f"val/gain_{name}", gain.after - gain.before, batch_size=1)
                if radius_px == 0:
                    self.log(f"val/psnr_{name}", gain.after, batch_size=1)

    def network(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore images whose sides are multiples of what the network needs."""
        if self.model is None:
            raise RuntimeError("configure_model comes first")
        return self.model.network(image.contiguous(memory_format=torch.channels_last))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer, max_steps = self.optimizer(self.parameters()), self.trainer.max_steps
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.lr_schedule.factor(step, max_steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def export(self, folder: Path) -> None:
        """Write the network as 16-bit safetensors."""
        if self.model is None:
            raise RuntimeError("configure_model comes first")
        save_deblur(self.model, folder)


def charbonnier(
    output: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"], eps: float = 1e-3
) -> Float[Tensor, ""]:
    """Return mean sqrt((x - y)^2 + eps^2), a smooth L1 loss."""
    return ((output - target).square() + eps**2).sqrt().mean()


@torch.no_grad()
def measure_gain(
    model: DeblurModel, image_srgb: Float[Tensor, "1 3 h w"], radius_px: float, noise_std: float
) -> Gain:
    """Measure a restoration behind one disc, away from the border that the disc darkens or repeats.

    Args:
        model: Restores.
        image_srgb: A photograph in focus, display values.
        radius_px: Of the disc in linear light.
        noise_std: Of the noise, in display values.
    """
    # The photograph, blurred and noisy, and what of it saw no border
    radius = torch.full_like(image_srgb[:, :1], radius_px)
    blurred = photographed(image_srgb, radius)
    inside = slice(16, -16)
    truth = image_srgb[..., inside, inside]
    std = torch.tensor([noise_std])
    given = with_noise(blurred[..., inside, inside], std, 0, [round(100 * radius_px)])
    restored = model(given).clamp(0, 1)
    return Gain(psnr(given, truth), psnr(restored, truth))


def psnr(image: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]) -> float:
    """Return 10 log10(1 / MSE) of display values; 100 where they are equal to 1e-5."""
    mse = float((image - truth).square().mean())
    return float(-10 * torch.log10(torch.tensor(max(mse, 1e-10))))
