"""The lens, forward and backward: counted at full size, and timed where there is a GPU."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from dofsuite.benchmarks.config import FFT_DTYPES as FFT_DTYPE_NAMES
from dofsuite.benchmarks.config import LensConfig as Config
from dofsuite.benchmarks.machine import Machine
from dofsuite.benchmarks.measurement import Measurement
from dofsuite.errors import UserError
from dofsuite.optics import render_bokeh
from dofsuite.optics.bokeh import METHODS
from dofsuite.optics.cost import lens_cost

# Least traffic of a pixel: image, radius and blurred image forward; these, the gradient that comes
# in and both that go out backward; float32.
FLOOR_BYTES_PER_PX = 28 + 60
# Radius up to which the peers are timed beside the fast methods: their time grows with radius^2.
LOOP_UP_TO_PX = 20
FFT_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in FFT_DTYPE_NAMES}


def measure(config: Config) -> Iterator[Measurement]:
    """One line a method and radius; where times are measured, also its peers' forward passes."""
    if unknown := [method for method in config.methods if method not in METHODS]:
        raise UserError(f"--methods: {unknown[0]!r} is none of {', '.join(METHODS)}.")

    # The floor, where times are measured
    machine = Machine.here()
    fft_dtype = FFT_DTYPES[config.fft_dtype]
    is_timed = machine.is_gpu or config.time_on_cpu
    floor_ms = None
    if is_timed:
        floor_ms = machine.floor_ms(moved_bytes=FLOOR_BYTES_PER_PX * config.px**2)
    for method in config.methods:
        for radius_px in config.radii_px:
            # Counted at full size on every machine
            cost = lens_cost(method, config.px, config.px, radius_px, fft_dtype=fft_dtype)
            timed = None
            if is_timed:
                render = functools.partial(
                    forward_and_backward, *inputs(config.px, radius_px, machine), method, fft_dtype
                )
                timed = machine.timed(render)
            yield Measurement(
                what=f"lens {method}",
                setting={
                    "px": config.px,
                    "radius_px": radius_px,
                    "passes": "forward and backward",
                    "fft_dtype": config.fft_dtype,
                },
                time_ms=timed.time_ms if timed else None,
                floor_ms=floor_ms,
                peak_memory_bytes=timed.peak_memory_bytes if timed else None,
                counted=asdict(cost),
                machine=machine.description(with_rates=is_timed),
            )
    if is_timed:
        yield from peers(config, machine)


def peers(config: Config, machine: Machine) -> Iterator[Measurement]:
    """The classical scatter, forward, in the same process: our tap loop, and as published."""
    renderers: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "exact": functools.partial(render_bokeh, method="exact"),
        "BokehMe's scatter": bokehme_scatter,
    }
    # Each at the radii that it does not take minutes for
    for name, renderer in renderers.items():
        for radius_px in config.radii_px:
            if radius_px > LOOP_UP_TO_PX:
                continue
            image, radius = (each.detach() for each in inputs(config.px, radius_px, machine))
            timed = machine.timed(functools.partial(renderer, image, radius), runs=3, warm_up=1)
            yield Measurement(
                what=f"lens {name}",
                setting={"px": config.px, "radius_px": radius_px, "passes": "forward"},
                time_ms=timed.time_ms,
                floor_ms=machine.floor_ms(moved_bytes=28 * config.px**2),
                peak_memory_bytes=timed.peak_memory_bytes,
                machine=machine.description(),
            )


def bokehme_scatter(image: Tensor, radius_px: Tensor) -> Tensor:
    """BokehMe's classical renderer as it is published, in torch: every pixel adds to its targets.

    There one CUDA thread a pixel visits its offsets; here all pixels visit one offset at a time.
    Both add atomically. Written afresh from the description of classical_renderer/scatter.py.
    """
    # Sources, and their reach
    (batch_size, _, height, width), radius_px = image.shape, radius_px.abs()
    light = torch.cat([image, torch.ones_like(radius_px)], dim=1)
    row = torch.arange(height, device=image.device)[:, None]
    column = torch.arange(width, device=image.device)
    reach = int(radius_px.max()) + 1
    # Weighted light, added to the target at each offset
    sums = torch.zeros(batch_size, 4, height * width, device=image.device, dtype=image.dtype)
    for dy, dx in product(range(-reach, reach + 1), repeat=2):
        weight = 0.5 + 0.5 * torch.tanh(4 * (radius_px - math.hypot(dy, dx)))
        weight = weight / (radius_px * radius_px + 0.2)
        weight = weight * (max(abs(dy), abs(dx)) <= radius_px.floor() + 1)
        target_y, target_x = row + dy, column + dx
        inside = (target_y >= 0) & (target_y < height) & (target_x >= 0) & (target_x < width)
        target = target_y.clamp(0, height - 1) * width + target_x.clamp(0, width - 1)
        sent = (light * weight * inside).flatten(2)
        sums.scatter_add_(2, target.flatten().expand_as(sent), sent)
    sums = sums.reshape(batch_size, 4, height, width)
    return sums[:, :3] / sums[:, 3:]


def inputs(px: int, radius_px: float, machine: Machine) -> tuple[Tensor, Tensor]:
    """A noise image, and radii between 0 and the largest that change smoothly, behind the focus."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, px, px, generator=generator).to(machine.device)
    coarse = torch.rand(1, 1, 8, 8, generator=generator)
    radius = functional.interpolate(coarse, size=(px, px), mode="bilinear")
    radius = -radius_px * radius / radius.max()
    return image.requires_grad_(), radius.to(machine.device).requires_grad_()


def forward_and_backward(image: Tensor, radius: Tensor, method: str, dtype: torch.dtype) -> None:
    light = render_bokeh(image, radius, method, fft_dtype=dtype)
    torch.autograd.grad(light, (image, radius), torch.ones_like(light))
