"""The memory of paper 1's full step at SDXL's size, 1024 px and batch 1, on one GPU: estimated
without one.

Weights, gradients and AdamW's moments are counted; what autograd saves is seen by hooks, each
storage once, while the step runs under FakeTensorMode. Lightning's mixed precision keeps no cast
weights (cache_enabled=False), so every graded forward saves bfloat16 copies of its own, and they
are in these numbers. Not in them: short-lived buffers.
"""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from dofsuite.text2image import Stages, Text2Image
from dofsuite.text2image.dmd2.sample_buffer import Conditioning, GeneratedSample
from tests.full_size import RandomDepth, RandomSdxl
from tests.text2image.steps_by_hand import photographs, step_losses
from tests.text2image.test_full_size import SIZE_PX, VitLargeSaliency

GIB = 2**30
BUDGET_GIB = 130
# One Deep cycle, generator first, then one Shallow cycle.
SAME_KIND = Stages(deep=0, critic_order="same_kind")
FLOAT32_ON_CUDA = {
    "group_norm",
    "layer_norm",
    "interpolate",
    "mse_loss",
    "huber_loss",
    "softplus",
    "exp",
    "log",
    "sum",
}
"""Of ATen/autocast_mode.h's list for CUDA, what the step calls; the CPU's autocast has a shorter
list.
"""


class CudaAutocast(TorchFunctionMode):
    """Casts up on the CPU what autocast casts up on CUDA, so that the same tensors are saved."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if torch.is_autocast_enabled("cpu") and func.__name__ in FLOAT32_ON_CUDA:
            args = tree_map(
                lambda a: a.float() if isinstance(a, Tensor) and a.is_floating_point() else a, args
            )
        return func(*args, **(kwargs or {}))


class Saved:
    """Bytes saved for backward by the network that was running, each storage once, weights and
    buffers left out.
    """

    def __init__(self, networks: nn.Module) -> None:
        self.bytes: Counter[str] = Counter()
        self.running = ["noising, lens and losses"]
        self.known = {
            tensor.untyped_storage()._cdata: tensor for tensor in networks.state_dict().values()
        }
        parts = {
            name: getattr(networks, name)
            for name in ("generator", "critic", "teacher", "discriminator", "depth", "focus")
        }
        vae = networks.codec.vae
        for name, part in {**parts, "VAE decoder": vae.decoder, "VAE encoder": vae.encoder}.items():
            part.register_forward_pre_hook(lambda *_, name=name: self.running.append(name))
            part.register_forward_hook(lambda *_: self.leave())

    def leave(self) -> None:
        self.running.pop()

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.known[storage._cdata] = tensor
            self.bytes[self.running[-1]] += storage.nbytes()
        return tensor


def saved_gib(module: Text2Image, step: int, fakes: FakeTensorMode) -> dict[str, float]:
    """GiB that one step saves for backward, by network."""
    saved = Saved(module.networks)
    with (
        fakes,
        CudaAutocast(),
        torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor),
    ):
        batch = photographs(SIZE_PX, step, module.stages.step(step).is_shallow)
        sample = GeneratedSample(
            torch.empty(1, 4, SIZE_PX // 8, SIZE_PX // 8), Conditioning.of(batch)
        )
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            step_losses(module, batch, step, sample)
    return {f"saved by {name}": count / GIB for name, count in saved.bytes.items()}


def gib(parts: list[nn.Module]) -> float:
    return sum(p.numel() * p.element_size() for part in parts for p in part.parameters()) / GIB


def standing_gib(module: Text2Image, step: int) -> dict[str, float]:
    """GiB of weights, of all optimizers' moments, and of the gradients of those that step."""
    networks, active = module.networks, module.active_optimizers(module.stages.step(step))
    weights = {f"weights of {name}": gib([part]) for name, part in networks.named_children()}
    moments = {f"AdamW of {name}": 2 * gib([group]) for name, group in module.trained.items()}
    gradients = {f"gradients of {name}": gib([module.trained[name]]) for name in active}
    return weights | moments | gradients


