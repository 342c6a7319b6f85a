"""Calls of a real UNet of SDXL's kind: conditions, one batched call for guidance, features without
the up-blocks.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.flop_counter import FlopCounterMode

from dofsuite.backbones import PromptEmbeds
from dofsuite.backbones.sdxl.unet_calls import (
    features,
    predict,
    predict_with_features,
    time_ids,
    without_up_blocks,
)
from dofsuite.diffusion import scaled_linear_alphas_cumprod
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser, no_gradient
from tests.text2image.tiny_unet import inputs, tiny_unet


def own_call(
    unet: nn.Module,
    noisy: Tensor,
    t: Tensor,
    prompt: PromptEmbeds,
    size_px: int,
    exif: Tensor | None = None,
):
    """The UNet called by hand with SDXL's conditions."""
    sizes = torch.tensor(
        [[size_px, size_px, 0, 0, size_px, size_px]] * len(noisy), dtype=torch.float32
    )
    conditions = {"text_embeds": prompt.pooled, "time_ids": sizes}
    return unet(noisy, t, prompt.tokens, added_cond_kwargs=conditions, timestep_cond=exif).sample


def guided(
    unet: nn.Module,
    noisy: Tensor,
    t: Tensor,
    prompt: PromptEmbeds,
    scale: float = 8.0,
    exif: Tensor | None = None,
) -> Tensor:
    denoiser = ConditionedDenoiser(unet, prompt, exif, 8, scaled_linear_alphas_cumprod())
    return denoiser.guided_noise(noisy, t, scale)


def calls_of(unet: nn.Module) -> list[int]:
    """Batch size of every forward from now on."""
    sizes: list[int] = []
    unet.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    return sizes


def test_a_prediction_is_the_unets_with_sdxls_conditions():
    unet, (noisy, t, prompt) = tiny_unet(), inputs()
    assert torch.equal(predict(unet, noisy, t, prompt), own_call(unet, noisy, t, prompt, 64))
    assert torch.equal(
        predict(unet, noisy, t, prompt, downscale=4), own_call(unet, noisy, t, prompt, 32)
    )


def test_sizes_are_height_first():
    assert time_ids(torch.zeros(2, 4, 128, 96), 8).tolist() == [[1024, 768, 0, 0, 1024, 768]] * 2


def test_exif_reaches_the_time_embedding_of_an_exif_conditioned_unet():
    unet, (noisy, t, prompt) = tiny_unet(exif_dim=2), inputs()
    exif = torch.tensor([[1.8, 50.0], [8.0, 85.0], [22.0, 35.0]])
    expected = own_call(unet, noisy, t, prompt, 64, exif)
    assert torch.equal(predict(unet, noisy, t, prompt, exif), expected)
    assert not torch.allclose(predict(unet, noisy, t, prompt), expected)


@pytest.mark.parametrize(
    "exif", [None, torch.tensor([[1.8, 50.0], [8.0, 85.0], [22.0, 35.0]])], ids=["text", "exif"]
)
def test_guidance_is_one_call_of_twice_the_rows_and_equals_two_calls(exif):
    unet, (noisy, t, prompt) = tiny_unet(exif_dim=2), inputs()
    nothing = PromptEmbeds(torch.zeros_like(prompt.tokens), torch.zeros_like(prompt.pooled))
    without = own_call(unet, noisy, t, nothing, 64, exif)
    expected = without + 8 * (own_call(unet, noisy, t, prompt, 64, exif) - without)
    calls = calls_of(unet)
    torch.testing.assert_close(
        guided(unet, noisy, t, prompt, 8.0, exif), expected, atol=2e-5, rtol=1e-5
    )
    assert calls == [6]


def test_guidance_of_one_is_the_conditional_prediction_alone():
    unet, (noisy, t, prompt) = tiny_unet(), inputs()
    calls = calls_of(unet)
    assert torch.equal(guided(unet, noisy, t, prompt, 1.0), own_call(unet, noisy, t, prompt, 64))
    assert calls == [3, 3]


def test_a_bfloat16_network_is_fed_bfloat16_and_guided_in_float32():
    unet, (noisy, t, prompt) = tiny_unet().bfloat16(), inputs()
    assert predict(unet, noisy, t, prompt).dtype == torch.bfloat16
    assert guided(unet, noisy, t, prompt).dtype == torch.float32


def test_prediction_and_features_come_from_one_forward_and_equal_the_separate_ones():
    unet, (noisy, t, prompt) = tiny_unet(), inputs()
    calls = calls_of(unet)
    noise, mid = predict_with_features(unet, noisy, t, prompt)
    assert calls == [3]
    assert torch.equal(noise, own_call(unet, noisy, t, prompt, 64))
    assert torch.equal(mid, features(unet, noisy, t, prompt))
    assert mid.shape == (3, 32, 4, 4)
    assert not unet.mid_block._forward_hooks


