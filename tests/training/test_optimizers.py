"""The fused step is chosen on GPUs alone, and never against the experiment's own words; AdamW in 8
bits, and what an optimizer keeps.
"""

import io

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch._subclasses.fake_tensor import FakeTensorMode

from dofsuite.training.optimizers import fuse, state_bytes_per_weight


@pytest.mark.parametrize(
    ("device", "options", "fused"),
    [("cuda", {}, True), ("cpu", {}, None), ("cuda", {"foreach": True}, None)],
)
def test_adamw_is_fused_on_gpus_unless_the_experiment_says_otherwise(device, options, fused):
    with FakeTensorMode():
        weight = torch.nn.Parameter(torch.empty(2, device=device))
        optimizer = fuse(torch.optim.AdamW([weight], **options))
        assert optimizer.param_groups[0]["fused"] == fused
        # Lightning clips its gradients under bf16-mixed
        weight.grad = torch.zeros_like(weight)
        MixedPrecision("bf16-mixed", "cpu").clip_gradients(optimizer, 1.0)


def test_an_optimizer_without_a_fused_step_is_left_alone():
    optimizer = torch.optim.RMSprop([torch.nn.Parameter(torch.zeros(2))])
    assert "fused" not in fuse(optimizer).param_groups[0]


# A code of one byte for each moment, and a scale in float32 for 256 of them.
EIGHT_BIT = 2 * (1 + 4 / 256)


@pytest.mark.parametrize(
    ("package", "name", "expected"),
    [
        ("torch", "AdamW", 8),
        ("torch", "RMSprop", 4),
        ("torch", "SGD", 0),
        ("torchao", "AdamW8bit", EIGHT_BIT),
        ("bitsandbytes", "AdamW8bit", EIGHT_BIT),
    ],
)
def test_an_optimizer_s_state_has_the_bytes_of_its_moments(package, name, expected):
    optimizer = getattr(pytest.importorskip(f"{package}.optim"), name)
    counted = state_bytes_per_weight(lambda weights: optimizer(weights, lr=1e-3))
    # And a table of 256 values in float32 for each of the two
    assert counted == pytest.approx(expected, abs=2 * 4 * 256 / 256**2)


@pytest.mark.parametrize("package", ["torchao", "bitsandbytes"])
def test_adamw_in_8_bits_goes_where_adamw_goes(package):
    """Least squares, 100 steps, each from the state that was saved before it as a run saves it."""
    eight_bit = pytest.importorskip(f"{package}.optim").AdamW8bit
    generator = torch.Generator().manual_seed(0)
    x, truth = torch.randn(256, 64, generator=generator), torch.randn(64, 128, generator=generator)
    ends = []
    for kind in (torch.optim.AdamW, eight_bit):
        weight = torch.nn.Parameter(torch.zeros_like(truth))
        optimizer = kind([weight], lr=0.05, weight_decay=0.01)
        for _ in range(100):
            optimizer.zero_grad()
            (x @ weight - x @ truth).square().mean().backward()
            with torch.compiler.set_stance("force_eager"):
                optimizer.step()
            saved = io.BytesIO()
            torch.save(optimizer.state_dict(), saved)
            saved.seek(0)
            optimizer = kind([weight], lr=0.05, weight_decay=0.01)
            optimizer.load_state_dict(torch.load(saved, weights_only=True))
        ends.append(weight.detach())
    error = float((ends[1] - ends[0]).norm() / ends[0].norm())
    print(f"{package}: {error:.1e} of the weights")
    assert float((ends[0] - truth).norm() / truth.norm()) < 0.1
    assert error < 0.03
