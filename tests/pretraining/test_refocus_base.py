"""Pretraining of the base: fog by its law, the share of prompts, unconditional samples."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from dofsuite.backbones import SmallFlux
from dofsuite.fit import main
from dofsuite.pretraining import RefocusPretraining
from dofsuite.pretraining.refocus_base import CLEAR, UNPROMPTED, fog, prompt_token
from dofsuite.pretraining.restoration import RestorationProbe, high_pass_energy
from dofsuite.refocus import Rendering, Stacking
from tests.refocus.tiny import tiny_batches

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "pretraining" / "refocus_base.yaml"


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


def test_each_task_has_its_share_and_its_target():
    base = tiny_base(restoration_share=0.25, prompt_share=0.5, depth_dropout=0.0)
    levels = []
    for batch in tiny_batches(8, 8):
        x = base.example(batch)
        level = x.first_camera.bokeh_level
        levels.append(level)
        target = (base.codec.decode(x.first) + 1) / 2
        # Fog is the law's, of the all-in-focus image; what is restored is that image
        density = base.density_per_level * level.clamp(min=0)
        clear_at = x.first_camera.focus_disparity
        foggy = fog(batch.image_srgb, batch.disparity, clear_at, density)
        expected = torch.where((level >= 0)[:, None, None, None], foggy, batch.image_srgb)
        is_known = level != UNPROMPTED
        assert torch.allclose(target[is_known], expected[is_known], atol=1e-4)
    level = torch.cat(levels)
    shares = [(level >= 0), (level == CLEAR), (level == UNPROMPTED)]
    measured = [float(share.float().mean()) for share in shares]
    assert measured == pytest.approx([0.5, 0.25, 0.25], abs=0.15)


def test_clear_is_a_word_of_its_own_and_no_prompt_is_zeros():
    base = tiny_base()
    level = torch.tensor([CLEAR, UNPROMPTED, 4.0])
    tokens = prompt_token(base.camera, torch.full((3, 2), 0.75), level)[:, 0]
    expected = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0], [0.5, 0.5, 0.2, 0]])
    assert torch.equal(tokens[:, :4], expected)
    assert not tokens[:, 4:].any()


def test_a_batch_of_examples_depends_on_seed_and_position_alone():
    batch = tiny_batches(1, 4)[0]
    first, again = tiny_base().example(batch), tiny_base().example(batch)
    other = tiny_base().example(batch._replace(index=batch.index + 8))
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.first, again.first)
    assert not torch.equal(first.noise, other.noise)


def test_depth_as_it_is_given_is_what_the_network_gets():
    batch = tiny_batches(1, 2)[0]
    pooled = batch._replace(given_disparity=1 - batch.disparity)
    base = tiny_base(depth_dropout=0.0)
    x = base.example(pooled)
    depth = (base.codec.decode(x.depth) + 1) / 2
    assert torch.allclose(depth[:, :1], 1 - batch.disparity, atol=1e-4)


def test_a_perfect_restorer_and_a_copier_score_what_they_should():
    batch = tiny_batches(1, 3)[0]
    rendering = Rendering(gamma=2.2, layers=9, reference_width_px=256.0)
    values = {}
    for name, restore in {
        "perfect": lambda image, depth, index: batch.image_srgb,
        "copy": lambda image, depth, index: image,
    }.items():
        probe = RestorationProbe(rendering, 0, restore)
        probe.update(batch)
        values[name] = probe.values()
    assert values["perfect"]["copy_mae"] == values["perfect"]["deblur_ratio"] == 0
    assert values["perfect"]["high_pass_kept"] == pytest.approx(1)
    assert values["copy"]["deblur_ratio"] == pytest.approx(1)
    assert values["copy"]["deblur_mae_copy"] > 0


def test_high_pass_energy_is_scipy_s():
    image = torch.rand(1, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    expected = sum(
        ((plane - uniform_filter(plane, 3, mode="nearest")) ** 2).sum()
        for plane in image[0].double().numpy()
    )
    assert float(high_pass_energy(image)) == pytest.approx(expected, rel=1e-5)


def test_a_sample_without_prompt_is_a_token_of_zeros():
    base, tokens = tiny_base(restoration_share=0.0, prompt_share=0.0), []
    base.transformer.register_forward_pre_hook(
        lambda _, __, inputs: tokens.append(inputs["encoder_hidden_states"]), with_kwargs=True
    )
    base.losses(base.example(tiny_batches(1)[0]))
    assert tokens[0].abs().max() == 0


def test_a_share_out_of_range_and_an_adapter_are_errors():
    with pytest.raises(ValueError, match="prompt_share"):
        tiny_base(prompt_share=1.5)
    with pytest.raises(ValueError, match=r"restoration_share \+ prompt_share"):
        tiny_base(restoration_share=0.6, prompt_share=0.6)
    with pytest.raises(ValueError, match="lora"):
        RefocusPretraining(backbone=SmallFlux(weights=None), stacking=Stacking(weight=0.0))


def test_what_the_copy_goes_through_is_trained_on_demand_alone():
    for train_ends in (False, True):
        base = tiny_base(train_ends=train_ends)
        trained = {name for name, p in base.named_parameters() if p.requires_grad}
        ends = {"transformer.x_embedder.weight", "transformer.proj_out.weight"}
        ends |= {"transformer.norm_out.linear.bias"}
        ends |= {"transformer.single_transformer_blocks.0.norm.linear.weight"}
        assert ends & trained == (ends if train_ends else set())
        assert "transformer.single_transformer_blocks.0.attn.norm_q.weight" in trained
        assert not any(name.startswith("camera.") for name in trained)


@pytest.mark.slow
def test_the_experiment_trains_validates_exports_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("DOFSUITE_CACHE", str(tmp_path / "cache"))
    words = [str(EXPERIMENT), "--trainer.default_root_dir", str(tmp_path / "run")]
    for key, value in {
        "model.backbone.heads": 3,
        "model.backbone.single_blocks": 1,
        "model.backbone.downscale": 2,
        "model.probe.scenes": 2,
        "model.num_inference_steps": 2,
        "model.lr_schedule.cooldown_steps": 0,
        "data.scenes": 8,
        "data.batch_size": 2,
        "data.size_px": 32,
        "data.val_batch_size": 2,
        "data.processes": 1,
        "trainer.val_check_interval": 2,
        "trainer.accelerator": "cpu",
    }.items():
        words += [f"--{key}", str(value)]
    for steps in (2, 4):
        assert main([*words, "--trainer.max_steps", str(steps)]) == 0
        gates = json.loads((tmp_path / "run" / "restoration.json").read_text())
        assert gates["step"] == steps
        assert gates["copy_mae"] < 0.02
    exported = SmallFlux(weights=str(tmp_path / "run" / "export")).load()
    assert exported.transformer.config.num_attention_heads == 3
