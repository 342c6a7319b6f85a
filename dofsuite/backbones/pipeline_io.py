"""Arguments and results of both pipelines: random generators, latent noise, output types."""

from collections.abc import Callable, Sequence
from typing import Literal, cast, get_args

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from dofsuite.images import to_pil

# PIL images, a tensor [b, 3, h, w], or, as in diffusers, an array [b, h, w, 3]; in [0, 1].
OutputType = Literal["pil", "pt", "np"]

OutputImages = list[Image.Image] | list[list[Image.Image]] | Tensor | np.ndarray

# One for all images, one for each, or torch's global one.
Generators = torch.Generator | list[torch.Generator] | None


def check_output_arguments(output_type: str, generator: Generators = None, count: int = 1) -> None:
    """Check the arguments that both pipelines share.

    Raises:
        ValueError: `output_type` is none of `OutputType`, or a list of generators is not one for
            each of `count` images.
    """
    if output_type not in get_args(OutputType):
        raise ValueError(
            f"output_type must be one of {', '.join(get_args(OutputType))}, not {output_type!r}"
        )
    if isinstance(generator, list) and len(generator) != count:
        raise ValueError(
            f"generator: {len(generator)} for {count} images; give one for all or one for each"
        )


def to_output_type(images: Tensor, output_type: OutputType) -> OutputImages:
    """Convert display values [b, 3, h, w] or [b, n, 3, h, w] in [0, 1]; PIL: b, or b lists of n."""
    if output_type == "pt":
        return images
    if output_type == "np":
        return images.movedim(-3, -1).float().cpu().numpy()
    if images.ndim == 5:
        return [cast(list[Image.Image], to_output_type(row, "pil")) for row in images]
    return [to_pil(image) for image in images]


def latent_noise(shape: Sequence[int], generator: Generators, device: torch.device) -> Tensor:
    """Draw standard normal noise [b, c, h, w].

    As in stock diffusers it is drawn on the generators' device, then moved. Without a generator it
    is drawn on the CPU, so that it does not depend on the device.
    """
    first = generator[0] if isinstance(generator, list) else generator
    drawn_on = torch.device("cpu") if first is None else first.device
    return randn_tensor(tuple(shape), generator, drawn_on).to(device)


def step_noise(
    generator: Generators, shape: Sequence[int], device: torch.device
) -> Callable[[int], Tensor]:
    """Return a function that draws the noise of each sampling step, in the order of its calls."""
    return lambda step: latent_noise(shape, generator, device)
