"""Arguments and results of the refocus pipeline, its precision, its devices, and saving it."""

import warnings

import jaxtyping
import numpy as np
import pytest
import torch
from accelerate import cpu_offload_with_hook
from PIL import Image

from dofsuite.backbones import RelativeDepth
from dofsuite.refocus import RefocusPipeline
from tests.refocus.tiny import tiny_batches, tiny_module, train

POINT, LEVEL = (0.3, 0.6), 5.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    module = tiny_module()
    train(module, tiny_batches(1))
    module.trained_size_px = 32
    folder = tmp_path_factory.mktemp("export")
    module.export(folder)
    return folder


@pytest.fixture
def pipe(folder):
    return RefocusPipeline.from_export(folder)


@pytest.fixture(scope="module")
def batch():
    return tiny_batches(1)[0]


@pytest.fixture
def unchecked():
    """As users call it: without the tests' own type checks, which would raise first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def seeded(*seeds):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return generators if len(generators) > 1 else generators[0]


def refocused(pipe, batch, **changes):
    options = {"depth": batch.disparity, "generator": seeded(0), "output_type": "pt"} | changes
    return pipe(batch.image_srgb, POINT, LEVEL, **options).images


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_the_images_stay(pipe, batch, dtype):
    exact = refocused(pipe, batch)
    half = refocused(pipe.to(dtype), batch)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    assert torch.allclose(half, exact, atol=5e-3)


def test_offloaded_parts_work_where_their_hooks_put_them(pipe, batch):
    """The meta device stands for an accelerator: what stays on the CPU does not mix with it."""
    for part in (pipe.transformer, pipe.vae, pipe.camera):
        cpu_offload_with_hook(part, torch.device("meta"))
    assert refocused(pipe, batch).device.type == "meta"


def test_offloaded_parts_are_freed_after_a_call(pipe, batch):
    exact = refocused(pipe, batch)
    pipe.enable_model_cpu_offload(device="cpu")
    before = pipe._all_hooks
    assert torch.allclose(refocused(pipe, batch), exact, atol=1e-5)
    assert pipe._all_hooks is not before  # diffusers renews the hooks when it frees


def test_a_pipeline_is_saved_only_as_what_from_pretrained_reads(pipe, batch, tmp_path):
    exact = refocused(pipe, batch)
    for _ in range(2):  # a fused adapter still lies beside the weights
        with pytest.raises(
            TypeError, match=r"copy the folder that from_export read.*unload_lora\(\) first"
        ):
            pipe.save_pretrained(tmp_path / "refused")
        pipe.transformer.fuse_lora()
    assert not (tmp_path / "refused").exists()
    pipe.transformer.unload_lora()
    pipe.save_pretrained(tmp_path / "saved")
    assert torch.allclose(
        refocused(RefocusPipeline.from_pretrained(tmp_path / "saved"), batch), exact, atol=1e-5
    )


def test_output_types(pipe, batch):
    tensor = refocused(pipe, batch)
    array = refocused(pipe, batch, output_type="np")
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    image = refocused(pipe, batch, output_type="pil")[1]
    assert np.array_equal(np.asarray(image), (array[1] * 255).round().astype(np.uint8))


def test_each_image_may_have_its_own_generator(pipe, batch):
    image, depth = batch.image_srgb[:2], batch.disparity[:2]
    both = pipe(image, POINT, LEVEL, depth, generator=seeded(3, 4), output_type="pt").images
    for i in range(2):
        alone = pipe(
            image[i : i + 1],
            POINT,
            LEVEL,
            depth[i : i + 1],
            generator=seeded(3 + i),
            output_type="pt",
        ).images
        assert torch.allclose(both[i], alone[0], atol=1e-5)


def test_one_photograph_serves_many_cameras(pipe, batch):
    image, depth, points = batch.image_srgb[:1], batch.disparity[:1], [(0.1, 0.2), (0.9, 0.8)]
    both = pipe(image, points, [2.0, 9.0], depth, generator=seeded(3, 3), output_type="pt").images
    for i, level in enumerate((2.0, 9.0)):
        alone = pipe(image, points[i], level, depth, generator=seeded(3), output_type="pt").images
        assert torch.allclose(both[i], alone[0], atol=1e-5)
    assert not torch.allclose(both[0], both[1], atol=1e-4)


@pytest.mark.parametrize("size", [(90, 60), (160, 90), (60, 90), (48, 48)])
def test_the_model_is_asked_for_the_blur_that_a_level_promises(pipe, size):
    """A level is px of radius where the long side has 512 px. In training a token's level is px in
    a square of `size_px`, scaled by size_px / 512: so that is what the token must ask for.
    """
    levels = []
    pipe.camera.register_forward_hook(lambda _, inputs, __: levels.append(inputs[1]))
    image = pipe(Image.new("RGB", size, "gray"), POINT, LEVEL, output_type="pt").images
    radius_px = levels[0].item() * pipe.config.size_px / 512
    assert radius_px == pytest.approx(LEVEL * max(image.shape[-2:]) / 512, rel=1e-6)


def test_a_depth_map_of_part_of_the_range_is_stretched_as_in_training(pipe, batch):
    exact = refocused(pipe, batch)
    part = 0.2 + 0.5 * batch.disparity
    assert torch.allclose(refocused(pipe, batch, depth=part), exact, atol=1e-4)


def test_a_sweep_in_parts_is_the_sweep_at_once(pipe, batch):
    encoded = []
    encode = pipe.vae.encode
    image, depth, levels = batch.image_srgb[:1], batch.disparity[:1], [1.0, 4.0, 9.0]
    options = {"generator": seeded(3, 3, 3), "output_type": "pt"}
    once = pipe(image, POINT, levels, depth, **options).images
    pipe.vae.encode = lambda values: encoded.append(len(values)) or encode(values)
    parts = pipe(
        image, POINT, levels, depth, **options | {"generator": seeded(3, 3, 3)}, batch_size=2
    ).images
    assert torch.allclose(parts, once, atol=1e-5)
    assert encoded == [1, 1]  # photograph and depth, once for the sweep


def test_the_pipeline_s_own_depth_model_gives_the_depth_that_is_missing(folder, batch):
    class Ramp(RelativeDepth):
        """Disparity that rises to the right, up to scale and shift."""

        def load(self):
            return Rising()

    class Rising(torch.nn.Module):
        def forward(self, image):
            return 3 + 7 * torch.linspace(0, 1, image.shape[-1]).expand_as(image[:, :1])

    pipe = RefocusPipeline.from_export(folder, depth=Ramp())
    ramp = torch.linspace(0, 1, 32).expand(len(batch.key), 1, 32, 32)
    exact = refocused(pipe, batch, depth=ramp)
    assert torch.allclose(refocused(pipe, batch, depth=None), exact, atol=1e-5)
    assert not torch.allclose(refocused(pipe, batch), exact, atol=1e-5)


def test_a_level_far_beyond_training_is_said(pipe):
    image = Image.new("RGB", (48, 48), "gray")
    with pytest.warns(UserWarning, match=r"31 is more than 1.5 times the largest of training, 20"):
        pipe(image, POINT, 31.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe(image, POINT, 30.0)


def test_photographs_of_one_shape_may_have_other_sizes(pipe):
    small, large = (Image.new("RGB", (side, side), "gray") for side in (40, 80))
    assert [image.size for image in pipe([small, large], POINT, LEVEL).images] == [(32, 32)] * 2
    with pytest.raises(
        ValueError, match="image: 2 photographs of 40x40, 80x20; give 1 or more of one shape"
    ):
        pipe([small, Image.new("RGB", (80, 20))], POINT, LEVEL)
    with pytest.raises(ValueError, match="image: 0 photographs"):
        pipe([], POINT, LEVEL)


def test_a_callback_gets_each_step_s_latents_and_may_change_them(pipe, batch):
    steps = []

    def keep(pipeline, step, timestep, given):
        assert pipeline is pipe
        steps.append((step, timestep.item(), given["latents"]))
        return given

    exact = refocused(pipe, batch)
    assert torch.allclose(refocused(pipe, batch, callback_on_step_end=keep), exact, atol=1e-5)
    assert [step for step, _, _ in steps] == [0, 1]
    assert [time for _, time, _ in steps] == pipe.scheduler.timesteps.tolist()
    last = (pipe.vae.decode(steps[-1][2]) + 1) / 2
    assert torch.allclose(last.clamp(0, 1), exact, atol=1e-5)
    reference = pipe.sampler.encode(batch.image_srgb)
    (changed,) = pipe(
        *(batch.image_srgb, POINT, LEVEL),
        output_type="pt",
        return_dict=False,
        callback_on_step_end=lambda *_: {"latents": reference},
    )
    assert torch.allclose(changed, batch.image_srgb, atol=1e-4)


GRAY = torch.full((2, 1, 32, 32), 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_type": "bogus"}, "output_type must be one of pil, pt, np, not 'bogus'"),
        ({"output_type": "latent"}, "output_type must be one of pil, pt, np, not 'latent'"),
        ({"generator": seeded(1, 2, 3)}, "generator: 3 for 2 images"),
        ({"num_inference_steps": 0}, "num_inference_steps must be 1 or above, not 0"),
        ({"focus_point": (float("nan"), 0.5)}, "focus_point must lie in"),
        ({"focus_point": (0.5, 0.5, 0.5)}, r"focus_point must be \(x, y\) or \[b, 2\], not \[3\]"),
        (
            {"focus_point": [(0.5, 0.5)] * 3},
            "2 of image, 3 of focus_point, 1 of bokeh_level, 1 of depth: give one",
        ),
        ({"bokeh_level": float("inf")}, "bokeh_level must be 0 or above"),
        (
            {"depth": Image.new("L", (32, 32))},
            r"depth must be a tensor \[b, 1, h, w\] of floats .*, not Image",
        ),
        ({"depth": GRAY[0, 0]}, r"depth must be .*, not torch.float32 \[32, 32\]"),
        ({"depth": (255 * GRAY).byte()}, r"depth must be .*, not torch.uint8 \[2, 1, 32, 32\]"),
        ({"depth": 20 * GRAY}, "depth must be disparity in .*, not 10 to 10"),
        (
            {"image": (255 * GRAY).byte().expand(2, 3, 32, 32)},
            r"image must be .*, not torch.uint8 \[2, 3, 32, 32\]",
        ),
    ],
)
def test_an_invalid_argument_is_one_sentence(pipe, unchecked, changes, message):
    arguments = {
        "image": GRAY.expand(2, 3, 32, 32),
        "focus_point": POINT,
        "bokeh_level": LEVEL,
    } | changes
    with pytest.raises(ValueError, match=message):
        pipe(**arguments)
