"""Run by the Python of a base install: optics and metrics work with torch, torchmetrics and
jaxtyping alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from importlib.metadata import distributions

from packaging.requirements import Requirement  # which torchmetrics itself requires

HEAVY = (
    "pytorch_lightning",
    "lightning",
    "diffusers",
    "transformers",
    "peft",
    "webdataset",
    "jsonargparse",
)
ALWAYS_THERE = {"pip", "setuptools", "wheel", "dofsuite"}


def required_by(name: str) -> set[str]:
    """The names of `name` and of all that it requires here, with the requested extras."""
    installed = {normal(distribution.name): distribution for distribution in distributions()}
    done: set[tuple[str, str]] = set()
    todo = [(normal(name), "")]
    while todo:
        current, extra = todo.pop()
        if (current, extra) in done or current not in installed:
            continue
        done.add((current, extra))
        for line in installed[current].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                todo += [(normal(requirement.name), wanted) for wanted in ("", *requirement.extras)]
    return {found for found, _ in done}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def check_that_nothing_else_is_installed() -> None:
    installed = {normal(distribution.name) for distribution in distributions()}
    surplus = installed - required_by("dofsuite") - ALWAYS_THERE
    assert not surplus, f"a base install holds more than the base: {sorted(surplus)}"
    importable = [name for name in HEAVY if importlib.util.find_spec(name) is not None]
    assert not importable, importable


def check_that_a_bokeh_is_rendered() -> None:
    import torch

    from dofsuite.optics import render_bokeh

    image_linear = torch.zeros(1, 3, 33, 33)
    image_linear[:, :, 16, 16] = 1.0
    sharp = render_bokeh(image_linear, torch.zeros(1, 1, 33, 33))
    assert torch.allclose(
        sharp, image_linear, atol=5e-3
    )  # the kernel has a soft edge of half a pixel
    blurred = render_bokeh(image_linear, torch.full((1, 1, 33, 33), 5.0), method="exact")
    lit = (blurred[0, 0] > blurred.max() / 2).sum().item()
    assert abs(lit / (torch.pi * 5.0**2) - 1) < 0.15, lit
    assert abs(blurred[0, 0].sum().item() - 1) < 0.02


def check_that_every_exported_name_imports() -> None:
    for room in ("dofsuite.optics", "dofsuite.metrics"):
        if importlib.util.find_spec(room) is None:
            continue
        module = importlib.import_module(room)
        for name in module.__all__:
            getattr(module, name)
    loaded = [name for name in HEAVY if name in sys.modules]
    assert not loaded, loaded


def check_that_a_plot_says_what_it_lacks() -> None:
    import torch

    from dofsuite.metrics import BlurMonotonicity

    lacking = ""
    try:
        BlurMonotonicity().plot(torch.tensor(0.5))
    except ModuleNotFoundError as error:
        lacking = str(error)
    assert "matplotlib" in lacking


if __name__ == "__main__":
    check_that_nothing_else_is_installed()
    check_that_a_bokeh_is_rendered()
    check_that_every_exported_name_imports()
    check_that_a_plot_says_what_it_lacks()
    print("base install: ok")
