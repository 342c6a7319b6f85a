"""The surrogates' targets against the scenes' own records, and that training moves towards them."""

import numpy as np
import pytest
import torch

from dofsuite.backbones import SmallDepth, SmallSaliency
from dofsuite.data import Batch
from dofsuite.data.synthetic.layered_scenes import LayeredRecipe, depth_m_of, layered_scenes
from dofsuite.pretraining import DepthSurrogate, SaliencySurrogate
from dofsuite.pretraining.surrogates import depth_target_m, known, saliency_target
from tests.cpu_trainer import cpu_trainer


@pytest.fixture(scope="module")
def scenes():
    return list(layered_scenes(LayeredRecipe(scenes=8, seed=99)))


def batch_of(scenes, has_depth=True) -> Batch:
    count = len(scenes)
    image = (
        torch.from_numpy(np.stack([scene.image_srgb for scene in scenes])).permute(0, 3, 1, 2) / 255
    )
    disparity = torch.from_numpy(np.stack([scene.disparity for scene in scenes]))[:, None].float()
    return Batch(
        image_srgb=image,
        disparity=disparity,
        has_depth=torch.full((count,), has_depth),
        source=torch.zeros(count, dtype=torch.int64),
        index=torch.arange(count),
        key=[str(n) for n in range(count)],
        width_px=torch.full((count,), 64.0),
        valid=torch.ones_like(disparity, dtype=torch.bool),
        caption=[scene.caption for scene in scenes],
        f_number=torch.full((count,), torch.nan),
        focal_length_mm=torch.full((count,), torch.nan),
        sensor_width_mm=torch.full((count,), torch.nan),
        prompt_tokens=torch.zeros(count, 0, 0),
        prompt_pooled=torch.zeros(count, 0),
    )


def test_the_depth_target_is_the_scenes_rule_from_1_m_to_10_m(scenes):
    batch = batch_of(scenes)
    assert np.allclose(
        depth_target_m(batch.disparity), depth_m_of(batch.disparity.numpy()), rtol=1e-6
    )
    assert depth_target_m(
        torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    ).flatten().tolist() == pytest.approx([10, 1])


def test_the_saliency_target_is_the_nearest_of_two_boxes_on_a_floor():
    disparity = torch.linspace(0, 1, 32)[:, None].repeat(1, 40)[None, None].clone()
    near, far = (slice(10, 22), slice(4, 14)), (slice(6, 14), slice(20, 30))
    disparity[0, 0, *near], disparity[0, 0, *far] = 0.7, 0.4
    target = saliency_target(disparity)[0, 0]
    inside = torch.zeros_like(target, dtype=torch.bool)
    inside[near] = True
    assert target[~inside].abs().max() == 0
    assert (target[11:21, 5:13] == 1).all()
    assert target[10, 4].item() == pytest.approx(4 / 9)
    assert target[10, 8].item() == pytest.approx(6 / 9)


def test_the_saliency_target_lies_at_the_nearest_thing_of_every_scene(scenes):
    disparity = batch_of(scenes).disparity
    target = saliency_target(disparity)
    mean = (target * disparity).sum((1, 2, 3)) / target.sum((1, 2, 3))
    assert mean.tolist() == pytest.approx([scene.things[0].disparity for scene in scenes], abs=1e-3)


def test_nothing_is_salient_where_nothing_stands_upright():
    floor = torch.linspace(0, 1, 32)[:, None].expand(1, 1, 32, 32)
    assert saliency_target(floor).abs().max() == 0
    assert saliency_target(torch.zeros(1, 1, 8, 8)).abs().max() == 0


def test_pixels_without_a_measured_depth_do_not_count(scenes):
    batch = batch_of(scenes)
    assert known(batch).min() == 1
    assert known(batch._replace(has_depth=torch.zeros(len(scenes), dtype=torch.bool))).max() == 0
    module = DepthSurrogate()
    output = torch.full_like(batch.disparity, 11.0).requires_grad_()
    weights = (torch.arange(64) < 10).float().expand(output.shape)
    module.losses(output, batch, weights)["loss"].backward()
    assert (output.grad[..., :10] != 0).all()
    assert (output.grad[..., 10:] == 0).all()


def test_the_losses_are_zero_or_the_entropy_at_their_targets(scenes):
    batch = batch_of(scenes)
    depth = DepthSurrogate().losses(depth_target_m(batch.disparity), batch, known(batch))
    assert depth["loss"].item() == pytest.approx(0, abs=1e-6)
    target = saliency_target(batch.disparity)
    saliency = SaliencySurrogate().losses(target, batch, known(batch))
    entropy = -(torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target)).mean()
    assert saliency["loss"].item() == pytest.approx(entropy.item(), rel=1e-3)
    assert saliency["absolute_error"] == 0


@pytest.mark.parametrize(
    ("module", "small"), [(DepthSurrogate, SmallDepth), (SaliencySurrogate, SmallSaliency)]
)
def test_a_few_steps_lower_the_loss_and_the_export_outputs_alike(module, small, scenes, tmp_path):
    surrogate = module(optimizer=lambda p: torch.optim.AdamW(p, lr=2e-3), noise_std=0.0)
    batch = batch_of(scenes)
    surrogate.configure_model()
    with torch.no_grad():
        before = surrogate.losses(surrogate.model(batch.image_srgb), batch, known(batch))["loss"]
    trainer = cpu_trainer(None, 25, [], enable_checkpointing=False)
    trainer.fit(surrogate, torch.utils.data.DataLoader([batch] * 25, batch_size=None))
    with torch.no_grad():
        output = surrogate.model(batch.image_srgb)
        after = surrogate.losses(output, batch, known(batch))["loss"]
    assert after < 0.6 * before
    surrogate.export(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 1.5e6
    assert torch.allclose(
        small(weights=str(tmp_path)).load()(batch.image_srgb), output, rtol=0.03, atol=0.01
    )
