"""The full-size training step, counted on the meta device: no weights, no GPU, and no wasted
transformer work.
"""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dofsuite.refocus import Refocus
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.module import Example
from tests.full_size import RandomFlux

WIDTH, DOUBLE, SINGLE, RANK = 3072, 19, 38, 64


def minimum_flops(tokens_per_stream, rows=3, double=DOUBLE, single=SINGLE):
    """Forward and backward of FLUX.1-dev with a frozen base and LoRA on the 418 linears, over
    [camera | 3 streams].

    FLOPs are twice the multiply-adds. A frozen linear costs its forward and the gradient of its
    input, an adapter also that of its weights, attention twice its forward (performance.md B.1).
    """
    n = 3 * tokens_per_stream + 1
    linear = 2 * (double + single) * 12 * WIDTH**2 * n
    attention = 2 * (double + single) * 2 * n**2 * WIDTH
    adapter_widths = double * (4 * 2 + 2 * 5) + single * (3 * 2 + 5 + 6)
    adapters = 2 * n * RANK * adapter_widths * WIDTH
    return rows * (2 * linear + 3 * attention + 3 * adapters)


@pytest.fixture(scope="module")
def module():
    module = Refocus(backbone=RandomFlux())
    with torch.device("meta"):
        module.configure_model()
    return module


def example(size_px):
    def latent(channels=16):
        return torch.empty(1, channels, size_px // 8, size_px // 8, device="meta")

    camera = Cameras(
        torch.empty(1, 2, device="meta"),
        torch.empty(1, device="meta"),
        torch.empty(1, device="meta"),
    )
    latents = [latent() for _ in range(4)]
    return Example(*latents, latent(1), camera, camera, latent(), torch.empty(1, device="meta"))


@pytest.mark.parametrize(
    ("size_px", "split_backward", "calls", "depths"),
    [
        (512, "none", 1, (2, 4)),
        pytest.param(512, "none", 1, (DOUBLE, SINGLE), marks=pytest.mark.slow),
        pytest.param(1024, "losses", 2, (DOUBLE, SINGLE), marks=pytest.mark.slow),
    ],
)
def test_a_step_costs_its_minimum_and_no_text_tokens(size_px, split_backward, calls, depths):
    """All blocks are alike: some at full width say the same as all."""
    module = Refocus(backbone=RandomFlux().of_depths(depths), split_backward=split_backward)
    with torch.device("meta"):
        module.configure_model()
    shapes = []
    hook = module.transformer.register_forward_pre_hook(
        lambda _, __, inputs: shapes.append(tuple(inputs["encoder_hidden_states"].shape[:2])),
        with_kwargs=True,
    )
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module.losses(example(size_px))["loss"].backward()
    hook.remove()
    minimum = minimum_flops((size_px // 16) ** 2, 3, *depths)
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
    assert minimum_flops(1024, rows=1) == pytest.approx(102.8e12, rel=0.005)
    assert minimum_flops(4096, rows=1) == pytest.approx(649e12, rel=0.005)


def test_what_is_trained_is_the_adapter_and_the_camera_token(module):
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert sum("lora_" in name for name in trained) == 2 * 418
    assert {name for name in trained if "lora_" not in name} == {
        "camera.projector.weight",
        "camera.projector.bias",
    }
