"""FLOPs and memory of a refocus training step, without weights."""

from functools import partial

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dofsuite.backbones import Acceleration
from dofsuite.backbones.architectures import without_weights
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.module import Example, Refocus
from dofsuite.training.footprint import Footprint, count_by_depth, measure
from dofsuite.training.optimizers import state_bytes_per_weight


def step_footprint(
    module: Refocus, batch_size: int, size_px: int, is_mixed_precision: bool
) -> Footprint:
    """Count one micro-batch: encoding, all rows' forward and backward passes.

    The module is built anew from the architecture of its backbone, without weights.
    """
    described, acceleration = module.backbone, module.acceleration
    # Compiled blocks are counted as eager ones: a compiler cannot be watched
    module.acceleration = Acceleration()
    state_bytes = state_bytes_per_weight(module.optimizer)
    count = partial(_count, module, batch_size, size_px, is_mixed_precision, state_bytes)
    counted = count_by_depth(count, without_weights(described))
    # As it was described
    module.backbone, module.acceleration = described, acceleration
    return counted


def _count(
    module: Refocus,
    batch_size: int,
    size_px: int,
    is_mixed_precision: bool,
    state_bytes: float,
    backbone: object,
) -> Footprint:
    # The networks on the meta device, then as fake tensors
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    module.backbone, module.transformer = backbone, None  # type: ignore[assignment]
    with torch.device("meta"):
        module.configure_model()
    if is_mixed_precision and module.lora is not None:
        module.sampler.family.share_low_precision_inputs(module.transformer)
    with fakes:
        module.to_empty(device="cpu")
        images, example = _inputs(module, batch_size, size_px)
        trained = [p for p in module.parameters() if p.requires_grad]
        moments = [torch.empty(round(p.numel() * state_bytes), dtype=torch.uint8) for p in trained]

    # What a training step does, but for rendering: it is freed before the first forward pass
    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed_precision):
            with torch.no_grad():
                module.encode(*images)
            loss = module.losses(example)["loss"]
        loss.backward()

    standing = {
        "weights": [*module.parameters(), *module.buffers()],
        "optimizer": moments,
    }
    return measure(step, standing, {"transformer": module.transformer}, fakes, trained)


def _inputs(module: Refocus, batch_size: int, size_px: int) -> tuple[list[Tensor], Example]:
    """Return the images of a step and an example of the latents' shapes, all empty."""
    side = size_px // module.codec.downscale
    # Images; latents of their shape, and two cameras
    images = [torch.empty(batch_size, 3, size_px, size_px) for _ in range(4)]

    def latent() -> Tensor:
        return torch.empty(batch_size, module.codec.latent_channels, side, side)

    camera = Cameras(torch.empty(batch_size, 2), torch.empty(batch_size), torch.empty(batch_size))
    return images, Example(
        reference=latent(),
        depth=latent(),
        first=latent(),
        second=latent(),
        mask=torch.empty(batch_size, 1, side, side),
        first_camera=camera,
        second_camera=camera,
        noise=latent(),
        t=torch.empty(batch_size),
    )
