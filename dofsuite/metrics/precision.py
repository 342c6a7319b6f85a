"""The precision of the running sums: float64, or float32 on devices that have no float64."""

import torch
from torch import Tensor

# Device types without float64: Apple's GPU.
WITHOUT_FLOAT64 = {"mps"}


def widest_float(device: torch.device | str) -> torch.dtype:
    """float64, or float32 where the device has none.

    Example:
        >>> widest_float("cpu"), widest_float("mps")
        (torch.float64, torch.float32)
    """
    return torch.float32 if torch.device(device).type in WITHOUT_FLOAT64 else torch.float64


def widen(values: Tensor) -> Tensor:
    """The values in the widest floating-point type of their device."""
    return values.to(widest_float(values.device))


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """The values on a device, float64 made float32 where it has none."""
    if values.dtype == torch.float64:
        return values.to(device, widest_float(device))
    return values.to(device)


def tolerance(values: Tensor, of_float64: float, of_float32: float) -> float:
    """The tolerance that fits the rounding of the values."""
    return of_float64 if values.dtype == torch.float64 else of_float32
