"""FLOPs and memory of every kind of text2image step, without weights."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dofsuite.backbones import PretrainedSdxl
from dofsuite.backbones.architectures import without_weights
from dofsuite.data import Batch
from dofsuite.optics.meta import stated_radius
from dofsuite.text2image.dmd2.sample_buffer import Conditioning, GeneratedSample
from dofsuite.text2image.dmd2.stages import Step
from dofsuite.text2image.dmd2.trained_weights import TrainedWeights
from dofsuite.text2image.module import Text2Image
from dofsuite.training.checkpoints.space import bytes_of
from dofsuite.training.footprint import Footprint, count_by_depth, measure
from dofsuite.training.optimizers import state_bytes_per_weight
from dofsuite.training.sharding import fsdp

# SDXL's CLIP-L and OpenCLIP bigG, in float32 on the GPU.
TEXT_ENCODER_WEIGHTS = 817_720_320
# Over an image's side: how far radii are taken to reach for a lens that does not bound them.
RADIUS_SHARE = 0.25
# Of a footprint: what is there before a step, and FSDP2 divides.
STANDING = ("weights", "optimizer", "working copies", "average")


def step_kinds(module: Text2Image) -> dict[str, int]:
    """Return each kind of step that a run takes, by name, with the index of its first one.

    A critic's is one that makes its own sample, as most do.
    """
    stages = module.stages
    kinds = {"teacher": 0} if stages.teacher else {}
    # Two cycles of the deep stage and two of the full one have every kind.
    two_cycles = range(2 * (1 + stages.critic_steps))
    starts = [stages.teacher] if stages.deep != 0 else []
    starts += [stages.full_from] if stages.full_from is not None else []
    for start in starts:
        for step in (stages.step(start + place) for place in two_cycles):
            if not step.reuses_generator_sample:
                kinds.setdefault(kind_of(step), step.index)
    return kinds


def kind_of(step: Step) -> str:
    if step.stage == "teacher":
        return "teacher"
    return f"{step.kind} {'generator' if step.is_generator else 'critic'}"


def step_footprint(module: Text2Image, index: int, batch_size: int, size_px: int) -> Footprint:
    """Count one micro-batch of step `index` under bf16-mixed.

    The module is built anew from the architectures of its networks, without weights, and left so.
    The lens is in it, with radii up to their bound.

    Args:
        module: Configured, not built.
        index: The step in the run.
        batch_size: Images of the micro-batch on one GPU.
        size_px: Side of the images.
    """
    described = module.backbone
    backbone = without_weights(described)
    module.depth = without_weights(module.depth)
    module.saliency = without_weights(module.saliency)
    # Both text encoders stay on the GPU
    num_text_weights = TEXT_ENCODER_WEIGHTS if isinstance(described, PretrainedSdxl) else 0
    count = partial(_count, module, index, batch_size, size_px, num_text_weights)
    share = (module.lens and module.lens.largest_radius_share) or RADIUS_SHARE
    with stated_radius(share * size_px):
        counted = count_by_depth(count, backbone)
    # Whole again, and as it was described
    _build(module, backbone)
    module.backbone = described
    return counted


def _build(module: Text2Image, backbone: Any) -> None:
    module.backbone, module.networks = backbone, None
    with torch.device("meta"):
        module.configure_model()


def _count(
    module: Text2Image,
    index: int,
    batch_size: int,
    size_px: int,
    num_text_weights: int,
    backbone: object,
) -> Footprint:
    # The networks on the meta device, then as fake tensors
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    _build(module, backbone)
    networks, step = module.networks, module.stages.step(index)
    moment_bytes = _moment_bytes(module)
    with fakes:
        networks.to_empty(device="cpu")
        if module.ema_generator is not None:
            module.ema_generator.to_empty(device="cpu")
        networks.share_frozen(module.ema_generator and module.ema_generator.module)
        if module.training_config.working_copies:
            networks.use_working_copies()
        batch = empty_batch(batch_size, size_px, step)
        shape = (networks.codec.latent_channels, *[size_px // networks.codec.downscale] * 2)
        moments = [torch.empty(size, dtype=torch.uint8) for size in moment_bytes]
        text_encoders = torch.empty(num_text_weights)
        sample = (
            GeneratedSample(torch.empty(batch_size, *shape), Conditioning.of(batch))
            if step.reuses_generator_sample
            else None
        )

    # What a training step does with one micro-batch
    def run() -> None:
        module.set_requires_grad(module.active_optimizers(step))
        networks.bind_working_copies()
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            losses, _ = module.losses(step, batch, sample)
        torch.stack(list(losses.values())).sum().backward()

    standing = {"weights": [*networks.parameters(), *networks.buffers()], "optimizer": moments}
    if module.ema_generator is not None:
        standing["average"] = list(module.ema_generator.parameters())
    standing["text encoders"] = [text_encoders]
    standing["working copies"] = [w for c in networks.working.values() for w in c.rounded]
    parts = {name: getattr(networks, name) for name in ("discriminator", "depth", "focus")}
    parts |= {
        name: networks.working[name].network
        if name in networks.working
        else getattr(networks, name)
        for name in ("generator", "critic", "teacher")
    }
    return measure(
        run,
        standing,
        {name: part for name, part in parts.items() if part is not None},
        fakes,
        _trained(module),
    )


def sharded(counted: Footprint, module: Text2Image, index: int, num_shards: int) -> Footprint:
    """Return what is left on one GPU under FSDP2.

    Weights, gradients and moments of the networks that learn and of the teacher are divided;
    gathered in bfloat16 are the unit that runs and the next one, and their gradients. What is saved
    for the backward pass is that of bfloat16 weights, as the working copies' is. What the counted
    step had of whole gradients at its peak is left in: the estimate stays above.
    """
    networks = module.networks
    roots = [getattr(networks, name) for name in fsdp.ROOTS if getattr(networks, name) is not None]
    divided = bytes_of(p for root in roots for p in root.parameters())
    # Networks with LoRA share frozen weights where nothing is sharded.
    shared = divided - bytes_of({id(p): p for r in roots for p in r.parameters()}.values())
    # Gradients of what this step trains
    active = module.active_optimizers(module.stages.step(index))
    gradients = bytes_of(p for name in active for p in module.trained[name].parameters())
    attentions = [m for root in roots for m in root.modules() if hasattr(m, "transformer_blocks")]
    unit = max((sum(p.numel() for p in m.parameters()) for m in attentions), default=0)
    # What a GPU holds
    at_peak = {name: size for name, size in counted.at_peak.items() if name not in STANDING}
    undivided = counted.at_peak["weights"] + shared - divided
    at_peak["weights"] = undivided + divided // num_shards
    at_peak["optimizer"] = counted.at_peak["optimizer"] // num_shards
    if module.ema_generator is not None:
        at_peak["average"] = bytes_of(module.ema_generator.parameters()) // num_shards
    at_peak["gradients"] = gradients // num_shards
    at_peak["gathered"] = 2 * 2 * unit * torch.bfloat16.itemsize
    return Footprint(counted.flops, sum(at_peak.values()), at_peak, counted.trained_bytes)


def averaged_weights(module: Text2Image) -> Iterator[Tensor]:
    """Return what checkpoints hold of the generator's average, once the module is built."""
    if module.ema_generator is not None:
        yield from TrainedWeights(module.ema_generator.module).parameters()


