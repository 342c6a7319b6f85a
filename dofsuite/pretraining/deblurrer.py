"""Training of the deblurrer on random scenes, blurred by the suite's own optics."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from dofsuite.backbones.perception.deblur import DeblurModel, RestorationNet
from dofsuite.backbones.small.deblur import SmallDeblur, save_deblur
from dofsuite.data.synthetic.scene_data import SceneBatch
from dofsuite.optics import srgb_to_linear
from dofsuite.pretraining.defocused import (
    Defocus,
    Defocused,
    defocused,
    draw_noise_std,
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
        mixture_weight: float = 0.5,
        radius_weight: float = 0.1,
        radius_steps: int = 1500,
        training_pad_px: int = 32,
        calibration_batches: int = 50,
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
            mixture_weight: Of the loss of the mixture of inverses.
            radius_weight: Of the cross-entropy of the radius.
            radius_steps: First steps, in which only the radius is learned.
            training_pad_px: Border of the inverses in training, below their reach to save time.
            calibration_batches: First batches whose features say how they are whitened.
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
        self.mixture_weight, self.radius_weight = mixture_weight, radius_weight
        self.training_pad_px, self.radius_steps = training_pad_px, radius_steps
        self.calibration_batches = calibration_batches
        self.optimizer, self.lr_schedule = optimizer, lr_schedule
        self.model = None

    def configure_model(self) -> None:
        if self.model is None:
            self.model = self.backbone.load().requires_grad_(True)
            # Less time on a CPU
            self.model.network.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Whiten the features by those of the first scenes, in a new run."""
        data = getattr(self.trainer, "datamodule", None)
        if self.trainer.global_step > 0 or data is None:
            return
        network, found = self.network, []
        for batch in islice(data.train_dataloader(), self.calibration_batches):
            light = srgb_to_linear(
                self.pairs(data.transfer_batch_to_device(batch, self.device, 0)).given
            )
            found.append(network.features(light, self.training_pad_px))
        network.choice.calibrate(torch.cat(found))

    def training_step(self, batch: SceneBatch, batch_idx: int) -> Tensor:
        """Minimize Charbonnier's loss of image and mixture, and the cross-entropy of the radius."""
        pairs = self.pairs(batch)
        given = pairs.given.contiguous(memory_format=torch.channels_last)
        radii_px = self.network.config.radii_px
        choice = self.network.chosen(given, self.training_pad_px)
        losses = {"radius": radius_loss(choice.logits, pairs.radius_px, radii_px)}
        # At first the radius alone, at a third of the time
        if self.global_step >= self.radius_steps:
            restored = self.network.restored(given, choice, self.training_pad_px)
            losses["image"] = charbonnier(restored.image, pairs.target)
            losses["mixture"] = charbonnier(restored.mixture, pairs.target)
        weights = {"image": 1.0, "mixture": self.mixture_weight, "radius": self.radius_weight}
        for name, loss in losses.items():
            self.log(f"train/{name}", loss, batch_size=len(given))
        return sum((weights[name] * loss for name, loss in losses.items()), torch.zeros(()))

    @torch.no_grad()
    def pairs(self, batch: SceneBatch) -> Defocused:
        """Return a batch's inputs and what they should become, without the margin."""
        index = batch.index.tolist()
        side = slice(self.margin_px, batch.disparity.shape[-1] - self.margin_px)
        parts = defocused(batch.all_in_focus, batch.disparity, self.defocus, self.seed, index)
        inside = Defocused(*(part[..., side, side] for part in parts))
        std = draw_noise_std(self.defocus, self.seed, index)
        return inside._replace(given=with_noise(inside.given, std, self.seed, index))

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

    @property
    def network(self) -> RestorationNet:
        """The network.

        Raises:
            RuntimeError: It is not built yet.
        """
        if self.model is None:
            raise RuntimeError("configure_model comes first")
        network: RestorationNet = self.model.network
        return network

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


def radius_loss(
    logits: Float[Tensor, "b k r s"],
    radius_px: Float[Tensor, "b 1 h w"],
    radii_px: Sequence[float],
) -> Float[Tensor, ""]:
    """Return the cross-entropy of each cell's radii.

    A radius between two of the bank is shared between them, linearly in its logarithm; no blur
    stands at half the smallest radius.

    Args:
        logits: Of no blur and of each radius.
        radius_px: Of each pixel, 0 or above.
        radii_px: Of the bank, rising.
    """
    # The place on the bank's scale: 0 no blur, 1 the smallest radius
    scale = radius_px.new_tensor([radii_px[0] / 2, *radii_px]).log()
    place = radius_px.clamp(min=radii_px[0] / 2, max=radii_px[-1]).log()
    upper = torch.searchsorted(scale, place.contiguous()).clamp(1, len(radii_px))
    share = (place - scale[upper - 1]) / (scale[upper] - scale[upper - 1])
    # Shares of a cell's radii
    shares = torch.zeros_like(radius_px).repeat(1, len(scale), 1, 1)
    shares.scatter_(1, upper, share).scatter_(1, upper - 1, 1 - share)
    cells = adaptive_avg_pool2d(shares, (logits.shape[-2], logits.shape[-1]))
    return -(cells * logits.log_softmax(1)).sum(1).mean()


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
