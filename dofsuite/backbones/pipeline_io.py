"""What a call of either pipeline takes and gives: one generator or one for each picture, and kinds of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

OutputType = Literal["pil", "pt", "np"]
"""PIL images, a tensor [b, 3, h, w], or as diffusers has it an array [b, h, w, 3]; both in [0, 1]."""

OutputImages = list[Image.Image] | list[list[Image.Image]] | Tensor | np.ndarray

Generators = torch.Generator | list[torch.Generator] | None
"""One for all pictures, one for each, or torch's global one."""


def check_output_arguments(output_type: str, generator: Generators = None, count: int = 1) -> None:
    """Refuse a kind of pictures that is none of `OutputType`, and generators that are not one for each of `count`.

    Raises:
        ValueError: On either.
    """
    if output_type not in get_args(OutputType):
        raise ValueError(
            f"output_type must be one of {', '.join(get_args(OutputType))}, not {output_type!r}"
        )
    if isinstance(generator, list) and len(generator) != count:
        raise ValueError(
            f"generator: {len(generator)} for {count} pictures; give one for all or one for each"
        )


def to_output_type(images: Tensor, output_type: OutputType) -> OutputImages:
    """Turn display values [b, 3, h, w] or [b, n, 3, h, w] in [0, 1] into what was asked for: b, or b lists of n.

    Raises:
        ValueError: It is none of `OutputType`.
    """
    check_output_arguments(output_type)
    if output_type == "pt":
        return images
    if output_type == "np":
        return images.movedim(-3, -1).float().cpu().numpy()
    if images.ndim == 5:
        return [to_output_type(row, "pil") for row in images]
    arrays = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in arrays]


def noise(shape: Sequence[int], generator: Generators, device: torch.device) -> Tensor:
    """Draw standard normal noise [b, c, h, w] as stock diffusers does: on the generators' device, then moved.

    Without a generator it is drawn on the CPU, and is the same on every device.
    """
    first = generator[0] if isinstance(generator, list) else generator
    return randn_tensor(
        tuple(shape), generator, first.device if first is not None else torch.device("cpu")
    ).to(device)


def draws(
    generator: Generators, shape: Sequence[int], device: torch.device
) -> Callable[[int], Tensor]:
    """Return each step's noise, drawn in the order in which sampling asks for it."""
    return lambda step: noise(shape, generator, device)
