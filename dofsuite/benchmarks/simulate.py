"""All variants of one image: DiffCamera's planes x levels by layers that share their FFTs."""

from collections.abc import Iterator
from dataclasses import asdict

import torch

from dofsuite.benchmarks.config import SimulateConfig as Config
from dofsuite.benchmarks.lens import FFT_DTYPES
from dofsuite.benchmarks.machine import Machine
from dofsuite.benchmarks.measurement import Measurement
from dofsuite.optics import DisparityLayers
from dofsuite.optics.cost import cost_of


def measure(config: Config) -> Iterator[Measurement]:
    """One line: all variants of one image, whose 8-bit output the floor copies once."""
    machine = Machine.here()
    variants = config.planes * config.levels
    is_timed = machine.is_gpu or config.time_on_cpu
    timed = floor_ms = None
    if is_timed:
        timed = machine.timed(lambda: render_all(config, machine.device), runs=3, warm_up=1)
        floor_ms = machine.floor_ms(moved_bytes=2 * 3 * variants * config.px**2)
    # Counted at full size on every machine
    cost = cost_of(lambda: render_all(config, torch.device("meta")))
    setting = {
        "px": config.px,
        "variants": variants,
        "layers": config.layers,
        "fft_dtype": config.fft_dtype,
    }
    yield Measurement(
        what="simulate",
        setting=setting,
        time_ms=timed.time_ms if timed else None,
        floor_ms=floor_ms,
        peak_memory_bytes=timed.peak_memory_bytes if timed else None,
        counted=asdict(cost),
        machine=machine.description(with_rates=is_timed),
    )


@torch.no_grad()
def render_all(config: Config, device: torch.device) -> None:
    """Every plane at every level, from layers to 8-bit pictures, which are not kept."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 1, config.px, config.px)
    image = torch.rand(1, 3, *shape[2:], generator=generator).to(device)
    disparity = torch.rand(shape, generator=generator).to(device)
    # Cameras
    planes = torch.linspace(0, 1, config.planes, device=device).repeat_interleave(config.levels)
    levels = torch.arange(1, config.levels + 1, device=device).double().repeat(config.planes)
    layers = DisparityLayers(
        image,
        disparity,
        config.layers,
        FFT_DTYPES[config.fft_dtype],
        largest_radius_px=config.levels * config.px / 512,
        reads_radius=False,
    )
    for rendered in layers.render_variants(levels[:, None], planes[:, None]):
        rendered.clamp_(0, 1).mul_(255).round_().to(torch.uint8)
