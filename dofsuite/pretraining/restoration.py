"""What a base model can restore on held-out scenes: the gates before one is shipped."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad
from torchmetrics import MeanMetric, SumMetric

from dofsuite import diffusion
from dofsuite.data import Batch
from dofsuite.refocus.probe import near_and_far_cameras
from dofsuite.refocus.rendering import Rendering, input_width_px, photograph

# Level of the blur that is to be undone.
LEVEL = 10.0

# Images [b, 3, h, w], disparity, indices of the scenes -> the same images, all in focus.
Restorer = Callable[[Tensor, Tensor, list[int]], Tensor]


def high_pass_energy(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    """Return the energy of fine detail, sum (x - box_3x3 * x)^2, with the border repeated."""
    smooth = avg_pool2d(pad(image, [1] * 4, mode="replicate"), 3, stride=1)
    return (image - smooth).square().sum(dim=(1, 2, 3))


class RestorationProbe:
    """Copying of a sharp reference, and deblurring of one that is focused near, then far.

    `values`: `copy_mae`, the mean absolute error of restoring what is sharp; `high_pass_kept`, its
    fine detail over the reference's; `deblur_mae` of restoring a blur of level 10 without depth,
    `deblur_mae_copy` that of doing nothing, and `deblur_ratio` of the two; `deblur_mae_with_depth`.
    """

    def __init__(self, rendering: Rendering, seed: int, restore: Restorer) -> None:
        self.rendering, self.restore = rendering, restore
        self.seed = seed
        # Any: torch types the items of a ModuleDict as modules without `update`.
        self.metrics: Any = nn.ModuleDict(
            {
                "copy_mae": MeanMetric(),
                "high_pass": SumMetric(),
                "high_pass_true": SumMetric(),
                "deblur_mae": MeanMetric(),
                "deblur_mae_with_depth": MeanMetric(),
                "deblur_mae_copy": MeanMetric(),
            }
        )

    @torch.no_grad()
    def update(self, batch: Batch) -> None:
        self.metrics.to(batch.image_srgb.device)
        sharp, index = batch.image_srgb, batch.index.tolist()
        disparity, no_depth = batch.disparity, torch.zeros_like(batch.disparity)
        # A sharp reference
        copied = self.restore(sharp, no_depth, index)
        self._add("copy_mae", copied, sharp)
        self.metrics["high_pass"].update(high_pass_energy(copied))
        self.metrics["high_pass_true"].update(high_pass_energy(sharp))
        # One focused on the nearest, one on the farthest tenth
        uniforms = diffusion.draw_uniform(self.seed, index, "probe", 2).to(disparity.device)
        cameras = near_and_far_cameras(disparity, uniforms)
        level = torch.full_like(cameras[0].bokeh_level, LEVEL)
        blurred = photograph(
            sharp,
            disparity,
            input_width_px(sharp),
            [camera._replace(bokeh_level=level) for camera in cameras],
            self.rendering,
        )
        for image in blurred:
            self._add("deblur_mae", self.restore(image, no_depth, index), sharp)
            self._add("deblur_mae_with_depth", self.restore(image, disparity, index), sharp)
            self._add("deblur_mae_copy", image, sharp)

    def _add(self, name: str, image: Tensor, target: Tensor) -> None:
        self.metrics[name].update((image - target).abs().mean(dim=(1, 2, 3)))

    def values(self) -> dict[str, float]:
        values = {name: float(metric.compute()) for name, metric in self.metrics.items()}
        kept = values.pop("high_pass") / values.pop("high_pass_true")
        ratio = values["deblur_mae"] / values["deblur_mae_copy"]
        return {**values, "high_pass_kept": kept, "deblur_ratio": ratio}
