"""From a photograph's stored values to light and back, by the tone curve of its color profile.

Blur is an average of light. Averages do not depend on the primaries of a color space, only on its
tone curve: so a photograph is blurred in its own color space, decoded and encoded by its own curve.
No color leaves the gamut, and the embedded profile stays true.

Source: ICC.1:2022, 10.6 (curveType) and 10.18 (parametricCurveType).
"""

import struct
from dataclasses import dataclass

import torch
from torch import Tensor

TAG_TABLE_AT = 128
# Coefficients that each function type of a parametric curve stores, in order.
PARAMETERS = {0: "g", 1: "gab", 2: "gabc", 3: "gabcd", 4: "gabcdef"}


@dataclass(frozen=True)
class ParametricCurve:
    """light = (a v + b)^g + e for v >= d, else c v + f: every function type of the ICC."""

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0

    def to_linear(self, values: Tensor) -> Tensor:
        """Stored values in [0, 1], any shape, to light."""
        power = (self.a * values + self.b).clamp(min=0) ** self.g + self.e
        return torch.where(values >= self.d, power, self.c * values + self.f)

    def from_linear(self, light: Tensor) -> Tensor:
        """The inverse of `to_linear`."""
        power = ((light - self.e).clamp(min=0) ** (1 / self.g) - self.b) / self.a
        if self.c == 0:
            return power
        at_d = (self.a * self.d + self.b) ** self.g + self.e
        return torch.where(light >= at_d, power, (light - self.f) / self.c)


@dataclass(frozen=True)
class SampledCurve:
    """Light at equal steps of the stored value, increasing; linear in between."""

    samples: Tensor

    def to_linear(self, values: Tensor) -> Tensor:
        """Stored values in [0, 1], any shape, to light."""
        samples = self.samples.to(values)
        position = values.clamp(0, 1) * (len(samples) - 1)
        cell = position.long().clamp(max=len(samples) - 2)
        return torch.lerp(samples[cell], samples[cell + 1], position - cell)

    def from_linear(self, light: Tensor) -> Tensor:
        """The inverse of `to_linear`."""
        samples = self.samples.to(light)
        cell = torch.searchsorted(samples, light.contiguous(), right=True) - 1
        cell = cell.clamp(0, len(samples) - 2)
        low, high = samples[cell], samples[cell + 1]
        share = ((light - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        return (cell + share) / (len(samples) - 1)


ToneCurve = ParametricCurve | SampledCurve
SRGB = ParametricCurve(g=2.4, a=1 / 1.055, b=0.055 / 1.055, c=1 / 12.92, d=0.04045)


def tone_curves(icc_profile: bytes) -> tuple[ToneCurve, ...] | None:
    """Read a profile's curves: three (red, green, blue), or one (gray); None if it has none.

    Profiles by look-up tables alone (CMYK, scanners) have none, and so have damaged ones.
    """
    try:
        tags = _tags(icc_profile)
        names = [b"rTRC", b"gTRC", b"bTRC"] if b"rTRC" in tags else [b"kTRC"]
        return tuple(_curve(tags[name]) for name in names)
    except (KeyError, IndexError, struct.error, ValueError):
        return None


def _tags(icc_profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", icc_profile, TAG_TABLE_AT)
    tags = {}
    for index in range(min(count, 100)):
        name, start, size = struct.unpack_from(">4sII", icc_profile, TAG_TABLE_AT + 4 + 12 * index)
        tags[name] = icc_profile[start : start + size]
    return tags


def _curve(tag: bytes) -> ToneCurve:
    # By formula
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        names = PARAMETERS[kind]
        fixed_point = struct.unpack_from(f">{len(names)}i", tag, 12)
        p = {name: number / 65536 for name, number in zip(names, fixed_point, strict=True)}
        if kind in (1, 2):  # the power from -b / a on, the constant c (0) below, added to both
            offset = p.pop("c", 0.0)
            p |= {"d": -p["b"] / p["a"], "e": offset, "f": offset}
        return ParametricCurve(**p)
    # By samples, of which one is a gamma, and none is the identity
    if tag[:4] != b"curv":
        raise ValueError("not a tone curve")
    (count,) = struct.unpack_from(">I", tag, 8)
    numbers = struct.unpack_from(f">{count}H", tag, 12)
    if count <= 1:
        return ParametricCurve(numbers[0] / 256 if numbers else 1.0)
    samples = torch.tensor(numbers, dtype=torch.float64) / 65535
    return SampledCurve(samples.cummax(0).values)
