"""A training step of refocus at FLUX.1-dev's size, with random weights."""

from collections.abc import Callable, Iterator

import torch

from dofsuite.backbones import Acceleration, Backbone
from dofsuite.backbones.architectures import RandomFlux
from dofsuite.benchmarks.config import RefocusConfig as Config
from dofsuite.benchmarks.machine import Machine
from dofsuite.benchmarks.measurement import Measurement
from dofsuite.refocus import Refocus
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.footprint import step_footprint
from dofsuite.refocus.module import Example
from dofsuite.training.optimizers import fuse


def measure(config: Config) -> Iterator[Measurement]:
    """One line; the floor is the FLOPs that the losses need, at this GPU's own matrix rate."""
    machine = Machine.here()
    # Counted: what the losses need, and what this step does
    needed = step_footprint(Refocus(backbone=RandomFlux()), config.batch_size, config.px, True)
    done = step_footprint(module_of(config), config.batch_size, config.px, True)
    timed = floor_ms = None
    total_bytes = None
    if machine.is_gpu:
        timed = machine.timed(training_step(config, machine.device), runs=3, warm_up=3)
        floor_ms = machine.floor_ms(flop=needed.flops)
        total_bytes = torch.cuda.max_memory_allocated(machine.device)
    setting = {name: getattr(config, name) for name in Config.__dataclass_fields__}
    yield Measurement(
        what="refocus",
        setting=setting,
        time_ms=timed.time_ms if timed else None,
        floor_ms=floor_ms,
        peak_memory_bytes=total_bytes,
        counted={
            "flop": done.flops,
            "flop_over_minimum": done.flops / needed.flops,
            "peak_bytes": done.peak_bytes,
        },
        machine=machine.description(with_rates=machine.is_gpu),
    )


def module_of(config: Config, backbone: Backbone | None = None) -> Refocus:
    return Refocus(
        backbone=backbone or RandomFlux(),
        split_backward=config.split_backward,
        gradient_checkpointing=config.recompute,
        acceleration=Acceleration("blocks" if config.compile else "none", config.attention),
    )


def training_step(
    config: Config, device: torch.device, backbone: Backbone | None = None
) -> Callable[[], None]:
    """Return a step on random latents: losses, backward pass, fused AdamW."""
    torch.manual_seed(0)
    module = module_of(config, backbone)
    # Built where it is timed
    with device:
        module.configure_model()
    module.sampler.family.share_low_precision_inputs(module.transformer)
    module.to(device)
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = fuse(torch.optim.AdamW(trained, lr=1e-4))
    example = random_example(module, config, device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = module.losses(example)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def random_example(module: Refocus, config: Config, device: torch.device) -> Example:
    n, side = config.batch_size, config.px // module.codec.downscale
    shape = (n, module.codec.latent_channels, side, side)
    reference, depth, first, second, noise = torch.randn(5, *shape, device=device)
    # One camera for all rows
    point, level = torch.rand(n, 2, device=device), torch.full((n,), 10.0, device=device)
    camera = Cameras(point, level / 20, level)
    return Example(
        reference=reference,
        depth=depth,
        first=first,
        second=second,
        mask=torch.rand(n, 1, side, side, device=device),
        first_camera=camera,
        second_camera=camera,
        noise=noise,
        t=torch.rand(n, device=device),
    )
