"""The discriminator: DMD2's layers at SDXL's size, gradients at any size, the configured
precision.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dofsuite.text2image.dmd2.discriminator import Discriminator


def sides_and_dtypes(
    discriminator: Discriminator, features: torch.Tensor
) -> list[tuple[int, torch.dtype]]:
    """Side and dtype of every convolution's output."""
    outputs: list[tuple[int, torch.dtype]] = []
    for module in discriminator.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda module, args, output: outputs.append((output.shape[-1], output.dtype))
            )
    discriminator(features)
    return outputs


def test_at_sdxls_size_it_has_dmd2s_layers():
    with torch.device("meta"):
        discriminator = Discriminator()
        outputs = sides_and_dtypes(discriminator, torch.empty(2, 1280, 32, 32))
    convolutions = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
    assert [side for side, _ in outputs] == [16, 8, 4, 1, 1]
    assert [(c.kernel_size[0], c.stride[0], c.padding[0]) for c in convolutions] == [
        (4, 2, 1)
    ] * 3 + [
        (4, 4, 0),
        (1, 1, 0),
    ]
    assert {
        module.num_groups for module in discriminator.modules() if isinstance(module, nn.GroupNorm)
    } == {32}
    # Four 4x4 convolutions of 1280 channels with biases and norms, and the logit.
    assert (
        sum(p.numel() for p in discriminator.parameters())
        == 4 * (1280 * 1280 * 16 + 3 * 1280) + 1281
    )


@pytest.mark.parametrize(
    ("channels", "side"), [(64, 32), (32, 8), (48, 6), (32, 4), (32, 2), (20, 1)]
)
def test_every_feature_has_a_gradient_from_the_logit_at_any_size(channels, side):
    torch.manual_seed(0)
    features = torch.randn(3, channels, side, side, requires_grad=True)
    logits = Discriminator(channels, side)(features)
    assert logits.shape == (3,)
    assert logits.std() > 0.01
    (gradient,) = torch.autograd.grad(logits[1], features)
    assert gradient[1].abs().flatten(1).amax(dim=1).min() > 1e-4
    assert gradient[[0, 2]].abs().max() == 0


def test_larger_features_give_the_mean_of_their_logits():
    torch.manual_seed(0)
    discriminator = Discriminator(32, side=4)
    features = torch.randn(2, 32, 4, 4)
    assert torch.allclose(
        discriminator(features.repeat(1, 1, 2, 3)), discriminator(features), atol=1e-5
    )


@pytest.mark.parametrize("float32", [True, False])
def test_the_precision_is_the_configured_one_also_under_autocast(float32):
    torch.manual_seed(0)
    discriminator = Discriminator(32, 8, float32=float32)
    features = torch.randn(2, 32, 8, 8)
    exact = discriminator(features)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = sides_and_dtypes(discriminator, features.bfloat16())
        short = discriminator(features)
    assert {dtype for _, dtype in outputs} == {torch.float32 if float32 else torch.bfloat16}
    assert torch.equal(short, exact) == float32


def test_a_float32_discriminator_takes_features_of_a_bfloat16_network():
    discriminator = Discriminator(32, 4, float32=False)
    assert discriminator(torch.randn(2, 32, 4, 4).bfloat16()).dtype == torch.float32