def flops(call) -> dict[str, int]:
    """FLOPs of a call, by module."""
    with FlopCounterMode(display=False) as counter:
        call()
    return {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}


def test_features_spend_no_flop_on_the_up_blocks():
    unet, (noisy, t, prompt) = tiny_unet(), inputs()
    full = flops(lambda: predict(unet, noisy, t, prompt))
    down_and_mid = flops(lambda: features(unet, noisy, t, prompt))
    after_mid = [
        full[f"UNet2DConditionModel.{name}"] for name in ("up_blocks.0", "up_blocks.1", "conv_out")
    ]
    assert min(after_mid) > 0
    assert down_and_mid["Global"] == full["Global"] - sum(after_mid)


def test_features_train_the_shared_weights_and_leave_the_unet_whole():
    unet, (noisy, t, prompt) = tiny_unet(), inputs()
    before = list(unet.state_dict())
    noisy.requires_grad_()
    features(unet, noisy, t, prompt).square().sum().backward()
    found = {name: p.grad.clone() for name, p in unet.named_parameters() if p.grad is not None}
    unet.zero_grad()
    x_gradient, noisy.grad = noisy.grad, None
    predict_with_features(unet, noisy, t, prompt)[1].square().sum().backward()
    expected = {name: p.grad for name, p in unet.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    assert torch.equal(x_gradient, noisy.grad)
    assert "mid_block.resnets.0.conv1.weight" in found
    assert not any(name.startswith(("up_blocks", "conv_out")) for name in found)
    assert list(unet.state_dict()) == before


def gradients_under_autocast(unet: nn.Module, before) -> dict[str, Tensor]:
    """Gradients of a graded forward in bfloat16, `before` having run in the same autocast
    context.
    """
    noisy, t, prompt = inputs()
    unet.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        before(lambda: predict(unet, noisy, t, prompt))
        noise, mid = predict_with_features(unet, noisy, t, prompt)
        loss = (
            noise.float().square().mean()
            + features(unet, noisy, t, prompt).float().square().mean()
            + mid.sum()
        )
    loss.backward()
    return {name: p.grad for name, p in unet.named_parameters() if p.grad is not None}


def test_a_forward_without_gradient_takes_none_from_the_forward_after_it():
    def simulate(call):
        with no_gradient():
            call()

    unet = tiny_unet()
    expected = gradients_under_autocast(unet, lambda call: None)
    found = gradients_under_autocast(unet, simulate)
    assert found.keys() == expected.keys() == dict(unet.named_parameters()).keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_no_gradient_runs_in_the_precision_around_it_and_leaves_no_cast_weight_behind():
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        with no_gradient():
            before = layer(x)
        with torch.no_grad():
            layer.weight.mul_(2)
            layer.bias.mul_(2)
        assert torch.equal(layer(x), 2 * before)
    assert before.dtype == torch.bfloat16
    assert not before.requires_grad


def critic_gradients(unet: nn.Module) -> dict[str, Tensor]:
    """Gradients of the critic's two forwards: prediction and features of one, features of the
    other.
    """
    noisy, t, prompt = inputs()
    noise, fake = predict_with_features(unet, noisy, t, prompt)
    real = features(unet, noisy + 1, t, prompt)
    (noise.square().mean() + fake.square().mean() + real.square().mean()).backward()
    return {name: p.grad for name, p in unet.named_parameters()}


@pytest.fixture
def process_group(tmp_path):
    distributed.init_process_group("gloo", f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def fsdp2_unet() -> nn.Module:
    unet = tiny_unet()
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks, unet):
        fully_shard(block)
    return unet


@pytest.mark.usefixtures("process_group")
def test_an_fsdp2_unet_gives_features_and_gradients_as_a_plain_one():
    expected = critic_gradients(tiny_unet())
    for name, gradient in critic_gradients(fsdp2_unet()).items():
        assert isinstance(gradient, DTensor)
        torch.testing.assert_close(gradient.full_tensor(), expected[name], msg=name)


@pytest.mark.usefixtures("process_group")
def test_a_view_makes_no_weights_of_its_own():
    unet, registered = fsdp2_unet(), []
    handle = register_module_parameter_registration_hook(
        lambda module, name, parameter: registered.append(name)
    )
    view = without_up_blocks(unet)
    handle.remove()
    assert registered == []
    assert {id(p) for p in view.parameters()} < {id(p) for p in unet.parameters()}
