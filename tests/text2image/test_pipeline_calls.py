"""What a call of the text-to-image pipeline takes and gives, in which precision and on which
device.
"""

import jaxtyping
import numpy as np
import pytest
import torch
from accelerate import cpu_offload_with_hook

from dofsuite.text2image import Text2ImagePipeline
from tests.text2image.tiny_run import tiny_module, untrained_depth


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    tiny_module(untrained_depth(root)).export(root / "export")
    return root


@pytest.fixture
def pipe(folder):
    return Text2ImagePipeline.from_export(folder)


@pytest.fixture
def unchecked():
    """As users call it: the tests' own type checks, which refuse sooner, are off."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_the_scene_and_its_photographs_stay(pipe, dtype):
    exact = pipe("a red ball", seed=0, output_type="pt")
    blurred = pipe.photograph(exact, 2.8, 50, output_type="pt")
    half = pipe.to(dtype)("a red ball", seed=0, output_type="pt")
    assert half.images.dtype == torch.float32
    assert not torch.equal(half.images, exact.images)
    assert torch.allclose(half.images, exact.images, atol=5e-3)
    assert torch.allclose(half.depth, exact.depth.float(), rtol=0.1)
    assert torch.allclose(pipe.photograph(half, 2.8, 50, output_type="pt"), blurred, atol=0.05)


def test_offloaded_parts_work_where_their_hooks_put_them(pipe):
    """The meta device stands for an accelerator: what stays on the CPU does not mix with it."""
    for part in (pipe.unet, pipe.vae, pipe.depth_model, pipe.focus_predictor):
        cpu_offload_with_hook(part, torch.device("meta"))
    scene = pipe("a red ball", seed=0, output_type="pt")
    assert {tensor.device.type for tensor in (scene.images, scene.depth, scene.focus_distance)} == {
        "meta"
    }


def test_offloaded_parts_make_the_same_scene_twice(pipe):
    exact = pipe("a red ball", seed=0, output_type="pt").images
    pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):
        assert torch.allclose(pipe("a red ball", seed=0, output_type="pt").images, exact, atol=1e-5)


def test_output_types(pipe):
    scene = pipe(["a red ball", "a blue box"], seed=0, output_type="np")
    assert np.array_equal(scene.images, scene.image_srgb.permute(0, 2, 3, 1).numpy())
    sweeps = [pipe.photograph(scene, [1.8, 4, 22], 50, output_type=kind) for kind in ("np", "pt")]
    assert np.array_equal(sweeps[0], sweeps[1].permute(0, 1, 3, 4, 2).numpy())


@pytest.mark.parametrize("kind", ["latent", "bogus"])
def test_other_output_types_are_refused(pipe, unchecked, kind):
    message = f"output_type must be one of pil, pt, np, not '{kind}'"
    with pytest.raises(ValueError, match=message):
        pipe("a red ball", output_type=kind)
    with pytest.raises(ValueError, match=message):
        pipe.photograph(pipe("a red ball"), 2, 50, output_type=kind)


def test_each_image_may_have_its_own_generator(pipe):
    prompts = ["a red ball", "a blue box"]
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    both = pipe(prompts, generator=generators, output_type="pt").images
    for i, prompt in enumerate(prompts):
        alone = pipe(
            prompt, generator=torch.Generator().manual_seed(3 + i), output_type="pt"
        ).images[0]
        assert torch.allclose(both[i], alone, atol=1e-5)
    with pytest.raises(
        ValueError, match="generator: 2 for 1 images; give one for all or one for each"
    ):
        pipe("a red ball", generator=generators)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images_per_prompt": 0}, "prompt: 0 images of 1 prompts are none"),
        ({"prompt": []}, "prompt: 1 images of 0 prompts are none"),
        ({"height": 0}, "height and width must be multiples of 4, not 0 and 32"),
    ],
)
def test_what_cannot_be_is_one_sentence(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(**{"prompt": "a red ball"} | arguments)