def _trained(module: Text2Image) -> Iterator[Tensor]:
    for group in module.trained.values():
        yield from group.parameters()


# What each network's optimizer keeps, for each of its weights.
def _moment_bytes(module: Text2Image) -> list[int]:
    sizes = []
    for name, group in module.trained.items():
        state_bytes = state_bytes_per_weight(module.optimizer_factories[name])
        sizes += [round(weight.numel() * state_bytes) for weight in group.parameters()]
    return sizes


def empty_batch(batch_size: int, size_px: int, step: Step) -> Batch:
    """Return a batch of empty photographs; their indices are numbers, for the draws."""
    # Under FakeTensorMode a tensor of more than one number forgets them, and draws ask for them.
    numbers = list(range(step.index * batch_size, (step.index + 1) * batch_size))
    index: Any = torch.tensor(numbers, device="cpu")
    index.tolist = lambda: numbers
    return Batch(
        image_srgb=torch.empty(batch_size, 3, size_px, size_px),
        disparity=torch.empty(batch_size, 1, size_px, size_px),
        has_depth=torch.ones(batch_size, dtype=torch.bool),
        source=torch.full((batch_size,), int(step.is_shallow)),
        index=index,
        key=["photograph"] * batch_size,
        width_px=torch.full((batch_size,), float(size_px)),
        valid=torch.ones(batch_size, 1, size_px, size_px, dtype=torch.bool),
        caption=[""] * batch_size,
        # A camera; the lens is read at its radius
        f_number=torch.full((batch_size,), 2.0),
        focal_length_mm=torch.full((batch_size,), 50.0),
        sensor_width_mm=torch.full((batch_size,), 36.0),
        prompt_tokens=torch.empty(batch_size, 0, 0),
        prompt_pooled=torch.empty(batch_size, 0),
    )
