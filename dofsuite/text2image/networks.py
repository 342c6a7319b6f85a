"""The networks of paper 1, and how they are asked: generator, fake score, head, teacher, depth, saliency, focus.

Generator and fake score begin as copies of the teacher. What a run does not train is frozen, in no
checkpoint, and gets no weight gradient.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn

from dofsuite.backbones import Depth, Prediction, PromptEmbeds, Saliency, Sdxl
from dofsuite.diffusion import noise_from_v
from dofsuite.errors import UserError
from dofsuite.text2image.camera.exif import with_exif
from dofsuite.text2image.camera.focus_predictor import FocusPredictor
from dofsuite.text2image.dmd2 import denoiser as score
from dofsuite.text2image.dmd2.discriminator import Discriminator
from dofsuite.text2image.dmd2.sample_buffer import Conditioning

Name = Literal["generator", "critic", "teacher"]
"""The three networks that have SDXL's shape."""


@dataclass(frozen=True)
class FocusPredictorConfig:
    """Which focus predictor; null values are those of `FocusPredictor`.

    Attributes:
        small: The one for pictures of about 64 px.
        reading: How f_d comes about (see `FocusPredictor`).
        initial_scale_mm: f_s before training, mm per unit of depth.
        largest_scale_factor: f_s stays within this factor of it; near 1 where the depth is known to
            be metric (*ours*).

    Raises:
        ValueError: on numbers that no scale has.
    """

    small: bool = False
    reading: Literal["token", "weighted_sum"] = "token"
    initial_scale_mm: float = 1000.0
    largest_scale_factor: float = 30.0

    def __post_init__(self) -> None:
        """Refuse them in the words of the experiment file."""
        if not 0 < self.initial_scale_mm < math.inf:
            raise ValueError(
                f"initial_scale_mm must be above 0 and finite, not {self.initial_scale_mm}"
            )
        if not 1 <= self.largest_scale_factor < math.inf:
            raise ValueError(
                f"largest_scale_factor must be 1 or more and finite, not {self.largest_scale_factor}"
            )

    def build(self) -> FocusPredictor:
        """Make the predictor from torch's global generator."""
        make = FocusPredictor.small if self.small else FocusPredictor
        return make(
            reading=self.reading,
            initial_scale_mm=self.initial_scale_mm,
            largest_scale_factor=self.largest_scale_factor,
        )


