"""Sweeps [batch, settings, 3, h, w], one image of each scene for each setting: checks and pairs."""

from itertools import combinations
from typing import Literal, TypeVar, get_args

from torch import Tensor

Choice = TypeVar("Choice", bound=str)

# Which settings are compared: adjacent, all, or all with the first or with the last.
Pairs = Literal["adjacent", "all", "first", "last"]


def setting_pairs(num_settings: int, pairs: Pairs) -> tuple[list[int], list[int]]:
    """Earlier and later setting of every pair.

    Example:
        >>> setting_pairs(3, "all")
        ([0, 0, 1], [1, 2, 2])
    """
    last = num_settings - 1
    kept = {
        "adjacent": [(i, i + 1) for i in range(last)],
        "all": list(combinations(range(num_settings), 2)),
        "first": [(0, j) for j in range(1, num_settings)],
        "last": [(i, last) for i in range(last)],
    }[pairs]
    return [i for i, _ in kept], [j for _, j in kept]


def check_sweep(
    sweep: Tensor, num_settings: int | None = None, name: str = "preds", setting: str = "settings"
) -> None:
    """Check a sweep.

    Args:
        sweep: floating-point display values [batch, settings, 3, h, w].
        num_settings: the expected number of settings; None for two or more.
        name: the argument's name in the error.
        setting: the settings' name in the error.

    Raises:
        ValueError: naming the argument, on another shape, 8-bit or non-finite values, or no pixels.
    """
    wanted = setting if num_settings is None else f"{num_settings} {setting}"
    enough = sweep.ndim == 5 and (
        sweep.shape[1] >= 2 if num_settings is None else sweep.shape[1] == num_settings
    )
    if not enough or sweep.shape[2] != 3:
        more = "" if num_settings is not None else " with at least two settings"
        raise ValueError(
            f"{name} must be [batch, {wanted}, 3, h, w]{more}, not {list(sweep.shape)}."
        )
    check_images(sweep, name)


def check_images(images: Tensor, name: str) -> None:
    """Check that images are finite floating-point values and not empty; else ValueError."""
    if not images.is_floating_point():
        raise ValueError(
            f"{name} must be floating-point values in [0, 1], not {images.dtype}; divide 8-bit by "
            "255."
        )
    if images.numel() == 0:
        raise ValueError(
            f"{name} must hold at least one image of at least one pixel, not {list(images.shape)}."
        )
    # One of them would stay in the running sums.
    if not bool(images.isfinite().all()):
        raise ValueError(f"{name} must be finite; at least one image holds a NaN or an infinity.")


def one_of(choice: Choice, choices: object, name: str) -> Choice:
    """The choice, or a ValueError that names the argument and the choices.

    Example:
        >>> one_of("all", Pairs, "pairs")
        'all'
    """
    allowed = get_args(choices)
    if choice not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {choice!r}.")
    return choice
