"""What an experiment says reaches the place that it is about: guidance, stacking rows, norms,
masks.
"""

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch.nn.functional import interpolate

from dofsuite.diffusion import draw_uniform
from dofsuite.optics import stack_mask
from dofsuite.refocus import RefocusPipeline
from dofsuite.refocus.cameras import NUM_UNIFORMS, draw_cameras
from dofsuite.refocus.losses import Stacking
from tests.refocus.tiny import tiny_batches, tiny_module


@pytest.fixture(scope="module")
def batch():
    return tiny_batches(1)[0]


def watched(transformer):
    """A transformer of the same shape that takes a guidance, and what its calls are given."""
    guided = FluxTransformer2DModel.from_config(transformer.config, guidance_embeds=True)
    calls = []
    guided.register_forward_pre_hook(lambda _, __, inputs: calls.append(inputs), with_kwargs=True)
    return guided, calls


def test_training_probe_and_pipeline_give_the_transformer_the_guidance_that_was_set(
    batch, tmp_path
):
    module = tiny_module(guidance_embed=2.5)
    module.trained_size_px = 32
    module.export(tmp_path)
    module.transformer, calls = watched(module.transformer)
    x = module.example(batch)
    module.losses(x)
    module.refocus(
        x.reference, x.depth, x.first_camera.focus_point, x.first_camera.bokeh_level, x.noise
    )
    pipe = RefocusPipeline.from_export(tmp_path)
    pipe.transformer, of_pipe = watched(pipe.transformer)
    pipe(batch.image_srgb, (0.5, 0.5), 4.0)
    assert [call["guidance"].unique().tolist() for call in calls + of_pipe] == [[2.5]] * 5


def oracle(module, x):
    """Predict for each row the velocity that its noisy latent truly has, off by a hundredth of its
    level.

    It knows noise and time and nothing else: from z_t = (1 - t) z + t eps follows v = eps - z =
        (eps - z_t) / (1 - t).
    """

    def velocity(noisy, t, reference, depth, focus_point, bokeh_level):
        noise = x.noise.repeat(len(noisy) // len(x.noise), 1, 1, 1)
        trained = sum(p.sum() for p in module.camera.parameters())
        return (
            (noise - noisy) / (1 - t[:, None, None, None])
            + bokeh_level[:, None, None, None] / 100
            + 0 * trained
        )

    return velocity


@pytest.mark.parametrize("split_backward", ["none", "losses", "rows"])
@pytest.mark.parametrize("norm", ["squared", "plain"])
@pytest.mark.parametrize("latent", ["stack", "own"])
def test_losses_of_a_network_that_is_off_by_a_known_amount(batch, split_backward, norm, latent):
    stacking = Stacking(weight=0.3, norm=norm, latent=latent)
    module = tiny_module(split_backward=split_backward, stacking=stacking)
    x = module.example(batch)
    module.velocity = oracle(module, x)
    losses = module.losses(x)
    first, second = (
        camera.bokeh_level[:, None, None, None] / 100
        for camera in (x.first_camera, x.second_camera)
    )
    residuals = {"flow": first, "stack": x.mask * first + (1 - x.mask) * second}
    for name, residual in residuals.items():
        squares = residual.expand_as(x.mask).square().mean(dim=(1, 2, 3))
        expected = (squares if norm == "squared" else squares.sqrt()).mean()
        assert losses[name].item() == pytest.approx(expected.item(), rel=1e-3), name
    assert losses["loss"].item() == pytest.approx(
        losses["flow"].item() + 0.3 * losses["stack"].item(), rel=1e-6
    )


@pytest.mark.parametrize("antialias", [False, True])
def test_the_mask_is_downsampled_as_configured(batch, antialias):
    module = tiny_module(stacking=Stacking(antialias=antialias))
    x = module.example(batch)
    uniforms = draw_uniform(module.seed, batch.index.tolist(), "cameras", NUM_UNIFORMS)
    _, first, second = module.render(
        batch, draw_cameras(batch.disparity, uniforms, module.camera_sampling)
    )
    expected_mask, otherwise = (
        interpolate(stack_mask(first, second), x.first.shape[-2:], mode="bilinear", antialias=way)
        for way in (antialias, not antialias)
    )
    assert torch.allclose(x.mask, expected_mask, atol=1e-6)
    assert not torch.allclose(x.mask, otherwise, atol=1e-2)
