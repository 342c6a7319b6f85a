"""EXIF: aperture and focal length as conditioning, and their embedding, added to the timestep's.

The embedding serves the EXIF-conditioned baseline without a lens ("4-step SDXL (distilled) with
EXIF") and, as an option, the fake score, so it can model deep and shallow samples as separate
conditionals. A UNet takes it through diffusers' own argument `timestep_cond`, which
`UNet2DConditionModel.forward` passes on to its time embedding: no forward is rewritten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from dofsuite.backbones.hub import exported_part
from dofsuite.errors import UserError
from dofsuite.exif import FULL_FRAME_WIDTH_MM

# Valid f-numbers (*ours*): the fastest lens ever made is near f/0.7, a pinhole beyond f/128.
F_NUMBERS = (0.5, 128.0)
# Valid focal lengths in mm (*ours*): from a phone's few millimeters to the longest telephoto.
FOCAL_LENGTHS_MM = (1.0, 2000.0)

Numbers = float | int | Sequence[float | int] | Tensor


class Exif(NamedTuple):
    """Aperture and focal length of each item; NaN where an image has no EXIF."""

    f_number: Float[Tensor, "b"]  # Focal length over aperture diameter
    # Of the real lens; on the sensor of the `Lens` (36 mm wide by default) where none is said.
    focal_length_mm: Float[Tensor, "b"]

    @classmethod
    def checked(cls, f_number: Numbers, focal_length_mm: Numbers) -> Exif:
        """Check user input: numbers, lists or [b] tensors; a single number is broadcast.

        Raises:
            UserError: on a number that is not finite or outside `F_NUMBERS`, `FOCAL_LENGTHS_MM`, or
                lists of different lengths.
        """
        f_numbers = _checked("f_number", f_number, F_NUMBERS, "")
        focal_mm = _checked("focal_length_mm", focal_length_mm, FOCAL_LENGTHS_MM, " mm")
        if 1 not in (len(f_numbers), len(focal_mm)) and len(f_numbers) != len(focal_mm):
            raise UserError(
                f"focal_length_mm: {len(focal_mm)} numbers do not pair with {len(f_numbers)} of "
                "f_number; give one for all or one for each."
            )
        return cls(*torch.broadcast_tensors(f_numbers, focal_mm))

    def on_full_frame(self, sensor_width_mm: Float[Tensor, "b"]) -> Exif:
        """Return the full-frame camera of the same view and depth of field (*ours*).

        Both numbers times the crop factor k = 36 / width: blur over width is F^2 / (N (S - F) W),
        and so is (k F)^2 / (k N (S - k F) k W) but for S - F, which is nearly S. NaN: full frame.
        Networks conditioned on EXIF get these, so that a phone's 5 mm is not a fisheye to them.
        """
        crop = (FULL_FRAME_WIDTH_MM / sensor_width_mm).nan_to_num(nan=1.0)
        return Exif(self.f_number * crop, self.focal_length_mm * crop)

    def stacked(self) -> Float[Tensor, "b 2"]:
        """(f-number, focal length in mm) of each item: `timestep_cond` of a UNet `with_exif`."""
        return torch.stack([self.f_number, self.focal_length_mm], dim=1)


class ExifEmbedder(ModelMixin, ConfigMixin):
    """Aperture and focal length -> sinusoids -> concatenated -> MLP -> vector (supplement, F.3).

    *Stated*: this chain, and that its vector is added to the timestep embedding. *Ours*: the last
    projection starts at zero, so that a new embedding changes nothing; an item without EXIF (NaN)
    always adds zero.
    """

    @register_to_config
    def __init__(
        self,
        dim: int = 1280,
        num_frequencies: int = 128,
        input_scale: Literal["log", "linear"] = "log",
        hidden: int = 1280,
    ) -> None:
        """Build the embedding.

        Args:
            dim: Width of the UNet's timestep embedding (SDXL: 1280).
            num_frequencies: Sines, and as many cosines, for each of the two numbers (*ours*; SDXL's
                size conditioning has 128).
            input_scale: `log` (*ours*): the logarithm, scaled so that the valid range spans 0 to
                1000 as timesteps do; a stop is then the same distance everywhere. `linear`: the
                number itself, as in SDXL's size conditioning; f/1.8 and f/2 are then hardly
                distinguishable.
            hidden: Width between the two projections (*ours*: the timestep embedding's).
        """
        super().__init__()
        self.first = nn.Linear(4 * num_frequencies, hidden)
        self.last = nn.Linear(hidden, dim)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, exif: Float[Tensor, "b 2"]) -> Float[Tensor, "b e"]:
        """Embed `Exif.stacked()`: (f-number, focal length in mm); rows with a NaN give zeros."""
        exif = exif.float()
        known = torch.isfinite(exif).all(dim=1, keepdim=True)
        numbers = self._scaled(torch.where(known, exif, torch.ones_like(exif)))
        sinusoids = self._sinusoids(numbers).to(self.first.weight.dtype)
        vector = self.last(nn.functional.silu(self.first(sinusoids)))
        return torch.where(known, vector, torch.zeros_like(vector))

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        # Exports from before `feed` was renamed to `input_scale`.
        config = {"input_scale" if k == "feed" else k: v for k, v in config_dict.items()}
        return super().extract_init_dict(config, **kwargs)

    def _scaled(self, exif: Tensor) -> Tensor:
        if self.config.input_scale == "linear":
            return exif
        low, high = exif.new_tensor([F_NUMBERS, FOCAL_LENGTHS_MM]).log().unbind(1)
        return 1000.0 * (exif.log() - low) / (high - low)

    def _sinusoids(self, numbers: Tensor) -> Tensor:
        """[b, 2] -> [b, 2 * 2 * num_frequencies], wavelengths 2 pi to 20000 pi as for timesteps."""
        count = self.config.num_frequencies
        exponents = torch.arange(count, device=numbers.device, dtype=torch.float32) / count
        angles = numbers[..., None] * torch.exp(-math.log(10000.0) * exponents)
        return torch.cat([angles.cos(), angles.sin()], dim=-1).flatten(1)


class ExifTimeEmbedding(nn.Module):
    """A UNet's own time embedding, plus the EXIF embedding where EXIF is given."""

    def __init__(self, stock: nn.Module, exif: ExifEmbedder) -> None:
        super().__init__()
        self.stock = stock
        self.exif = exif

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        """Embed the timestep's sinusoids `sample`; `condition` is `Exif.stacked()` or None."""
        embedding = self.stock(sample)
        if condition is None:
            return embedding
        return embedding + self.exif(condition).to(embedding.dtype)


EXIF_FOLDER = "exif_embedder"


def saved_embedder(folder: Path | None) -> ExifEmbedder | None:
    """Return the embedder that an export wrote beside its UNet; None where there is none.

    Raises:
        UserError: It cannot be read.
    """
    if folder is None or not (folder / EXIF_FOLDER).is_dir():
        return None
    embedder: ExifEmbedder = exported_part(ExifEmbedder, folder, EXIF_FOLDER)
    return embedder


def with_exif(
    unet: UNet2DConditionModel, embedder: ExifEmbedder | None = None
) -> UNet2DConditionModel:
    """Add an EXIF embedding to a UNet, in place: it then takes `timestep_cond=Exif.stacked()`.

    Without that argument its output is unchanged.

    Args:
        unet: any diffusers UNet without a `time_cond_proj_dim` of its own (SDXL, SD 1.5).
        embedder: a trained one; None: a new one of the right width, which starts at zero.

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
    # The embedder's vector is added to the time embedding: both have one width.
    width = unet.time_embedding.linear_2.out_features
    embedder = embedder or ExifEmbedder(dim=width, hidden=width)
    if embedder.config.dim != width:
        raise ValueError(
            f"The embedder makes vectors of {embedder.config.dim}, but this UNet's time embedding "
            f"has {width}."
        )
    stock_weight = unet.time_embedding.linear_2.weight
    unet.time_embedding = ExifTimeEmbedding(unet.time_embedding, embedder.to(stock_weight.device))
    return unet


def without_exif(unet: UNet2DConditionModel) -> ExifEmbedder:
    """Restore the UNet's own time embedding, in place, and return the EXIF embedder.

    `unet.save_pretrained` then writes diffusers' stock layout; save the embedder separately.

    Raises:
        ValueError: if the UNet has no EXIF embedding.
    """
    wrapped = unet.time_embedding
    if not isinstance(wrapped, ExifTimeEmbedding):
        raise ValueError("This UNet takes no EXIF; call with_exif first.")
    unet.time_embedding = wrapped.stock
    return wrapped.exif


def _checked(key: str, value: Numbers, bounds: tuple[float, float], unit: str) -> Tensor:
    """A user's numbers as [n] float32, each within the bounds."""
    numbers = torch.as_tensor(value, dtype=torch.float32).reshape(-1)
    low, high = bounds
    for number in numbers.tolist():
        if not low <= number <= high:
            raise UserError(
                f"{key}: {number:g}{unit} is not a camera's; choose between {low:g} and "
                f"{high:g}{unit}."
            )
    return numbers
