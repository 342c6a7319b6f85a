"""From photographs of a scene at several apertures to energies, pairs of apertures, and the table of `pairs`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.evaluation.report import Table
from dofsuite.metrics import blur_energy
from dofsuite.metrics.monotonicity import TIE
from dofsuite.optics import srgb_to_linear

ENERGIES: dict[str, Callable[[Tensor], Tensor]] = {
    "paper": lambda image: blur_energy(image, "paper"),
    "ac": lambda image: blur_energy(image, "ac"),
    "paper, in light": lambda image: blur_energy(srgb_to_linear(image), "paper"),
    "ac, in light": lambda image: blur_energy(srgb_to_linear(image), "ac"),
}
"""Column of the table to energy of display values [3, h, w]."""
COLUMNS = ("pairs", *ENERGIES, "brightness ratio", "order of brightness", "ties (ac)")
TITLE = "Share of pairs with E(smaller aperture) > E(larger aperture)"
PAPER_SHARE = 0.96
"""Of EBB! (*stated*)."""
SAME_BRIGHTNESS = 1e-6
"""Mean display values of a smaller relative difference are one: pictures are decoded in float32."""


def measured(key: str, pictures: Iterable[tuple[float, Tensor]]) -> dict[str, Any]:
    """Return f-numbers, and each picture's energies and mean display value; plain data.

    Args:
        key: The scene's name.
        pictures: f-number and display values [3, h, w] in [0, 1], by rising f-number.
    """
    energies: dict[str, list[float]] = {name: [] for name in ENERGIES}
    f_numbers, brightness, sizes = [], [], set()
    for f_number, picture in pictures:
        image = picture.double()
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


class AperturePair(NamedTuple):
    """Two photographs of a scene, the one with the larger f-number second."""

    key: str
    wide: float
    narrow: float
    neighbours: bool
    outermost: bool
    brightness: tuple[float, float]
    energies: dict[str, tuple[float, float]]

    def rise(self, name: str) -> int:
        """Return 1 where the smaller aperture has more of this energy, 0 for a tie, -1 where it has less."""
        return order(*self.energies[name])


def order(before: float, after: float, tie: float = TIE) -> int:
    """Return 1, 0 or -1 as `after` is larger, tied or smaller: `dofsuite.metrics.blur_monotonicity`'s rule."""
    difference = after - before
    return 0 if abs(difference) <= tie * max(before, after) else int(math.copysign(1, difference))


def steps_of(scenes: Iterable[dict[str, Any]]) -> list[AperturePair]:
    """Return all pairs of apertures of all scenes."""
    return [
        AperturePair(
            scene["key"],
            scene["f_numbers"][i],
            scene["f_numbers"][j],
            j == i + 1,
            i == 0 and j == len(scene["f_numbers"]) - 1,
            (scene["brightness"][i], scene["brightness"][j]),
            {name: (values[i], values[j]) for name, values in scene["energies"].items()},
        )
        for scene in scenes
        for j in range(len(scene["f_numbers"]))
        for i in range(j)
    ]


def table_of(steps: list[AperturePair], notes: Sequence[str]) -> Table:
    """Return the shares of pairs whose energy rises, for each kind of pair."""
    kinds = kinds_of(steps)
    once_a_scene = [step for step in steps if step.outermost]
    paper = ("paper, EBB!", [None, PAPER_SHARE, *[None] * (len(COLUMNS) - 2)])
    explained = [
        "paper, ac: share of pairs in which the smaller aperture's photograph has more of that energy",
        "brightness ratio: median of the mean display value at the smaller aperture over that at the larger",
        "order of brightness: share of pairs in which the paper's energy rises exactly where the brightness does",
        *(
            interval_note(name, [step.rise(name) for step in once_a_scene])
            for name in ("paper", "ac")
        ),
    ]
    return Table(
        TITLE,
        COLUMNS,
        [(name, row_of(kind)) for name, kind in kinds.items()] + [paper],
        (*explained, *notes),
    )


def kinds_of(steps: list[AperturePair]) -> dict[str, list[AperturePair]]:
    """Return the rows' names and pairs: all; neighbours; the outermost; and each aperture with its scene's smallest."""
    apertures = {(step.wide, step.narrow) for step in steps}
    if len(apertures) == 1:
        return {name_of(*apertures.pop()): steps}
    kinds = {"all pairs of apertures": steps}
    if not all(step.neighbours for step in steps):
        kinds["neighbouring apertures"] = [step for step in steps if step.neighbours]
        kinds["largest and smallest"] = [step for step in steps if step.outermost]
    smallest = {step.key: step.narrow for step in steps if step.outermost}
    with_smallest = [step for step in steps if step.narrow == smallest[step.key]]
    for pair in sorted({(step.wide, step.narrow) for step in with_smallest}):
        kinds[name_of(*pair)] = [step for step in with_smallest if (step.wide, step.narrow) == pair]
    return kinds


def name_of(wide: float, narrow: float) -> str:
    """Return what a pair of apertures is called."""
    return f"f/{wide:g} and f/{narrow:g}"


def row_of(steps: list[AperturePair]) -> list[float | int | None]:
    """Return a row of the table."""
    rises = {name: [step.rise(name) for step in steps] for name in ENERGIES}
    shares = [sum(rise > 0 for rise in rises[name]) / len(steps) for name in ENERGIES]
    ratios = torch.tensor(
        [step.brightness[1] / max(step.brightness[0], 1e-6) for step in steps], dtype=torch.float64
    )
    as_bright = [
        order(*step.brightness, SAME_BRIGHTNESS) == rise
        for step, rise in zip(steps, rises["paper"], strict=True)
    ]
    ties = sum(rise == 0 for rise in rises["ac"]) / len(steps)
    return [len(steps), *shares, ratios.quantile(0.5).item(), sum(as_bright) / len(steps), ties]


def interval_note(name: str, rises: list[int]) -> str:
    """Say a share with its 95 % interval."""
    share, (low, high) = (
        sum(rise > 0 for rise in rises) / len(rises),
        wilson(sum(r > 0 for r in rises), len(rises)),
    )
    return f"{name}: {share:.3f}, with a 95 % interval of {low:.3f} to {high:.3f} (Wilson) for {len(rises)} scenes"


def wilson(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval of a share (JASA 22, 1927)."""
    share = successes / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return middle - half, middle + half
