"""The conditioned denoiser through which every loss and sampler calls one of the three UNets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dofsuite.backbones import Prediction, PromptEmbeds
from dofsuite.backbones.sdxl import unet_calls
from dofsuite.diffusion import noise_from_v
from dofsuite.text2image.dmd2.losses import guide


class ConditionedDenoiser(NamedTuple):
    """A UNet with prompt, camera settings and codec bound; it answers in eps, whatever it predicts.

    Noisy latents x_t are [b, c, h, w], t is [b] in [0, 999].
    """

    unet: nn.Module
    prompt: PromptEmbeds
    exif: Tensor | None  # [b, 2] for an EXIF-conditioned UNet (`Exif.stacked`)
    downscale: int  # Pixels per latent pixel
    alphas_cumprod: Tensor  # [1000]
    prediction: Prediction = "epsilon"  # What the UNet was trained to predict

    def noise(self, x_t: Tensor, t: Tensor) -> Tensor:
        predicted = unet_calls.predict(self.unet, x_t, t, self.prompt, self.exif, self.downscale)
        return self._as_noise(predicted, x_t, t)

    def guided_noise(self, x_t: Tensor, t: Tensor, guidance_scale: float) -> Tensor:
        """Predict eps_u + w (eps_c - eps_u) in float32, w = 8 (*stated*); w = 1 needs no eps_u."""
        if guidance_scale == 1:
            predicted = unet_calls.predict(
                self.unet, x_t, t, self.prompt, self.exif, self.downscale
            )
            return self._as_noise(predicted.float(), x_t, t)
        unconditional, conditional = unet_calls.predict_unconditional_and_conditional(
            self.unet, x_t, t, self.prompt, self.exif, self.downscale
        )
        return self._as_noise(guide(unconditional, conditional, guidance_scale), x_t, t)

    def noise_and_features(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Predict eps, and return the mid-block's output of the same forward."""
        predicted, features = unet_calls.predict_with_features(
            self.unet, x_t, t, self.prompt, self.exif, self.downscale
        )
        return self._as_noise(predicted, x_t, t), features

    def features(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the mid-block's output alone, without computing the up-blocks."""
        return unet_calls.features(self.unet, x_t, t, self.prompt, self.exif, self.downscale)

    def denoising_weight(self, t: Tensor) -> Tensor | None:
        """Return w_t [b] of `denoising_loss`: 1 for eps (None), 1 / a_t for v."""
        if self.prediction == "epsilon":
            return None
        return 1 / self.alphas_cumprod.to(t.device)[t]

    def without_prompt(self, keep: Tensor) -> ConditionedDenoiser:
        """Return it with the prompts of samples dropped where `keep` [b, 1] is 0, as for CFG."""
        tokens, pooled = self.prompt
        return self._replace(prompt=PromptEmbeds(tokens * keep[..., None], pooled * keep))

    def _as_noise(self, predicted: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        if self.prediction == "epsilon":
            return predicted
        return noise_from_v(x_t, predicted, t, self.alphas_cumprod)


@contextmanager
def no_gradient() -> Iterator[None]:
    """Run without gradient in the surrounding precision, and leave no cast weight behind.

    Autocast keeps the bfloat16 copy of a weight that it first makes, until its context ends. Before
    pytorch #165068 (December 2025) a copy made without gradient stayed without one: the next
    forward with gradient in the same step trained nothing (pytorch #65766, #158232), and DMD2
    therefore runs its simulation in float32. Since then the copy is right, but it still outlives a
    change of its weight, and fills memory. So the copies are dropped here.
    """
    try:
        with torch.no_grad():
            yield
    finally:
        torch.clear_autocast_cache()
