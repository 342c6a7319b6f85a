"""From photographs of a scene at several apertures to energies, aperture pairs, and their table."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.evaluation.report import Number, Table
from dofsuite.metrics import blur_energy
from dofsuite.metrics.monotonicity import TIE
from dofsuite.optics import srgb_to_linear

# Column of the table -> energy of display values [3, h, w].
ENERGIES: dict[str, Callable[[Tensor], Tensor]] = {
    "paper": lambda image: blur_energy(image, "paper"),
    "ac": lambda image: blur_energy(image, "ac"),
    "paper, in light": lambda image: blur_energy(srgb_to_linear(image), "paper"),
    "ac, in light": lambda image: blur_energy(srgb_to_linear(image), "ac"),
}
COLUMNS = ("pairs", *ENERGIES, "brightness ratio", "order of brightness", "ties (ac)")
TITLE = "Share of pairs with E(smaller aperture) > E(larger aperture)"
# Of EBB! (*stated*).
PAPER_SHARE = 0.96
# Relative difference below which mean display values are equal: images are decoded in float32.
BRIGHTNESS_TIE = 1e-6
COLUMN_NOTES = (
    "paper, ac: share of pairs in which the smaller aperture's photograph has more of that energy",
    "brightness ratio: median of the mean display value at the smaller aperture over that at the "
    "larger",
    "order of brightness: share of pairs in which the paper's energy rises exactly where the "
    "brightness does",
)


def measure(key: str, images: Iterable[tuple[float, Tensor]]) -> dict[str, Any]:
    """Return f-numbers, and each image's energies and mean display value; plain data.

    Args:
        key: The scene's name.
        images: f-number and display values [3, h, w] in [0, 1], in order of f-number.
    """
    energies: dict[str, list[float]] = {name: [] for name in ENERGIES}
    f_numbers, brightness = [], []
    sizes = set()
    # One image at a time, in float64
    for f_number, image in images:
        image = image.double()
        f_numbers.append(f_number)
        sizes.add(image.shape)
        brightness.append(image.mean().item())
        for name, energy in ENERGIES.items():
            energies[name].append(energy(image).item())
    return {
        "key": key,
        "f_numbers": f_numbers,
        "brightness": brightness,
        "energies": energies,
        "one_size": len(sizes) == 1,
    }


# Two photographs of a scene, the one with the larger f-number second.
class AperturePair(NamedTuple):
    key: str
    wide: float
    narrow: float
    # Whether no other aperture of the scene lies between them.
    adjacent: bool
    # Whether they are the scene's largest and smallest aperture.
    outermost: bool
    brightness: tuple[float, float]
    energies: dict[str, tuple[float, float]]

    def rise(self, name: str) -> int:
        # 1 where the smaller aperture has more of this energy, 0 for a tie, else -1
        return order(*self.energies[name])


def order(before: float, after: float, tie: float = TIE) -> int:
    """Return 1, 0 or -1 as `after` is larger, tied or smaller: `blur_monotonicity`'s rule."""
    difference = after - before
    return 0 if abs(difference) <= tie * max(before, after) else int(math.copysign(1, difference))


def aperture_pairs(scenes: Iterable[dict[str, Any]]) -> list[AperturePair]:
    pairs = []
    for scene in scenes:
        f_numbers, brightness = scene["f_numbers"], scene["brightness"]
        # i is the larger aperture, j the smaller
        for j in range(len(f_numbers)):
            pairs += [
                AperturePair(
                    scene["key"],
                    f_numbers[i],
                    f_numbers[j],
                    adjacent=j == i + 1,
                    outermost=i == 0 and j == len(f_numbers) - 1,
                    brightness=(brightness[i], brightness[j]),
                    energies={name: (e[i], e[j]) for name, e in scene["energies"].items()},
                )
                for i in range(j)
            ]
    return pairs


def table_of(pairs: list[AperturePair], notes: Sequence[str]) -> Table:
    rows = [(name, row_of(kind)) for name, kind in kinds_of(pairs).items()]
    rows.append(("paper, EBB!", [None, PAPER_SHARE, *[None] * (len(COLUMNS) - 2)]))

    # Intervals of one pair a scene
    intervals = []
    outermost = [pair for pair in pairs if pair.outermost]
    for name in ("paper", "ac"):
        count = sum(pair.rise(name) > 0 for pair in outermost)
        low, high = wilson(count, len(outermost))
        intervals.append(
            f"{name}: {count / len(outermost):.3f}, with a 95 % interval of {low:.3f} to "
            f"{high:.3f} (Wilson) for {len(outermost)} scenes"
        )
    return Table(TITLE, COLUMNS, rows, (*COLUMN_NOTES, *intervals, *notes))


def kinds_of(pairs: list[AperturePair]) -> dict[str, list[AperturePair]]:
    # The pairs of every row: all; adjacent; outermost; each aperture with the smallest
    apertures = {(pair.wide, pair.narrow) for pair in pairs}
    if len(apertures) == 1:
        return {name_of(*apertures.pop()): pairs}

    # Scenes with more than two apertures
    kinds = {"all pairs of apertures": pairs}
    if not all(pair.adjacent for pair in pairs):
        kinds["neighbouring apertures"] = [pair for pair in pairs if pair.adjacent]
        kinds["largest and smallest"] = [pair for pair in pairs if pair.outermost]

    # Each aperture with its scene's smallest
    smallest = {pair.key: pair.narrow for pair in pairs if pair.outermost}
    for pair in sorted(pairs, key=lambda pair: (pair.wide, pair.narrow)):
        if pair.narrow == smallest[pair.key]:
            kinds.setdefault(name_of(pair.wide, pair.narrow), []).append(pair)
    return kinds


def name_of(wide: float, narrow: float) -> str:
    return f"f/{wide:g} and f/{narrow:g}"


def row_of(pairs: list[AperturePair]) -> list[Number]:
    # Shares of pairs whose energy rises, or is tied
    signs = {name: [pair.rise(name) for pair in pairs] for name in ENERGIES}
    shares = [sum(rise > 0 for rise in signs[name]) / len(pairs) for name in ENERGIES]
    ties = sum(rise == 0 for rise in signs["ac"]) / len(pairs)

    # Brightness: the median ratio, and how often the paper's energy has the same order
    ratios = [pair.brightness[1] / max(pair.brightness[0], 1e-6) for pair in pairs]
    median = torch.tensor(ratios, dtype=torch.float64).quantile(0.5).item()
    orders = [order(*pair.brightness, BRIGHTNESS_TIE) for pair in pairs]
    same_order = sum(a == b for a, b in zip(orders, signs["paper"], strict=True)) / len(pairs)
    return [len(pairs), *shares, median, same_order, ties]


def wilson(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval of a share (JASA 22, 1927)."""
    share = successes / count
    center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return center - half, center + half
