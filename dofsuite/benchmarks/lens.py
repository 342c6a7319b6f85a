"""The lens, forward and backward: counted at full size, and timed where there is a GPU."""

import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dofsuite.benchmarks.machine import Machine
from dofsuite.benchmarks.measurement import Measurement
from dofsuite.cli import option
from dofsuite.errors import UserError
from dofsuite.optics import render_bokeh
from dofsuite.optics.bokeh import METHODS
from dofsuite.optics.cost import lens_cost

# Least traffic of a pixel: image, radius and blurred image forward; these, the gradient that comes
# in and both that go out backward; float32.
FLOOR_BYTES_PER_PX = 28 + 60
# Radius up to which the tap loop is timed beside the fast methods: its time grows with radius^2.
LOOP_UP_TO_PX = 20
FFT_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which lenses, and how large."""

    methods: tuple[str, ...] = option(
        "--methods",
        nargs="+",
        default=("gather", "layered", "occlusion"),
        help="renderers: " + ", ".join(METHODS),
    )
    px: int = option("--px", type=int, default=1024, help="side of the image")
    radii_px: tuple[float, ...] = option(
        "--radii-px", type=float, nargs="+", default=(8.0, 20.0, 64.0, 200.0), help="largest radii"
    )
    fft_dtype: str = option(
        "--fft-dtype", choices=sorted(FFT_DTYPES), default="float32", help="of layered, occlusion"
    )
    time_on_cpu: bool = option(
        "--time-on-cpu", action="store_true", default=False, help="measure times without a GPU too"
    )

    def __post_init__(self) -> None:
        unknown = [method for method in self.methods if method not in METHODS]
        if unknown:
            raise UserError(f"--methods: {unknown[0]!r} is none of {', '.join(METHODS)}.")
        if self.px < 1:
            raise UserError(f"--px: at least 1 is needed, not {self.px}.")
        if not all(0 <= radius_px < float("inf") for radius_px in self.radii_px):
            raise UserError("--radii-px: radii of 0 or more are needed.")


def measure(config: Config) -> Iterator[Measurement]:
    """One line a method and radius; on a GPU also the tap loop's forward pass."""
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
        yield from tap_loop(config, machine)


def tap_loop(config: Config, machine: Machine) -> Iterator[Measurement]:
    """The peer: the classical scatter tap by tap, forward, in the same process."""
    for radius_px in config.radii_px:
        if radius_px > LOOP_UP_TO_PX:
            continue
        image, radius = inputs(config.px, radius_px, machine)
        render = functools.partial(render_bokeh, image.detach(), radius.detach(), "exact")
        timed = machine.timed(render, runs=3, warm_up=1)
        yield Measurement(
            what="lens exact",
            setting={"px": config.px, "radius_px": radius_px, "passes": "forward"},
            time_ms=timed.time_ms,
            floor_ms=machine.floor_ms(moved_bytes=28 * config.px**2),
            peak_memory_bytes=timed.peak_memory_bytes,
            machine=machine.description(),
        )


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