def estimate(step: int, **changes) -> dict[str, float]:
    """All lines of one step of the full stage, and their sum."""
    settings = dict(stages=SAME_KIND, teacher_dtype="bfloat16", seed=131)
    module = Text2Image(
        RandomSdxl(), RandomDepth("large"), VitLargeSaliency(), **{**settings, **changes}
    )
    with torch.device("meta"):
        module.configure_model()
    fakes = FakeTensorMode(allow_non_fake_inputs=True)  # the schedule is a tensor with values
    with fakes:
        module.networks.to_empty(device="cpu")
    lines = standing_gib(module, step) | saved_gib(module, step, fakes)
    return lines | {"total": sum(lines.values())}


def shown(lines: dict[str, float]) -> str:
    return "\n" + "\n".join(f"{name:<36}{size:8.2f} GiB" for name, size in lines.items())


@pytest.mark.slow
def test_the_largest_step_of_the_full_stage_fits_one_gpu():
    """The Shallow generator step: the graph runs through generator, decoder, depth, focus, lens,
    encoder and critic.
    """
    lines = estimate(step=6)
    print(shown(lines))
    graded = (
        "generator",
        "critic",
        "discriminator",
        "depth",
        "focus",
        "VAE decoder",
        "VAE encoder",
    )
    assert all(lines[f"saved by {name}"] > 0.1 for name in graded)
    assert "saved by teacher" not in lines
    assert lines["total"] <= BUDGET_GIB
    # performance.md B.3, measured there in bfloat16 throughout
    assert lines["saved by VAE decoder"] == pytest.approx(12.2e9 / GIB, rel=0.05)
    assert lines["saved by VAE encoder"] == pytest.approx(6.4e9 / GIB, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1, 8], ids=["deep generator", "deep critic", "shallow critic"])
def test_the_other_steps_need_less(step):
    lines = estimate(step=step)
    print(shown(lines))
    assert lines["total"] <= BUDGET_GIB - 10


@pytest.mark.slow
def test_recomputation_leaves_the_vae_s_share():
    lines = estimate(step=6, gradient_checkpointing=True)
    print(shown(lines))
    assert lines["saved by generator"] + lines["saved by critic"] < 1.5
    assert lines["total"] < 100


class Operators(TorchDispatchMode):
    """Counts operators, each of them a launch on a GPU or a view, and the casts among them."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count["all"] += 1
        self.count["casts"] += func._overloadpacket.__name__ == "_to_copy"
        return func(*args, **(kwargs or {}))


def operators(steps: range, working_copies: bool) -> Counter[str]:
    """Operators of some steps at full size, forward and backward."""
    module = Text2Image(
        RandomSdxl(),
        RandomDepth("large"),
        VitLargeSaliency(),
        stages=SAME_KIND,
        teacher_dtype="bfloat16",
        seed=131,
    )
    with torch.device("meta"):
        module.configure_model()
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    operators, sample = Operators(), None
    with fakes:
        module.networks.to_empty(device="cpu")
        if working_copies:
            module.networks.use_working_copies()
    for index in steps:
        with fakes, CudaAutocast(), operators:
            batch = photographs(SIZE_PX, index, module.stages.step(index).is_shallow)
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                module.set_requires_grad(module.active_optimizers(module.stages.step(index)))
                module.networks.bind_working_copies()
                loss, sample = step_losses(module, batch, index, sample)
            loss.backward()
            module.networks.release_working_copies()
    return operators.count


@pytest.mark.slow
def test_working_copies_leave_a_third_of_the_casts():
    """Of a Deep cycle's generator step and its first critic step, with autocast's list for CUDA."""
    before, after = (operators(range(2), copies) for copies in (False, True))
    print(f"\nunder autocast: {dict(before)}; with working copies: {dict(after)}")
    assert after["casts"] < before["casts"] / 3
    assert after["all"] < before["all"]
