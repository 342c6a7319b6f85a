"""Attention backends and compiled blocks: the eager network's numbers, or a sentence."""

import pytest
import torch

from dofsuite.backbones import Lora, SmallFlux, SmallSdxl, family_of
from dofsuite.backbones.acceleration import Acceleration
from dofsuite.errors import UserError


def small_flux():
    transformer = SmallFlux(weights=None, heads=2, single_blocks=2, downscale=2).load().transformer
    Lora(rank=4).attach(transformer)
    return transformer


def predicted(transformer):
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 12, 8, 8, generator=generator)
    prompt = torch.randn(1, 1, 64, generator=generator)
    return family_of(transformer).predict_velocity(
        transformer, latent, latent, latent, prompt, torch.full((1,), 0.5), torch.zeros(16)
    )


@pytest.fixture
def torch_s_switches():
    before = torch.backends.cuda.cudnn_sdp_enabled()
    yield
    torch.backends.cuda.enable_cudnn_sdp(before)


def test_a_backend_of_diffusers_gives_the_same_velocity():
    transformer = small_flux()
    expected = predicted(transformer)
    Acceleration(attention="_native_math").apply(transformer, recompute=False)
    torch.testing.assert_close(predicted(transformer), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("attention", "recompute", "cudnn"),
    [("auto", True, False), ("auto", False, True), ("sdpa", True, True)],
)
def test_cudnn_s_attention_is_left_out_where_blocks_are_recomputed(
    torch_s_switches, attention, recompute, cudnn
):
    torch.backends.cuda.enable_cudnn_sdp(True)
    Acceleration(attention=attention).apply(small_flux(), recompute)
    assert torch.backends.cuda.cudnn_sdp_enabled() == cudnn


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_a_block_compiles_to_one_graph_with_the_same_velocity_and_gradients(recompute, monkeypatch):
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        transformer = small_flux()
        if recompute:
            transformer.enable_gradient_checkpointing()
        if compiled:
            # The graph is run by eager kernels: no C++ compiler is needed, and fullgraph still
            # ends the test on a graph break.
            monkeypatch.setattr(
                transformer,
                "compile_repeated_blocks",
                lambda t=transformer, **kwargs: type(t).compile_repeated_blocks(
                    t, backend="eager", **kwargs
                ),
            )
            Acceleration(compile="blocks").apply(transformer, recompute)
        velocity = predicted(transformer)
        trained = [p for p in transformer.parameters() if p.requires_grad]
        results.append([velocity, *torch.autograd.grad(velocity.square().sum(), trained)])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_what_a_machine_or_network_has_not_is_one_sentence():
    flux, unet = small_flux(), SmallSdxl().load().unet
    for network, attention, word in (
        (flux, "sage", "sageattention"),
        (flux, "fast", "must be one of"),
        (unet, "flash", "torch's attention alone"),
    ):
        with pytest.raises(UserError, match=rf"model\.acceleration\.attention.*{word}") as refusal:
            Acceleration(attention=attention).apply(network, recompute=False)
        assert "\n" not in str(refusal.value)