class Ask(NamedTuple):
    """One of the three networks with everything but noisy latents and time filled in."""

    unet: nn.Module
    prompt: PromptEmbeds
    exif: Tensor | None
    downscale: int
    alphas: Tensor
    prediction: Prediction = "epsilon"
    """What the network was trained to predict; what is answered is always the noise."""

    def noise(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Predict the noise."""
        predicted = score.predict(self.unet, noisy, t, self.prompt, self.exif, self.downscale)
        return self._as_noise(predicted, noisy, t)

    def guided_noise(self, noisy: Tensor, t: Tensor, guidance: float) -> Tensor:
        """Predict it with classifier-free guidance, in one call of twice the rows."""
        predicted = score.predict_guided(
            self.unet, noisy, t, self.prompt, guidance, self.exif, self.downscale
        )
        return self._as_noise(predicted, noisy, t)

    def noise_and_features(self, noisy: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Predict it, and return the mid-block's output of the same forward."""
        seen = score.predict_with_features(
            self.unet, noisy, t, self.prompt, self.exif, self.downscale
        )
        return self._as_noise(seen.prediction, noisy, t), seen.features

    def features(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Return the mid-block's output alone."""
        return score.features(self.unet, noisy, t, self.prompt, self.exif, self.downscale)

    def denoising_weight(self, t: Tensor) -> Tensor | None:
        """Return the weight of `denoising_loss` by which the network learns what it predicts."""
        return None if self.prediction == "epsilon" else 1 / self.alphas.to(t.device)[t]

    def _as_noise(self, predicted: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        return (
            predicted
            if self.prediction == "epsilon"
            else noise_from_v(noisy, predicted, t, self.alphas)
        )


class Networks(nn.Module):
    """All networks of a run, frozen; `trained` names those that may learn."""

    def __init__(
        self,
        backbone: Sdxl,
        depth: Depth,
        saliency: Saliency,
        focus: FocusPredictorConfig,
        exif: tuple[Name, ...],
        size_px: int,
        has_lens: bool,
        head_float32: bool,
        gradient_checkpointing: bool,
        teacher_bfloat16: bool = False,
    ) -> None:
        """Load and make them, of the module's own arguments.

        Raises:
            UserError: Weights cannot be loaded, or the backbone's levels do not divide the side.
        """
        super().__init__()
        teacher, self.codec, self.prompts, self.prediction = backbone.load()
        self.exif_names, self.size_px = exif, size_px
        shrinkage = self.codec.downscale * 2 ** (len(teacher.config.block_out_channels) - 1)
        check_size(size_px, shrinkage)
        if exif:  # all three get the embedding, so that their weights can be copied; only the named ones are told
            with_exif(teacher)
        self.teacher = teacher
        self.generator, self.critic = copy.deepcopy(teacher), copy.deepcopy(teacher)
        if teacher_bfloat16:
            self.teacher.bfloat16()
        self.head = Discriminator(
            teacher.config.block_out_channels[-1], size_px // shrinkage, head_float32
        )
        self.depth = depth.load() if has_lens else None
        self.saliency = saliency.load() if has_lens else None
        self.focus = focus.build() if has_lens else None
        if gradient_checkpointing:  # does nothing in forwards without gradient
            for unet in (self.generator, self.critic, self.teacher):
                unet.enable_gradient_checkpointing()
        self.requires_grad_(False)

    def ask(self, name: Name, asked: Conditioning, alphas: Tensor) -> Ask:
        """Return one of the three networks for these prompts and, where it is told them, camera settings."""
        unet = getattr(self, name)
        device = asked.f_number.device
        prompt = self.prompts.encode(asked.caption).to(device)
        exif = asked.exif.stacked() if name in self.exif_names else None
        return Ask(unet, prompt, exif, self.codec.downscale, alphas, self.prediction)

    def trained(self, with_teacher: bool) -> dict[str, nn.ModuleList]:
        """Return what each optimiser trains; the fake score and its head share one."""
        groups: dict[str, list[nn.Module]] = {
            "generator": [self.generator],
            "critic": [self.critic, self.head],
        }
        if self.focus is not None:
            groups["focus"] = [self.focus]
        if with_teacher:
            groups["teacher"] = [self.teacher]
        return {name: nn.ModuleList(modules) for name, modules in groups.items()}

    def init_from_teacher(self) -> None:
        """Copy the teacher's weights to generator and fake score."""
        for name in ("generator", "critic"):
            getattr(self, name).load_state_dict(self.teacher.state_dict())

    def latent_shape(self, image: Tensor) -> tuple[int, int, int]:
        """Return (channels, height, width) of one picture's latents."""
        height, width = (size // self.codec.downscale for size in image.shape[-2:])
        return self.teacher.config.in_channels, height, width

    def display(self, latent: Tensor) -> Tensor:
        """Decode to display values, about [0, 1]; not clamped, so that gradients pass."""
        return (self.codec.decode(latent) + 1) / 2

    def latent(self, image: Tensor) -> Tensor:
        """Encode display values; float32."""
        return self.codec.encode(image * 2 - 1).float()


def check_size(size_px: int, shrinkage: int) -> None:
    """Refuse pictures that the codec and the UNet's levels cannot halve to whole features.

    Raises:
        UserError: The side is no multiple of `shrinkage`, the pixels of a feature of the lowest
            level.
    """
    if size_px < shrinkage or size_px % shrinkage:
        nearest = max(1, round(size_px / shrinkage)) * shrinkage
        raise UserError(
            f"model.size_px: {size_px} is no multiple of {shrinkage}, the pixels of this backbone's coarsest feature; "
            f"give {nearest} here and for data.size_px."
        )
