"""From pixels to latents and back: FLUX's VAE, and a fixed invertible codec of the same interface for small networks.

Convention: images are [b, 3, h, w] in [-1, 1]; latents are [b, latent_channels, h / downscale, w /
downscale], about unit variance, as the transformer sees them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from diffusers import AutoencoderKL
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class Codec(Protocol):
    """What the works ask of a codec; `VaeCodec` and `SpaceToDepthCodec` answer it."""

    latent_channels: int
    downscale: int

    def encode(self, image: Tensor) -> Tensor:
        """Images in [-1, 1] to latents."""

    def decode(self, latent: Tensor) -> Tensor:
        """Latents to images, about in [-1, 1]."""


class VaeCodec(nn.Module):
    """A frozen diffusers `AutoencoderKL` with its own shift and scale, run in the VAE's dtype.

    Its weights get no gradient, and what comes in does: a loss on a decoded or an encoded picture
    reaches its source. Where the VAE is in half precision, autocast is kept away from it: on CUDA
    it would run the norms in float32, and at 1024 px save 11 GiB more for backward.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.latent_channels = vae.config.latent_channels
        self.downscale = 2 ** (len(vae.config.block_out_channels) - 1)
        self.shift: float = vae.config.shift_factor or 0.0
        """FLUX's VAE has a shift, SDXL's has none."""

    def encode(self, image: Tensor) -> Tensor:
        """Encode to the posterior's mode (*ours*: the stacking identity needs one latent an image), scaled."""
        with self._in_own_dtype(image):
            latent = self.vae.encode(image.to(self.vae.dtype)).latent_dist.mode()
        return (latent - self.shift) * self.vae.config.scaling_factor

    def decode(self, latent: Tensor) -> Tensor:
        """Undo scale and shift, then decode."""
        latent = latent / self.vae.config.scaling_factor + self.shift
        with self._in_own_dtype(latent):
            return self.vae.decode(latent.to(self.vae.dtype), return_dict=False)[0]

    def _in_own_dtype(self, given: Tensor) -> AbstractContextManager[object]:
        return nullcontext() if self.vae.dtype == torch.float32 else without_autocast(given)


def without_autocast(given: Tensor) -> AbstractContextManager[object]:
    """Return a context in which what is computed of `given` keeps its dtype."""
    device_type = given.device.type
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def cosine_basis(size: int) -> Tensor:
    """Return the orthonormal DCT-II matrix [frequency, position]."""
    n = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi * (2 * n[None] + 1) * n[:, None] / (2 * size)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def opponent_basis() -> Tensor:
    """Return orthonormal opponent colours [axis, rgb]: luma, red against blue, green against the two."""
    axes = torch.tensor([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], dtype=torch.float64)
    return axes / axes.norm(dim=1, keepdim=True)


class SpaceToDepthCodec(ModelMixin, ConfigMixin):
    """Space to depth, then a fixed orthonormal turn (DCT and opponent colours) and a gain for every coefficient.

    Exactly invertible, nothing learnt, float32 also under autocast and after `.to(torch.bfloat16)`.
    A plain space to depth leaves fine detail, which is all that blur changes, some thirty times
    weaker than the mean colour, and a flow loss in unit noise does not see it; FLUX's VAE has no
    such gap between its channels. The gains close it by the amplitude spectrum of photographs,
    about 1 / f^1.35 (measured on the embedded ones), to the power `whitening`.
    """

    @register_to_config
    def __init__(self, downscale: int = 4, whitening: float = 0.6) -> None:
        super().__init__()
        self.downscale = downscale
        self.latent_channels = 3 * downscale**2
        self.register_buffer("gain", self._gain(downscale, whitening).float())
        self.register_buffer("cosines", cosine_basis(downscale).float(), persistent=False)
        self.register_buffer("colors", opponent_basis().float(), persistent=False)

    @staticmethod
    def _gain(downscale: int, whitening: float) -> Tensor:
        """Return one gain per coefficient [3, u, v], such that photographs have a mean square of one."""
        frequency = torch.arange(downscale, dtype=torch.float64) * 4 / downscale
        radial = (frequency[:, None] ** 2 + frequency[None] ** 2).sqrt().clamp(min=0.35)
        color = torch.tensor([1.0, 0.37, 0.1], dtype=torch.float64)
        amplitude = (downscale / 4) * 0.66 * color[:, None, None] * radial**-1.35
        gain = amplitude**-whitening
        return gain / (gain * amplitude).square().mean().sqrt()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SpaceToDepthCodec:
        """Move the buffers, but keep them in float32: rounded to half precision, decoding would not undo encoding."""

        def moved(buffer: Tensor) -> Tensor:
            changed = fn(buffer)
            return changed if changed.dtype == buffer.dtype else buffer.to(changed.device)

        return super()._apply(moved, recurse)

    def encode(self, image: Tensor) -> Tensor:
        """Turn every `downscale` square into a vector of weighted coefficients; [-1, 1] pixels in."""
        b, _, h, w = image.shape
        n = self.downscale
        gain, cosines, colors = self._beside(image)
        with without_autocast(image):
            x = torch.einsum("kc,bchw->bkhw", colors, image.float())
            x = x.reshape(b, 3, h // n, n, w // n, n)
            x = torch.einsum("ui,bkyixj,vj->bkuvyx", cosines, x, cosines) * gain[..., None, None]
        return x.reshape(b, self.latent_channels, h // n, w // n)

    def decode(self, latent: Tensor) -> Tensor:
        """Undo `encode`."""
        b, _, h, w = latent.shape
        n = self.downscale
        gain, cosines, colors = self._beside(latent)
        x = latent.float().reshape(b, 3, n, n, h, w) / gain[..., None, None]
        with without_autocast(latent):
            x = torch.einsum("ui,bkuvyx,vj->bkyixj", cosines, x, cosines).reshape(
                b, 3, h * n, w * n
            )
            return torch.einsum("kc,bkhw->bchw", colors, x)

    def _beside(self, given: Tensor) -> list[Tensor]:
        """Return gain, cosines and colours where `given` is: CPU offload moves only modules with parameters."""
        return [buffer.to(given.device) for buffer in (self.gain, self.cosines, self.colors)]
