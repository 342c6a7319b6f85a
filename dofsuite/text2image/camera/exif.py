"""EXIF: what a user may ask of a camera, and its embedding beside the UNet's timestep.

The embedding serves the baseline generator without a lens ("4-step SDXL (distilled) with EXIF")
and, as an option, the fake score, which then can tell a deep from a shallow sample. A UNet takes it
through diffusers' own argument `timestep_cond`, which `UNet2DConditionModel.forward` hands to its
time embedding as it is: no forward is rewritten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from dofsuite.errors import UserError

F_NUMBERS = (0.5, 128.0)
"""f-numbers that a user may ask for (*ours*): the fastest lens ever made is near f/0.7, a pinhole beyond f/128."""
FOCAL_LENGTHS_MM = (1.0, 2000.0)
"""Focal lengths that a user may ask for, in mm (*ours*): from a phone's few millimetres to the longest telephoto."""

Numbers = float | int | Sequence[float | int] | Tensor


class Exif(NamedTuple):
    """Aperture and focal length of each item; nan where a picture carries none.

    Attributes:
        f_number: [b] focal length over aperture diameter.
        focal_length_mm: [b] on the sensor of the `Lens` (36 mm wide by default: the 35-mm
            equivalent).
    """

    f_number: Float[Tensor, "b"]
    focal_length_mm: Float[Tensor, "b"]

    @classmethod
    def checked(cls, f_number: Numbers, focal_length_mm: Numbers) -> Exif:
        """Make EXIF from what a user wrote: numbers, lists or [b] tensors; one number serves the whole batch.

        Raises:
            UserError: on a number that is not finite or outside `F_NUMBERS`, `FOCAL_LENGTHS_MM`, or
                unequal lists.
        """
        f_numbers = _within("f_number", f_number, F_NUMBERS, "")
        focal_mm = _within("focal_length_mm", focal_length_mm, FOCAL_LENGTHS_MM, " mm")
        if 1 not in (len(f_numbers), len(focal_mm)) and len(f_numbers) != len(focal_mm):
            raise UserError(
                f"focal_length_mm: {len(focal_mm)} numbers do not pair with {len(f_numbers)} of f_number; "
                "give one for all or one for each."
            )
        return cls(*torch.broadcast_tensors(f_numbers, focal_mm))

    def stacked(self) -> Float[Tensor, "b 2"]:
        """(f-number, focal length in mm) of each item: what `timestep_cond` of a UNet `with_exif` takes."""
        return torch.stack([self.f_number, self.focal_length_mm], dim=1)


class ExifEmbedder(ModelMixin, ConfigMixin):
    """Aperture and focal length -> sinusoids -> concatenated -> two projections -> one vector (supplement, F.3).

    *Stated*: this chain, and that its vector is added to the timestep embedding. *Ours*: the last
    projection starts at zero, so that a new embedding changes nothing; an item without EXIF (nan)
    adds nothing, ever.
    """

    @register_to_config
    def __init__(
        self,
        dim: int = 1280,
        num_frequencies: int = 128,
        feed: Literal["log", "linear"] = "log",
        hidden: int = 1280,
    ) -> None:
        """Make the embedding.

        Args:
            dim: Width of the UNet's timestep embedding (SDXL: 1280).
            num_frequencies: Sines, and as many cosines, for each of the two numbers (*ours*; SDXL's
                sizes have 128).
            feed: `log` (*ours*): the logarithm, stretched so that the range a user may ask for
                spans 0 to 1000 as timesteps do; a stop is then the same step everywhere. `linear`:
                the number as it is, as SDXL feeds its picture sizes; f/1.8 and f/2 are then nearly
                one.
            hidden: Width between the two projections (*ours*: the timestep embedding's).
        """
        super().__init__()
        self.first = nn.Linear(4 * num_frequencies, hidden)
        self.last = nn.Linear(hidden, dim)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, exif: Float[Tensor, "b 2"]) -> Float[Tensor, "b e"]:
        """Embed `Exif.stacked()`: (f-number, focal length in mm); rows with a nan give zeros."""
        exif = exif.float()
        known = torch.isfinite(exif).all(dim=1, keepdim=True)
        numbers = self._fed(torch.where(known, exif, torch.ones_like(exif)))
        vector = self.last(
            nn.functional.silu(self.first(self._sinusoids(numbers).to(self.first.weight.dtype)))
        )
        return torch.where(known, vector, torch.zeros_like(vector))

    def _fed(self, exif: Tensor) -> Tensor:
        if self.config.feed == "linear":
            return exif
        low, high = exif.new_tensor([F_NUMBERS, FOCAL_LENGTHS_MM]).log().unbind(1)
        return 1000.0 * (exif.log() - low) / (high - low)

    def _sinusoids(self, numbers: Tensor) -> Tensor:
        """[b, 2] -> [b, 2 * 2 * num_frequencies], wavelengths from 2 pi to 10000 * 2 pi as for timesteps."""
        count = self.config.num_frequencies
        exponents = torch.arange(count, device=numbers.device, dtype=torch.float32) / count
        angles = numbers[..., None] * torch.exp(-math.log(10000.0) * exponents)
        return torch.cat([angles.cos(), angles.sin()], dim=-1).flatten(1)


