"""Clean conditions against the stock transformers: at flow time 0, with masks, by counting."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dofsuite.backbones import ConditionCache, Lora, SmallFlux, SmallKlein, family_of
from dofsuite.backbones.family import pack, unpack
from tests.full_size import RandomFlux, RandomKlein

FLUX1 = SmallFlux(weights=None, heads=4, double_blocks=2, single_blocks=3, downscale=2)
KLEIN = SmallKlein(heads=4, double_blocks=2, single_blocks=3)
BOTH = pytest.mark.parametrize("backbone", [FLUX1, KLEIN], ids=["FLUX.1", "klein"])
# Tokens of 8 x 8 latents: camera, then reference and depth, then noise.
CAMERA, CONDITIONS, NOISE = 1, 32, 16


class Call:
    """Inputs, and a network without weights of zero."""

    def __init__(self, backbone):
        generator = torch.Generator().manual_seed(0)
        self.modules = backbone.load()
        self.transformer = self.modules.transformer
        for weight in self.transformer.parameters():
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
        latents = torch.randn(4, 2, 12, 8, 8, generator=generator)
        self.noisy, self.reference, self.depth, self.other = latents
        self.camera = torch.randn(2, 1, 64, generator=generator)
        self.family = family_of(self.transformer)

    def velocity(self, t, noisy=None, **options):
        return self.family.predict_velocity(
            self.transformer,
            self.noisy if noisy is None else noisy,
            self.reference,
            self.depth,
            self.camera,
            torch.full((2,), t),
            self.modules.pooled_text,
            **options,
        )

    def clean(self, conditions):
        self.family.set_conditions(self.transformer, conditions)
        return self


def stock_with_mask(call, t):
    """The stock forward pass, told by a mask that conditions see conditions alone."""
    tokens = [pack(latent) for latent in (call.reference, call.depth, call.noisy)]
    ids = call.family.position_ids(8, 8)
    mask = torch.ones(CAMERA + CONDITIONS + NOISE, CAMERA + CONDITIONS + NOISE, dtype=torch.bool)
    mask[CAMERA : CAMERA + CONDITIONS] = False
    mask[CAMERA : CAMERA + CONDITIONS, CAMERA : CAMERA + CONDITIONS] = True
    t = torch.full((2,), t)
    output = call.transformer(
        hidden_states=torch.cat(tokens, dim=1),
        encoder_hidden_states=call.camera,
        timestep=t,
        img_ids=torch.cat([ids[NOISE:], ids[:NOISE]]),
        txt_ids=call.family.text_ids(1, torch.device("cpu")),
        joint_attention_kwargs={"attention_mask": mask},
        return_dict=False,
        **call.family.conditioning(call.transformer, t, call.modules.pooled_text, 1.0),
    )[0]
    return unpack(output[:, -NOISE:], 8, 8)


@BOTH
@torch.no_grad()
def test_at_flow_time_0_clean_conditions_are_the_stock_transformer_s(backbone):
    """There the noise has their flow time."""
    full = Call(backbone).velocity(0.0)
    zero = Call(backbone).clean("time_zero").velocity(0.0, conditions="time_zero")
    torch.testing.assert_close(zero, full, rtol=0, atol=1e-5)
    masked = stock_with_mask(Call(backbone), 0.0)
    cached = Call(backbone).clean("cached").velocity(0.0, conditions="cached")
    torch.testing.assert_close(cached, masked, rtol=0, atol=1e-5)
    assert full.std() > 0.5
    assert (masked - full).abs().max() > 0.01


@BOTH
@torch.no_grad()
def test_at_other_times_the_conditions_time_is_not_the_noise_s(backbone):
    full, masked = Call(backbone).velocity(0.6), stock_with_mask(Call(backbone), 0.6)
    zero = Call(backbone).clean("time_zero").velocity(0.6, conditions="time_zero")
    cached = Call(backbone).clean("cached").velocity(0.6, conditions="cached")
    for ours, stock in ((zero, full), (cached, masked), (zero, cached)):
        assert (ours - stock).abs().max() > 0.01


@BOTH
@torch.no_grad()
def test_cached_conditions_serve_every_later_step(backbone):
    call, cache = Call(backbone).clean("cached"), ConditionCache()
    first = call.velocity(0.9, conditions="cached", cache=cache)
    assert torch.equal(first, call.velocity(0.9, conditions="cached"))
    expected = call.velocity(0.4, call.other, conditions="cached")
    call.reference, call.depth = call.reference + torch.nan, call.depth + torch.nan
    later = call.velocity(0.4, call.other, conditions="cached", cache=cache)
    torch.testing.assert_close(later, expected, rtol=0, atol=1e-6)


@BOTH
@pytest.mark.parametrize("conditions", ["time_zero", "cached"])
def test_recomputed_blocks_have_the_same_gradients(backbone, conditions):
    gradients = []
    for recompute in (False, True):
        call = Call(backbone)
        torch.manual_seed(0)
        Lora(rank=2).attach(call.transformer)
        for weight in call.transformer.parameters():
            weight.data += 0.01 if weight.requires_grad else 0
        call.clean(conditions)
        if recompute:
            call.transformer.enable_gradient_checkpointing()
        trained = [p for p in call.transformer.parameters() if p.requires_grad]
        loss = call.velocity(0.4, conditions=conditions).square().sum()
        gradients.append(torch.autograd.grad(loss, trained))
    assert sum(float(each.abs().sum()) for each in gradients[0]) > 1
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("px", [512, pytest.param(1024, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "descriptor", [RandomFlux().of_depths((2, 4)), RandomKlein().of_depths((2, 4))]
)
def test_28_steps_of_cached_conditions_cost_two_fifths_of_full_attention(descriptor, px):
    """Counted at full width without weights; all blocks are alike."""
    with torch.device("meta"):
        transformer, codec, pooled_text, _ = descriptor.load()
        latent = torch.empty(1, codec.latent_channels, px // 8, px // 8)
        camera = torch.empty(1, 1, transformer.config.joint_attention_dim)
        t = torch.empty(1)
    family = family_of(transformer)

    def flop(**options):
        inputs = (latent, latent, latent, camera, t, pooled_text)
        with (
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
            torch.no_grad(),
        ):
            family.predict_velocity(transformer, *inputs, **options)
        return counter.get_total_flops()

    full = flop()
    family.set_conditions(transformer, "cached")
    cache = ConditionCache()
    first, later = (flop(conditions="cached", cache=cache) for _ in range(2))
    ratio = (first + 27 * later) / (28 * full)
    print(f"{type(transformer).__name__} at {px} px: first {first / full:.3f}, {ratio:.3f} in all")
    assert 0.8 < first / full <= 1.001
    assert 0.33 < ratio <= 0.40
