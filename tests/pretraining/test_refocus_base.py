"""Pretraining of the base: fog by its law, the share of prompts, unconditional samples."""

import numpy as np
import pytest
import torch

from dofsuite.backbones import SmallFlux
from dofsuite.pretraining import RefocusPretraining
from dofsuite.pretraining.refocus_base import fog
from dofsuite.refocus import Rendering, Stacking
from tests.refocus.tiny import tiny_batches


def tiny_base(**options) -> RefocusPretraining:
    base = RefocusPretraining(
        backbone=SmallFlux(weights=None, heads=2, single_blocks=1, downscale=2),
        lora=None,
        stacking=Stacking(weight=0.0),
        rendering=Rendering(gamma=2.2, layers=9, reference_width_px=256.0),
        **options,
    )
    base.configure_model()
    return base


def test_fog_follows_its_law_pixel_by_pixel():
    generator = torch.Generator().manual_seed(0)
    image, disparity = (
        torch.rand(2, 3, 5, 4, generator=generator),
        torch.rand(2, 1, 5, 4, generator=generator),
    )
    clear_at, density = torch.tensor([0.2, 0.7]), torch.tensor([0.0, 3.0])
    expected = np.empty(image.shape)
    for i, channel, y, x in np.ndindex(*image.shape):
        clarity = np.exp(
            -float(density[i]) * abs(float(disparity[i, 0, y, x]) - float(clear_at[i]))
        )
        expected[i, channel, y, x] = clarity * float(image[i, channel, y, x]) + (1 - clarity) * 0.5
    assert np.allclose(fog(image, disparity, clear_at, density).numpy(), expected, atol=1e-6)


def test_prompted_samples_are_their_references_in_fog_and_the_others_have_no_prompt():
    base = tiny_base(prompt_share=0.5, depth_dropout=0.0)
    batches = tiny_batches(8, 8)
    prompted = torch.cat([base.is_prompted(batch) for batch in batches])
    assert prompted.float().mean().item() == pytest.approx(0.5, abs=0.15)
    for batch in batches[:2]:
        x, has_prompt = base.example(batch), base.is_prompted(batch)
        assert ((x.first_camera.bokeh_level >= 0) == has_prompt).all()
        reference, first = base.codec.decode(x.reference), base.codec.decode(x.first)
        contrast = torch.stack([image.flatten(1).abs().amax(dim=1) for image in (reference, first)])
        assert (contrast[1] <= contrast[0] + 1e-4)[has_prompt].all()  # fog only fades towards gray


def test_a_sample_without_prompt_is_a_token_of_zeros():
    base, tokens = tiny_base(prompt_share=0.0), []
    base.transformer.register_forward_pre_hook(
        lambda _, __, inputs: tokens.append(inputs["encoder_hidden_states"]), with_kwargs=True
    )
    base.losses(base.example(tiny_batches(1)[0]))
    assert tokens[0].abs().max() == 0


def test_a_share_out_of_range_and_an_adapter_are_errors():
    with pytest.raises(ValueError, match="prompt_share"):
        tiny_base(prompt_share=1.5)
    with pytest.raises(ValueError, match="lora"):
        RefocusPretraining(backbone=SmallFlux(weights=None), stacking=Stacking(weight=0.0))
