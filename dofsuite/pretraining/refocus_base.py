"""Pretraining of the small base model: unconditional photographs, and one toy conditional task.

A pretrained FLUX knows photographs and follows prompts. The small base model shipped with dofsuite
learns both from the synthetic photographs: unconditionally, photographs with rendered blur; and,
conditioned on a point and a level in the prompt token, fog that is clear around the depth of the
point. It is never trained on how focus and blur follow from a camera: the quickstart's adapter and
camera token learn that on top of it.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite import diffusion
from dofsuite.data import Batch
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.module import Example, Refocus


def fog(
    image: Float[Tensor, "b 3 h w"],
    disparity: Float[Tensor, "b 1 h w"],
    clear_at: Float[Tensor, "b"],
    density: Float[Tensor, "b"],
) -> Float[Tensor, "b 3 h w"]:
    """Fade to mid-gray with the distance to a depth: w I + (1 - w) / 2, w = exp(-density |D - d|).

    The law of a homogeneous haze (Koschmieder), with the distance to a plane instead of to the eye.

    Args:
        image: Display values in [0, 1].
        disparity: 0 far to 1 near.
        clear_at: Disparity d that is unchanged.
        density: Extinction per unit of disparity, 0 or above.
    """
    distance = (disparity - clear_at[:, None, None, None]).abs()
    transmission = torch.exp(-density[:, None, None, None] * distance)
    return transmission * image + (1 - transmission) / 2


class RefocusPretraining(Refocus):
    """Trains all weights of a small base model (*ours*): a share of prompted images in fog."""

    def __init__(
        self, prompt_share: float = 0.7, density_per_level: float = 0.25, **options: Any
    ) -> None:
        """Store the configuration.

        Args:
            prompt_share: Share of prompted examples: their camera token is a point and a level,
                their target the reference in fog that is clear at the depth of the point. The
                others are photographs with blur, trained unconditionally.
            density_per_level: Density of the fog for a level of 1.
            options: See `Refocus`; a base has no adapter (`lora: null`) and no stacking constraint
                (weight 0).
        """
        super().__init__(**options)
        if not 0 <= prompt_share <= 1:
            raise ValueError(
                f"prompt_share: a share between 0 and 1 is expected, not {prompt_share}"
            )
        if self.lora is not None or self.stacking.weight != 0:
            raise ValueError("a base is trained with lora: null and stacking.weight: 0")
        self.prompt_share, self.density_per_level = prompt_share, density_per_level

    def is_prompted(self, batch: Batch) -> Tensor:
        """Return which samples are prompted, [b] bool."""
        uniform = diffusion.draw_uniform(self.seed, batch.index.tolist(), "prompted", 1)[:, 0]
        return uniform.to(self.device) < self.prompt_share

    def render(self, batch: Batch, cameras: tuple[Cameras, Cameras, Cameras]) -> list[Tensor]:
        """Replace the targets of prompted samples by their references in fog."""
        reference, target, second = super().render(batch, cameras)
        density = self.density_per_level * cameras[1].bokeh_level
        foggy = fog(reference, batch.disparity, cameras[1].focus_disparity, density)
        is_prompted = self.is_prompted(batch)[:, None, None, None]
        return [reference, torch.where(is_prompted, foggy, target), second]

    def example(self, batch: Batch) -> Example:
        """Train samples with rendered blur unconditionally: a negative level is a zero token."""
        x = super().example(batch)
        level = torch.where(self.is_prompted(batch), x.first_camera.bokeh_level, -1.0)
        return x._replace(first_camera=x.first_camera._replace(bokeh_level=level))
