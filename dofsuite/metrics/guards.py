"""What every metric refuses, each in one short sentence: the one place where inputs are checked.

All raise ValueError with at most 200 characters that name the argument.
"""

import math
import reprlib
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor

Choice = TypeVar("Choice", bound=str)

# Decoders overshoot [0, 1] a little (*ours*): that much is clamped, more is another range.
OVERSHOOT = 0.1


def display_sweep(
    sweep: Tensor, num_settings: int | None = None, name: str = "preds", setting: str = "settings"
) -> Tensor:
    """The sweep clamped to [0, 1].

    Args:
        sweep: floating-point display values [batch, settings, 3, h, w].
        num_settings: the expected number of settings; None for two or more.
        name: the argument's name in the error.
        setting: the settings' name in the error.

    Raises:
        ValueError: naming the argument, on another type, shape or range, non-finite values, or no
            pixels.
    """
    check_tensor(sweep, name)
    wanted = setting if num_settings is None else f"{num_settings} {setting}"
    enough = sweep.ndim == 5 and (
        sweep.shape[1] >= 2 if num_settings is None else sweep.shape[1] == num_settings
    )
    if not enough or sweep.shape[2] != 3:
        more = "" if num_settings is not None else " with at least two settings"
        raise ValueError(f"{name} must be [batch, {wanted}, 3, h, w]{more}, not {shape_of(sweep)}.")
    return display_values(sweep, name)


def display_images(images: Tensor, name: str = "preds") -> Tensor:
    """Images [batch, 3, h, w] clamped to [0, 1]; ValueError as `display_sweep`'s."""
    check_tensor(images, name)
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"{name} must be [batch, 3, h, w], not {shape_of(images)}.")
    return display_values(images, name)


def display_values(images: Tensor, name: str = "image") -> Tensor:
    """Images [..., 3, h, w] clamped to [0, 1]; ValueError as `display_sweep`'s."""
    # Kind
    check_tensor(images, name)
    if images.ndim < 3 or images.shape[-3] != 3:
        raise ValueError(f"{name} must be [..., 3, h, w], not {shape_of(images)}.")
    if not images.is_floating_point():
        raise ValueError(
            f"{name} must be floating-point values in [0, 1], not {images.dtype}; divide 8-bit by "
            "255."
        )
    if images.numel() == 0:
        raise ValueError(
            f"{name} must hold at least one image of at least one pixel, not {shape_of(images)}."
        )
    # Range: one pass; a NaN is both of the ends
    low, high = torch.stack(images.detach().aminmax()).tolist()
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError(f"{name} must be finite; at least one image holds a NaN or an infinity.")
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        signed = low >= -1 - OVERSHOOT and high <= 1 + OVERSHOOT
        remedy = "of [-1, 1] take (x + 1) / 2" if signed else "of 0 to 255 take x / 255"
        raise ValueError(
            f"{name} must be display values in [0, 1], not {low:.4g} to {high:.4g}; {remedy}."
        )
    return images if low >= 0 and high <= 1 else images.clamp(0, 1)


def check_tensor(value: object, name: str) -> None:
    """ValueError if it is no tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} must be a torch tensor, not {short(type(value).__name__)}; make one of an "
            "array with torch.as_tensor."
        )


def check_same_shape(target: Tensor, preds: Tensor, name: str = "target") -> None:
    """ValueError if two checked sweeps or batches do not show the same scenes in one size."""
    if target.shape == preds.shape:
        return
    if len(target) != len(preds):
        raise ValueError(
            f"preds and {name} must show the same scenes, not {len(preds)} and {len(target)}."
        )
    raise ValueError(
        f"preds and {name} must have one size, not {shape_of(preds)} and {shape_of(target)}."
    )


def check_callable(network: object, name: str) -> None:
    """ValueError if it cannot be called with images."""
    if not callable(network):
        raise ValueError(
            f"{name} must be a function of images, not {short(type(network).__name__)}."
        )


def finite_numbers(values: Any, name: str) -> list[float]:
    """At least two different, finite numbers.

    Raises:
        ValueError: if they are fewer, or none of that.
    """
    if isinstance(values, Tensor) and values.ndim != 1:
        raise ValueError(
            f"{name} must be a list of at least two numbers, not a tensor {shape_of(values)}."
        )
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(set(numbers)) < 2 or not all(map(math.isfinite, numbers)):
        raise ValueError(
            f"{name} must hold at least two different, finite numbers, not {short(values)}."
        )
    return numbers


def check_window(window: float | int) -> None:
    """ValueError if it is no share in (0, 1]."""
    if not isinstance(window, int | float) or not 0 < window <= 1:
        raise ValueError(f"window must be a share of the long side in (0, 1], not {short(window)}.")


def one_of(choice: Choice, choices: object, name: str) -> Choice:
    """The choice, or a ValueError that names the argument and the choices.

    Example:
        >>> from typing import Literal
        >>> one_of("all", Literal["adjacent", "all"], "pairs")
        'all'
    """
    allowed = get_args(choices)
    if choice not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {short(choice)}.")
    return choice


def shape_of(tensor: Tensor) -> str:
    return short(list(tensor.shape))


def short(value: object) -> str:
    """A repr of at most 40 characters."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)[:4]}"
    text = value if isinstance(value, str) and value.isidentifier() else reprlib.repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
