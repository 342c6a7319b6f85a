"""A photograph's pixels in its own color space, and what its file says about them."""

import io
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from dofsuite.photography.tone_curve import SRGB, ParametricCurve, ToneCurve, tone_curves

SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@dataclass(frozen=True)
class Photo:
    """A photograph's pixels, and what its file says about them."""

    image: Tensor
    """Display values [3, h, w] in [0, 1], float32, in the color space of `icc_profile`."""
    alpha: Tensor | None = None
    """Opacity [1, h, w] in [0, 1]; None is opaque."""
    bits: int = 8
    """Of a stored value: 8 or 16."""
    is_gray: bool = False
    icc_profile: bytes | None = None
    """None is sRGB."""
    exif: bytes = b""
    """As Pillow's `exif=` takes it; without orientation."""
    notes: tuple[str, ...] = ()
    """What could not be kept, one sentence each."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[-2], self.image.shape[-1]

    def to_linear(self, gamma: float | None = None) -> Tensor:
        """Light [3, h, w], by the profile's tone curve, or as values ** gamma."""
        pairs = zip(self._curves(gamma), self.image, strict=True)
        return torch.stack([curve.to_linear(values) for curve, values in pairs])

    def with_light(self, image_linear: Tensor, gamma: float | None = None) -> "Photo":
        """The same photograph with other pixels, given as light [3, h, w]."""
        pairs = zip(self._curves(gamma), image_linear, strict=True)
        image = torch.stack([curve.from_linear(light) for curve, light in pairs])
        return replace(self, image=image.clamp(0, 1))

    def to_srgb(self) -> Tensor:
        """Display values [3, h, w] in sRGB, for networks; through 8 bits where converted."""
        if self.icc_profile is None or self.is_gray:
            return self.image
        image = converted_to_srgb(Image.fromarray(stored_values(self.image, 8)), self.icc_profile)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255

    def from_srgb(self, image_srgb: Tensor) -> Tensor:
        """Display values [3, h, w] of sRGB in the photograph's color space; as `to_srgb` rounds."""
        if self.icc_profile is None or self.is_gray:
            return image_srgb
        profile = ImageCms.ImageCmsProfile(io.BytesIO(self.icc_profile))
        converted = ImageCms.profileToProfile(
            Image.fromarray(stored_values(image_srgb, 8)), SRGB_PROFILE, profile, outputMode="RGB"
        )
        return torch.from_numpy(np.array(converted)).permute(2, 0, 1) / 255

    def over_white(self) -> "Photo":
        """The photograph without transparency, laid over white."""
        if self.alpha is None:
            return self
        return replace(self, image=self.image * self.alpha + (1 - self.alpha), alpha=None)

    def _curves(self, gamma: float | None) -> tuple[ToneCurve, ...]:
        if gamma is not None:
            return (ParametricCurve(gamma),) * 3
        curves = (self.icc_profile and tone_curves(self.icc_profile)) or (SRGB,)
        return curves if len(curves) == 3 else curves * 3


def converted_to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Convert by the profile, or without one by Pillow's plain formula."""
    if not icc_profile:
        return image.convert("RGB")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
    converted = ImageCms.profileToProfile(image, profile, SRGB_PROFILE, outputMode="RGB")
    assert converted is not None
    return converted


def stored_values(planes: Tensor, bits: int) -> np.ndarray:
    """Round [c, h, w] in [0, 1] to the values [h, w, c] that a file stores."""
    levels = planes.detach().clamp(0, 1).mul(2**bits - 1).round_().permute(1, 2, 0)
    return np.ascontiguousarray(levels.cpu().numpy().astype(np.uint16 if bits == 16 else np.uint8))