class ExifTimeEmbedding(nn.Module):
    """A UNet's own time embedding, plus the EXIF's vector where EXIF is given."""

    def __init__(self, stock: nn.Module, exif: ExifEmbedder) -> None:
        super().__init__()
        self.stock = stock
        self.exif = exif

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        """Embed the timestep's sinusoids `sample`; `condition` is `Exif.stacked()` [b, 2], or None for none."""
        embedding = self.stock(sample)
        return (
            embedding if condition is None else embedding + self.exif(condition).to(embedding.dtype)
        )


def with_exif(
    unet: UNet2DConditionModel, embedder: ExifEmbedder | None = None
) -> UNet2DConditionModel:
    """Let a UNet take `timestep_cond=Exif.stacked()`, in place; without that argument it stays as it was.

    Args:
        unet: any UNet of diffusers without a `time_cond_proj_dim` of its own (SDXL, SD 1.5).
        embedder: a trained one; None: a new one of the right width, which changes nothing yet.

    Raises:
        ValueError: if the UNet has EXIF already, a condition of its own, or another width than the
            embedder.
    """
    if isinstance(unet.time_embedding, ExifTimeEmbedding):
        raise ValueError("This UNet takes EXIF already; call without_exif first.")
    if unet.config.time_cond_proj_dim is not None:
        raise ValueError(
            "This UNet has a time condition of its own (time_cond_proj_dim); EXIF cannot share it."
        )
    width = unet.time_embedding.linear_2.out_features
    embedder = embedder or ExifEmbedder(dim=width, hidden=width)
    if embedder.config.dim != width:
        raise ValueError(
            f"The embedder makes vectors of {embedder.config.dim}, but this UNet's time embedding {width}."
        )
    stock_weight = unet.time_embedding.linear_2.weight
    unet.time_embedding = ExifTimeEmbedding(unet.time_embedding, embedder.to(stock_weight.device))
    return unet


def without_exif(unet: UNet2DConditionModel) -> ExifEmbedder:
    """Put the UNet's own time embedding back, in place, and return the embedder.

    `unet.save_pretrained` then writes diffusers' stock layout, and the embedder is saved beside it.

    Raises:
        ValueError: if the UNet has no EXIF embedding.
    """
    wrapped = unet.time_embedding
    if not isinstance(wrapped, ExifTimeEmbedding):
        raise ValueError("This UNet takes no EXIF; call with_exif first.")
    unet.time_embedding = wrapped.stock
    return wrapped.exif


def _within(key: str, value: Numbers, bounds: tuple[float, float], unit: str) -> Tensor:
    """A user's numbers as [n] float32, each within the bounds."""
    numbers = torch.as_tensor(value, dtype=torch.float32).reshape(-1)
    low, high = bounds
    for number in numbers.tolist():
        if not low <= number <= high:
            raise UserError(
                f"{key}: {number:g}{unit} is not a camera's; choose between {low:g} and {high:g}{unit}."
            )
    return numbers
