"""FLUX.2's VAE: 32 channels, normalized by the statistics of a batch norm on 2x2 patches."""

import torch
from diffusers import AutoencoderKLFlux2
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from dofsuite.backbones.codec import VaeCodec


class Flux2VaeCodec(VaeCodec):
    """A frozen `AutoencoderKLFlux2`; latents as the denoiser takes them, but not yet in patches.

    z = (x - mean) / sqrt(var + eps) with one mean and variance for each of the 4 x 32 values of a
    2x2 patch, as diffusers' Flux2Pipeline computes it.
    """

    vae: AutoencoderKLFlux2

    def normalized(self, latent: Tensor) -> Tensor:
        mean, std = self._statistics(latent)
        return pixel_shuffle((pixel_unshuffle(latent, 2) - mean) / std, 2)

    def denormalized(self, latent: Tensor) -> Tensor:
        mean, std = self._statistics(latent)
        return pixel_shuffle(pixel_unshuffle(latent, 2) * std + mean, 2)

    # Mean and standard deviation [1, 4 c, 1, 1], in an order in which c comes first.
    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        norm = self.vae.bn
        mean = norm.running_mean.view(1, -1, 1, 1)
        std = torch.sqrt(norm.running_var.view(1, -1, 1, 1) + self.vae.config.batch_norm_eps)
        return mean.to(like), std.to(like)
