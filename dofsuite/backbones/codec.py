"""Pixels to latents and back: a diffusers VAE, and a fixed invertible codec for small networks.

Convention: images are [b, 3, h, w] in [-1, 1]; latents are [b, latent_channels, h / downscale, w /
downscale], about unit variance: scaled as the denoiser takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable

import torch
from diffusers import AutoencoderKL
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from dofsuite.optics.meta import at_least_float32
from dofsuite.optics.scattering import without_autocast


@runtime_checkable
class Codec(Protocol):
    """Interface of `VaeCodec` and `SpaceToDepthCodec`."""

    latent_channels: int
    downscale: int

    def encode(self, image: Tensor) -> Tensor:
        """Images in [-1, 1] to latents."""

    def decode(self, latent: Tensor) -> Tensor:
        """Latents to images, about in [-1, 1]."""


class VaeCodec(nn.Module):
    """A frozen diffusers VAE with its own shift and scale, run in the VAE's dtype.

    Its weights get no gradient, its input does, so a loss on a decoded or an encoded image can be
    backpropagated. A VAE in half precision runs without autocast, which on CUDA would run the norms
    in float32 and at 1024 px save 11 GiB more for backward.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.latent_channels = vae.config.latent_channels
        self.downscale = 2 ** (len(vae.config.block_out_channels) - 1)
        # FLUX.1's VAE has a shift, SDXL's has none.
        self.shift: float = vae.config.get("shift_factor") or 0.0

    def encode(self, image: Tensor) -> Tensor:
        """Encode and scale the posterior's mode (*ours*: stacking needs one latent an image)."""
        with self._own_precision(image):
            latent = self.vae.encode(image.to(self.vae.dtype)).latent_dist.mode()
        return self.normalized(latent)

    def decode(self, latent: Tensor) -> Tensor:
        """Decode to float32: a CPU cannot resize bfloat16, and near white its steps are 1/256."""
        latent = self.denormalized(latent)
        with self._own_precision(latent):
            image = self.vae.decode(latent.to(self.vae.dtype), return_dict=False)[0]
        return at_least_float32(image)

    def normalized(self, latent: Tensor) -> Tensor:
        return (latent - self.shift) * self.vae.config.scaling_factor

    def denormalized(self, latent: Tensor) -> Tensor:
        return latent / self.vae.config.scaling_factor + self.shift

    def _own_precision(self, like: Tensor) -> AbstractContextManager[object]:
        return nullcontext() if self.vae.dtype == torch.float32 else without_autocast(like)


def cosine_basis(size: int) -> Tensor:
    n = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi * (2 * n[None] + 1) * n[:, None] / (2 * size)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def opponent_basis() -> Tensor:
    """Return orthonormal opponent colors [axis, rgb]: luma, red - blue, 2 green - red - blue."""
    axes = torch.tensor([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], dtype=torch.float64)
    return axes / axes.norm(dim=1, keepdim=True)


class SpaceToDepthCodec(ModelMixin, ConfigMixin):
    """Space to depth, a fixed orthonormal transform (DCT, opponent colors) and a gain each.

    Exactly invertible, without parameters, float32 also under autocast and after
    `.to(torch.bfloat16)`. A plain space to depth leaves fine detail, which is all that blur
    changes, some thirty times weaker than the mean color, too weak for a flow loss with unit noise;
    FLUX's VAE has no such gap between its channels. The gains close it by the amplitude spectrum of
    photographs, about 1 / f^1.35 (measured on scikit-image's), to the power `whitening`.
    """

    gain: Tensor
    cosines: Tensor
    colors: Tensor

    @register_to_config
    def __init__(self, downscale: int = 4, whitening: float = 0.6) -> None:
        super().__init__()
        self.downscale = downscale
        self.latent_channels = 3 * downscale**2
        # CPU offload moves only modules with parameters, so encode and decode move the buffers.
        self.register_buffer("gain", self._gain(downscale, whitening).float())
        self.register_buffer("cosines", cosine_basis(downscale).float(), persistent=False)
        self.register_buffer("colors", opponent_basis().float(), persistent=False)

    @staticmethod
    def _gain(downscale: int, whitening: float) -> Tensor:
        """Return gains [3, u, v] that give photographs' latents a mean square of one."""
        frequency = torch.arange(downscale, dtype=torch.float64) * 4 / downscale
        radial = (frequency[:, None] ** 2 + frequency[None] ** 2).sqrt().clamp(min=0.35)
        color = torch.tensor([1.0, 0.37, 0.1], dtype=torch.float64)
        amplitude = (downscale / 4) * 0.66 * color[:, None, None] * radial**-1.35
        gain = amplitude**-whitening
        return gain / (gain * amplitude).square().mean().sqrt()

    # Move the buffers, but keep them in float32, or decoding would not invert encoding.
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SpaceToDepthCodec:
        def moved(buffer: Tensor) -> Tensor:
            changed = fn(buffer)
            return changed if changed.dtype == buffer.dtype else buffer.to(changed.device)

        return super()._apply(moved, recurse)

    def encode(self, image: Tensor) -> Tensor:
        """Transform every square of `downscale` pixels into a vector of weighted coefficients."""
        b, _, h, w = image.shape
        n = self.downscale
        cosines = self.cosines.to(image.device)
        with without_autocast(image):
            x = torch.einsum("kc,bchw->bkhw", self.colors.to(image.device), image.float())
            x = x.reshape(b, 3, h // n, n, w // n, n)  # [b, color, y, i, x, j]
            x = torch.einsum("ui,bkyixj,vj->bkuvyx", cosines, x, cosines)
            x = x * self.gain.to(image.device)[..., None, None]
        return x.reshape(b, self.latent_channels, h // n, w // n)  # [b, (color u v), y, x]

    def decode(self, latent: Tensor) -> Tensor:
        b, _, h, w = latent.shape
        n = self.downscale
        cosines = self.cosines.to(latent.device)
        x = latent.float().reshape(b, 3, n, n, h, w)  # [b, color, u, v, y, x]
        x = x / self.gain.to(latent.device)[..., None, None]
        with without_autocast(latent):
            x = torch.einsum("ui,bkuvyx,vj->bkyixj", cosines, x, cosines)
            x = x.reshape(b, 3, h * n, w * n)
            return torch.einsum("kc,bkhw->bchw", self.colors.to(latent.device), x)
