"""The full-size training step, counted on the meta device: no weights, no GPU, and no wasted
transformer work.
"""

from typing import NamedTuple

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dofsuite.refocus import Refocus
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.module import Example
from tests.full_size import RandomFlux, RandomKlein

WIDTH, RANK = 3072, 64


class Base(NamedTuple):
    """Widths in units of WIDTH, of what one token passes in a block."""

    descriptor: RandomFlux | RandomKlein
    linears: int  # Products of input and output width, summed over a block's linears
    double_adapters: int  # Input and output widths, summed over its adapters
    single_adapters: int
    latent_channels: int


# q, k, v, out, an MLP of width 4; q, k, v, in and out of the single blocks.
FLUX1 = Base(RandomFlux(), 12, 4 * 2 + 2 * 5, 3 * 2 + 5 + 6, 16)
# q, k, v, out, a gated MLP of width 3 (in 1 -> 6, out 3 -> 1); 1 -> 3 + 6, 1 + 3 -> 1.
KLEIN = Base(RandomKlein(), 4 + 6 + 3, 4 * 2 + 7 + 4, 10 + 5, 32)


def minimum_flops(base, tokens_per_stream, rows=3, depths=None):
    """Forward and backward of a frozen base with LoRA on all its blocks' linears, over [camera | 3
    streams].

    FLOPs are twice the multiply-adds. A frozen linear costs its forward and the gradient of its
    input, an adapter also that of its weights, attention twice its forward (performance.md B.1).
    """
    double, single = depths or base.descriptor.depths
    n = 3 * tokens_per_stream + 1
    linear = 2 * (double + single) * base.linears * WIDTH**2 * n
    attention = 2 * (double + single) * 2 * n**2 * WIDTH
    adapter_widths = double * base.double_adapters + single * base.single_adapters
    adapters = 2 * n * RANK * adapter_widths * WIDTH
    return rows * (2 * linear + 3 * attention + 3 * adapters)


@pytest.fixture(scope="module")
def module():
    module = Refocus(backbone=RandomFlux())
    with torch.device("meta"):
        module.configure_model()
    return module


def example(size_px, channels):
    def latent(channels=channels):
        return torch.empty(1, channels, size_px // 8, size_px // 8, device="meta")

    camera = Cameras(
        torch.empty(1, 2, device="meta"),
        torch.empty(1, device="meta"),
        torch.empty(1, device="meta"),
    )
    latents = [latent() for _ in range(4)]
    return Example(*latents, latent(1), camera, camera, latent(), torch.empty(1, device="meta"))


@pytest.mark.parametrize(
    ("base", "size_px", "split_backward", "calls", "depths"),
    [
        (FLUX1, 512, "none", 1, (2, 4)),
        (KLEIN, 512, "none", 1, (2, 4)),
        pytest.param(FLUX1, 512, "none", 1, None, marks=pytest.mark.slow),
        pytest.param(FLUX1, 1024, "losses", 2, None, marks=pytest.mark.slow),
        pytest.param(KLEIN, 512, "losses", 2, None, marks=pytest.mark.slow),
    ],
)
def test_a_step_costs_its_minimum_and_no_text_tokens(base, size_px, split_backward, calls, depths):
    """All blocks are alike: some at full width say the same as all."""
    descriptor = base.descriptor.of_depths(depths or base.descriptor.depths)
    module = Refocus(backbone=descriptor, split_backward=split_backward)
    with torch.device("meta"):
        module.configure_model()
    shapes = []
    hook = module.transformer.register_forward_pre_hook(
        lambda _, __, inputs: shapes.append(tuple(inputs["encoder_hidden_states"].shape[:2])),
        with_kwargs=True,
    )
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module.losses(example(size_px, base.latent_channels))["loss"].backward()
    hook.remove()
    minimum = minimum_flops(base, (size_px // 16) ** 2, 3, depths)
    ratio = counter.get_total_flops() / minimum
    print(
        f"{size_px} px: {counter.get_total_flops() / 1e12:.1f} TFLOP, {ratio:.4f} of the minimum, "
        f"calls {shapes}"
    )
    assert ratio <= 1.02
    assert ratio > 0.95  # a counter that misses work would show here
    assert len(shapes) == calls
    assert all(text_tokens == 1 for _, text_tokens in shapes)
    assert sum(batch for batch, _ in shapes) == 3


def test_the_minimum_is_the_published_one():
    assert minimum_flops(FLUX1, 1024, rows=1) == pytest.approx(102.8e12, rel=0.005)
    assert minimum_flops(FLUX1, 4096, rows=1) == pytest.approx(649e12, rel=0.005)


def test_what_is_trained_is_the_adapter_and_the_camera_token(module):
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert sum("lora_" in name for name in trained) == 2 * 418
    assert {name for name in trained if "lora_" not in name} == {
        "camera.projector.weight",
        "camera.projector.bias",
    }
