"""The steps of text2image at SDXL's size, with random weights: generator and critic, both kinds."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.optim import Optimizer

from dofsuite.backbones import Acceleration
from dofsuite.backbones.architectures import RandomDepth, RandomSaliency, RandomSdxl
from dofsuite.backbones.sdxl.adapters import UnetLora
from dofsuite.benchmarks.config import Text2imageConfig as Config
from dofsuite.benchmarks.machine import Machine
from dofsuite.benchmarks.measurement import Measurement
from dofsuite.text2image import Stages, Text2Image
from dofsuite.text2image.footprint import empty_batch, step_footprint, step_kinds
from dofsuite.training.optimizers import fuse


def measure(config: Config) -> Iterator[Measurement]:
    """One line a kind of step; the floor is its FLOPs at this GPU's own matrix rate."""
    machine = Machine.here()
    steps = training_steps(config, machine.device) if machine.is_gpu else {}
    for name, index in step_kinds(module_of(config)).items():
        counted = step_footprint(module_of(config), index, config.batch_size, config.px)
        timed = machine.timed(steps[name], runs=3, warm_up=2) if steps else None
        yield Measurement(
            what=f"text2image {name}",
            setting={field: getattr(config, field) for field in Config.__dataclass_fields__},
            time_ms=timed.time_ms if timed else None,
            floor_ms=machine.floor_ms(flop=counted.flops) if timed else None,
            peak_memory_bytes=torch.cuda.max_memory_allocated() if timed else None,
            counted={"flop": counted.flops, "peak_bytes": counted.peak_bytes},
            machine=machine.description(with_rates=machine.is_gpu),
        )


def module_of(config: Config, **networks: Any) -> Text2Image:
    # Networks of full size where no others are given
    full_size = {
        "backbone": RandomSdxl(),
        "depth": RandomDepth("small"),
        "saliency": RandomSaliency(),
    }
    # As the shipped files have it
    lora = UnetLora(config.lora_rank) if config.lora_rank else None
    return Text2Image(
        **{**full_size, **networks},
        generator_lora=lora,
        critic_lora=lora,
        stages=Stages(deep=0),
        size_px=config.px,
        teacher_dtype="bfloat16",
        gradient_checkpointing=config.recompute,
        acceleration=Acceleration(
            "blocks" if config.compile else "none", channels_last=config.channels_last
        ),
    )


def training_steps(
    config: Config, device: torch.device, **networks: Any
) -> dict[str, Callable[[], None]]:
    """Return each kind of step on random photographs: losses, backward pass, fused AdamW."""
    # Networks, working copies, optimizers
    torch.manual_seed(0)
    module = module_of(config, **networks)
    with device:
        module.configure_model()
    module.to(device)
    module.networks.use_working_copies()
    module.networks.accelerate(module.acceleration)
    # An optimizer for each group
    optimizers: dict[str, Optimizer] = {
        name: fuse(torch.optim.AdamW(group.parameters(), lr=5e-7))
        for name, group in module.trained.items()
    }

    def step_at(index: int) -> Callable[[], None]:
        return lambda: take_step(config, module, optimizers, index)

    return {name: step_at(index) for name, index in step_kinds(module).items()}


def take_step(
    config: Config, module: Text2Image, optimizers: dict[str, Optimizer], index: int
) -> None:
    """Do what `AlternatingOptimization` does, on a random photograph."""
    step, device = module.stages.step(index), module.device
    with device:
        batch = empty_batch(config.batch_size, config.px, step)
    batch.image_srgb.uniform_()
    # Losses of the networks that this step trains
    active = module.active_optimizers(step)
    module.set_requires_grad(active)
    module.networks.bind_working_copies()
    with torch.autocast(device.type, torch.bfloat16):
        losses, _ = module.losses(step, batch, None)
    torch.stack(list(losses.values())).sum().backward()
    # Their optimizers
    for name in active:
        optimizers[name].step()
        optimizers[name].zero_grad()
    module.networks.release_working_copies()
