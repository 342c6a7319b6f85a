"""Training of a small base: a network that follows a prompt about a place in depth, before it is taught a camera.

A pretrained FLUX knows photographs and follows prompts. The small base that dofsuite carries has to
learn both from the synthetic photographs. It learns photographs with depth of field without being
told their camera, and, as its prompt, to draw mist that is clear around one depth. It is never
shown how a camera's numbers change a photograph's focus or blur: that is what the quickstart's
adapter and camera token learn on it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite import diffusion
from dofsuite.data import Batch
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.module import Example, Refocus


def mist(
    image: Float[Tensor, "b 3 h w"],
    disparity: Float[Tensor, "b 1 h w"],
    clear_at: Float[Tensor, "b"],
    density: Float[Tensor, "b"],
) -> Float[Tensor, "b 3 h w"]:
    """Fade a picture to mid-grey with the distance from one depth: w I + (1 - w) / 2, w = exp(-density |D - d|).

    The law of a homogeneous haze (Koschmieder) with the distance to a plane in place of the
    distance to the eye.

    Args:
        image: Display values in [0, 1].
        disparity: 0 far to 1 near.
        clear_at: Disparity d that stays as it is.
        density: Extinction per unit of disparity, 0 or above.
    """
    away = (disparity - clear_at[:, None, None, None]).abs()
    clarity = torch.exp(-density[:, None, None, None] * away)
    return clarity * image + (1 - clarity) / 2


class RefocusPretraining(Refocus):
    """Trains all weights of a small base (*ours*): a share of pictures in mist as prompted, the rest without prompt."""

    def __init__(
        self, prompted: float = 0.7, density_per_level: float = 0.25, **options: Any
    ) -> None:
        """Describe the training.

        Args:
            prompted: Share of examples that are prompted, with (x, y) and a level in the camera
                token's place, and whose target is the reference in mist that is clear at the depth
                of (x, y).
            density_per_level: Density of the mist for a level of 1.
            options: See `Refocus`; a base has no adapter (`lora: null`) and no stacking constraint
                (weight 0).
        """
        super().__init__(**options)
        if not 0 <= prompted <= 1:
            raise ValueError(f"prompted: a share between 0 and 1 is expected, not {prompted}")
        if self.lora is not None or self.stacking.weight != 0:
            raise ValueError("a base is trained with lora: null and stacking.weight: 0")
        self.prompted, self.density_per_level = prompted, density_per_level

    def is_prompted(self, batch: Batch) -> Tensor:
        """Return which samples are prompted, [b] bool."""
        uniform = diffusion.draw_uniform(self.seed, batch.index.tolist(), "prompted", 1)[:, 0]
        return uniform.to(self.device) < self.prompted

    def pictures(self, batch: Batch, cameras: tuple[Cameras, Cameras, Cameras]) -> list[Tensor]:
        """Replace the targets of prompted samples by their references in mist."""
        reference, target, second = super().pictures(batch, cameras)
        _, camera, _ = cameras
        misty = mist(
            reference,
            batch.disparity,
            camera.focus_disparity,
            self.density_per_level * camera.bokeh_level,
        )
        return [
            reference,
            torch.where(self.is_prompted(batch)[:, None, None, None], misty, target),
            second,
        ]

    def example(self, batch: Batch) -> Example:
        """Leave the samples of depth of field without a prompt: a level below 0 is a token of zeros."""
        x = super().example(batch)
        level = torch.where(self.is_prompted(batch), x.first_camera.bokeh_level, -1.0)
        return x._replace(first_camera=x.first_camera._replace(bokeh_level=level))
