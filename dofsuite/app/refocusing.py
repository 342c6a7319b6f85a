"""A network's refocusing of the photograph in the workspace."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from dofsuite.app.overlay import enlarged
from dofsuite.app.scene_shot import SCREEN_PX
from dofsuite.app.workspace import Workspace
from dofsuite.photography.photos_config import Point
from dofsuite.refocus import RefocusPipeline

SEED = 0


def refocus(
    pipe: RefocusPipeline,
    workspace: Workspace,
    focus: Point,
    bokeh_level: float,
    is_depth_used: bool,
    on_step: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[Tensor, Tensor]:
    """Return the photograph as the network was given it and its answer, both [3, h, w].

    Args:
        pipe: The network; its noise is that of seed 0, so that the same question has one answer.
        workspace: Photograph and depth.
        focus: (x, y), fractions of width and height.
        bokeh_level: As the pipeline's.
        is_depth_used: Whether the network is given the depth.
        on_step: Called with (steps done, steps).
    """
    image = workspace.preview.sharp_srgb[None]
    depth = workspace.depth.disparity if is_depth_used else None
    steps = pipe.config.num_inference_steps

    def after_step(_: Any, step: int, __: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        on_step(step + 1, steps)
        return tensors

    # One photograph, one answer
    (images,) = cast(
        tuple[Tensor],
        pipe(
            image,
            focus,
            bokeh_level,
            depth,
            generator=torch.Generator().manual_seed(SEED),
            output_type="pt",
            return_dict=False,
            callback_on_step_end=after_step,
        ),
    )
    pair = (pipe.prepare_image(image)[0].cpu(), images[0].cpu())
    return enlarged(pair[0], SCREEN_PX), enlarged(pair[1], SCREEN_PX)
