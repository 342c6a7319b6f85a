"""Scenes from an export and photographs of them: against stock diffusers, the training chain, and
optics by hand.
"""

import json
import shutil

import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

from dofsuite.backbones import SmallSdxl
from dofsuite.backbones.sdxl.prediction_type import save_scheduler
from dofsuite.errors import UserError
from dofsuite.optics import coc_radius_px
from dofsuite.optics.lens import ThinLens, pixel_pitch_mm
from dofsuite.text2image import Text2ImagePipeline
from dofsuite.text2image.dmd2.sample_buffer import Conditioning
from dofsuite.text2image.dmd2.stages import Step
from dofsuite.text2image.settings import Text2ImageSettings
from tests.text2image.tiny_run import SIZE_PX, tiny_module, train, untrained_depth


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    module = train(tiny_module(untrained_depth(root)))
    module.export(root / "export")
    return module, root


@pytest.fixture(scope="module")
def pipe(run):
    return Text2ImagePipeline.from_export(run[1])


@pytest.fixture(scope="module")
def scene(pipe):
    return pipe("a red ball", num_images_per_prompt=2, seed=1, output_type="pt")


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """The baseline without a lens: the generator is EXIF-conditioned."""
    root = tmp_path_factory.mktemp("baseline")
    module = tiny_module(untrained_depth(root), lens=None, exif_conditioned=("generator",))
    with torch.no_grad():
        module.networks.teacher.time_embedding.exif.last.weight.normal_(std=0.05)
    module.export(root / "export")
    return Text2ImagePipeline.from_export(root / "export")


def calls_of(pipe, act):
    """How often each network of a pipeline runs, innermost layers included."""
    called = {}
    handles = [
        layer.register_forward_hook(
            lambda *_, name=name, of=path: called.update(
                {(name, of): called.get((name, of), 0) + 1}
            )
        )
        for name, network in pipe.components.items()
        if isinstance(network, torch.nn.Module)
        for path, layer in network.named_modules()
    ]
    try:
        act()
    finally:
        for handle in handles:
            handle.remove()
    return called


def test_a_scene_takes_four_calls_of_the_generator_and_a_photograph_none_of_anything(pipe, scene):
    calls = calls_of(pipe, lambda: pipe("a red ball", seed=0))
    assert {name: count for (name, path), count in calls.items() if path == ""} == {
        "unet": 4,
        "depth_model": 1,
        "focus_predictor": 1,
    }
    assert (
        calls_of(
            pipe, lambda: pipe.photograph(scene, [1.8, 22], 50, focus=scene.depth.median().item())
        )
        == {}
    )


def test_stock_diffusers_with_its_lcm_scheduler_makes_our_image(run, pipe):
    stock = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=UNet2DConditionModel.from_pretrained(
            run[1] / "export" / "unet", low_cpu_mem_usage=False
        ),
        scheduler=LCMScheduler.from_pretrained(run[1] / "export" / "scheduler"),
        add_watermarker=False,
    )
    stock.set_progress_bar_config(disable=True)
    embeds = pipe.prompt_encoder.encode(["a red ball"])
    latent = stock(
        prompt_embeds=embeds.tokens,
        pooled_prompt_embeds=embeds.pooled,
        height=8 * SIZE_PX // 2,  # without a VAE it takes 8 px for a latent; ours has 2
        width=8 * SIZE_PX // 2,
        original_size=(SIZE_PX, SIZE_PX),
        target_size=(SIZE_PX, SIZE_PX),
        timesteps=[999, 749, 499, 249],
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    theirs = ((pipe.vae.decode(latent) + 1) / 2).clamp(0, 1)
    ours = pipe("a red ball", generator=torch.Generator().manual_seed(7), output_type="pt").images
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert ours.std() > 0.05


def test_a_photograph_is_that_of_the_training_chain(run, pipe):
    module, _ = run
    latent = module.networks.encode(torch.rand(2, 3, SIZE_PX, SIZE_PX))
    frames_px = torch.full((2,), 1.5 * SIZE_PX)  # as ShardData says of a photograph of 3:2
    cond = Conditioning(
        ["a", "b"],
        torch.tensor([1.8, 4.0]),
        torch.tensor([85.0, 135.0]),
        frames_px,
        torch.full((2,), torch.nan),  # of the lens's own width
        torch.zeros(2, 0, 0),
        torch.zeros(2, 0),
    )
    with torch.no_grad():
        trained = module.networks.decode(
            module.apply_lens(latent, cond, Step(0, "full", True, True, False))
        )
    scene = pipe.scene(module.networks.decode(latent), "pt")
    photographs = pipe.photograph(scene, [1.8, 4.0], [85, 135], output_type="pt")
    assert torch.allclose(photographs[0, 0], trained[0], atol=1e-4)
    assert torch.allclose(photographs[1, 1], trained[1], atol=1e-4)
    assert not torch.allclose(photographs[0, 0], scene.image_srgb[0], atol=1e-2)


def test_a_photograph_whose_frame_is_known_has_that_frame_s_blur(pipe, scene):
    by_default = pipe.photograph(scene, 1.8, 85, output_type="pt")
    known = pipe.photograph(scene, 1.8, 85, output_type="pt", frame_width_px=1.5 * SIZE_PX)
    square = pipe.photograph(scene, 1.8, 85, output_type="pt", frame_width_px=float(SIZE_PX))
    assert torch.equal(by_default, known)
    assert (by_default - scene.image_srgb).abs().mean() > 1.2 * (
        square - scene.image_srgb
    ).abs().mean()
    for wrong in (SIZE_PX - 1.0, float("nan"), float("inf")):
        with pytest.raises(
            UserError, match=f"frame_width_px: {wrong} px is no .* give at least {SIZE_PX}"
        ):
            pipe.photograph(scene, 1.8, 85, frame_width_px=wrong)


def test_an_export_from_before_frame_ratio_photographs_as_it_did(run, tmp_path):
    """The small networks' scenes are squares; a full-size SDXL's photographs were not."""
    shutil.copytree(run[1] / "export", tmp_path / "export")
    file = tmp_path / "export" / "text2image.json"
    settings = json.loads(file.read_text())
    assert settings["lens"].pop("frame_ratio") == 1.5
    file.write_text(json.dumps(settings))
    assert Text2ImagePipeline.from_export(tmp_path).lens.frame_ratio == 1.0
    settings["backbone"]["class"] = "PretrainedSdxl"
    file.write_text(json.dumps(settings))
    assert Text2ImageSettings.read(tmp_path / "export").build_lens().frame_ratio == 1.5


def test_a_plane_is_blurred_by_the_thin_lens_s_disc(pipe, scene):
    """A point on a plane behind the focus becomes a disc of the thin lens's diameter, of even
    brightness.
    """
    image = torch.zeros(1, 3, 65, 65)
    image[..., 32, 32] = 1
    depth, focus = torch.full((1, 1, 65, 65), 6.0), torch.tensor([2.0])
    depth[..., 0, 0] = 1.0  # so that 2 lies among its depths
    plane = type(scene)(image, image, depth, torch.tensor([6.0]), torch.tensor([1000.0]))
    assert torch.allclose(
        pipe.photograph(plane, 1.4, 85, output_type="pt")[..., 8:, 8:], image[..., 8:, 8:]
    )
    (disc,) = pipe.photograph(plane, 1.4, 85, focus=focus, output_type="pt")
    pitch_mm = 24 / 65  # a square of a 3:2 frame of 36 mm
    diameter_px = 85**2 / (1.4 * (2000 - 85)) * (6000 - 2000) / 6000 / pitch_mm
    lens = coc_radius_px(ThinLens(85.0, 1.4), depth, 2.0, pixel_pitch_mm(1.5 * 65.0))
    assert 2 * lens[..., 32, 32].abs().item() == pytest.approx(diameter_px, rel=1e-5)
    area_px = 1 / disc[0, 32, 32].item()
    assert area_px == pytest.approx(torch.pi * diameter_px**2 / 4, rel=0.12)


def test_a_sweep_is_its_photographs_one_by_one(pipe, scene):
    sweep = pipe.photograph(scene, [1.8, 4, 22], 85, output_type="pt")
    assert sweep.shape == (2, 3, 3, SIZE_PX, SIZE_PX)
    for place, f_number in enumerate((1.8, 4, 22)):
        assert torch.equal(sweep[:, place], pipe.photograph(scene, f_number, 85, output_type="pt"))
    change = [(sweep[:, i] - scene.image_srgb).abs().mean().item() for i in range(3)]
    assert change[0] > change[1] > change[2]
    images = pipe.photograph(scene, [1.8, 4, 22], 85)
    assert [len(row) for row in images] == [3, 3]
    assert images[1][2].getpixel((5, 9)) == tuple(
        (sweep[1, 2, :, 9, 5] * 255).round().int().tolist()
    )


def test_focus_is_a_depth_of_the_scene_one_for_all_or_one_for_each(pipe, scene):
    depths = scene.depth.flatten(1)
    nearest, farthest = depths.amin(1), depths.amax(1)
    assert (scene.focus_distance >= nearest).all()
    assert (scene.focus_distance <= farthest).all()
    each = pipe.photograph(scene, 1.8, 85, focus=nearest, output_type="pt")
    assert not torch.allclose(
        each, pipe.photograph(scene, 1.8, 85, focus=farthest, output_type="pt"), atol=1e-2
    )
    with pytest.raises(UserError, match=r"focus: .* lies outside the scene's depths"):
        pipe.photograph(scene, 1.8, 50, focus=1.01 * farthest.max().item())


def test_an_image_depends_on_prompt_seed_and_number_alone(pipe):
    four = pipe(
        ["a red ball", "a blue box"], num_images_per_prompt=2, seed=5, output_type="pt"
    ).images
    alone = pipe("a blue box", num_images_per_prompt=2, seed=5, output_type="pt").images
    assert torch.allclose(four[2:], alone, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)
    assert not torch.allclose(alone[0], four[0], atol=1e-3)
    assert not torch.allclose(
        pipe("a blue box", seed=6, output_type="pt").images[0], alone[0], atol=1e-2
    )


def test_any_size_of_whole_levels(pipe):
    scene = pipe("a red ball", height=16, width=48)
    assert scene.images[0].size == (48, 16)
    assert scene.depth.shape == (1, 1, 16, 48)
    assert pipe.photograph(scene, 2.8, 50)[0].size == (48, 16)
    with pytest.raises(ValueError, match="multiples of 4"):
        pipe("a red ball", height=18)


@pytest.mark.parametrize(
    ("camera", "named"),
    [((0, 50), "f_number: 0"), (([2, 200], 50), "f_number: 200"), ((2, 0), "focal_length_mm: 0")],
)
def test_a_camera_that_cannot_be_is_one_sentence(pipe, scene, camera, named):
    with pytest.raises(UserError, match=named):
        pipe.photograph(scene, *camera)


def test_the_baseline_generates_for_a_camera_from_one_noise(baseline):
    wide, narrow = baseline(["a ball"] * 2, [1.8, 22], 50, seed=0, output_type="pt").images
    assert torch.allclose(
        baseline("a ball", 22, 50, seed=0, output_type="pt").images[0], narrow, atol=1e-5
    )
    assert not torch.allclose(wide, narrow, atol=1e-3)
    assert baseline("a ball", 1.8, 50, seed=0).depth is None


def test_cameras_are_given_where_they_condition_the_generator(pipe, baseline):
    with pytest.raises(UserError, match="not EXIF-conditioned"):
        pipe("a ball", 1.8, 50)
    with pytest.raises(UserError, match="give f_number and focal_length_mm"):
        baseline("a ball", 1.8)
    with pytest.raises(UserError, match="3 numbers for 2 images"):
        baseline(["a ball"] * 2, [1.8, 2, 4], 50)
    with pytest.raises(UserError, match="has no lens"):
        baseline.photograph(baseline("a ball", 1.8, 50), 1.8, 50)


def test_missing_parts_are_named(run, tmp_path):
    shutil.copytree(run[1] / "export", tmp_path / "export")
    shutil.rmtree(tmp_path / "export" / "focus_predictor")
    with pytest.raises(UserError, match="focus_predictor: the folder lacks this part"):
        Text2ImagePipeline.from_export(tmp_path)
    with pytest.raises(UserError, match="weights: holds no small depth network"):
        Text2ImagePipeline.from_export(run[1], depth=type(run[0].depth)(weights=str(tmp_path)))
    with pytest.raises(TypeError, match="copy the folder"):
        Text2ImagePipeline.from_export(run[1]).save_pretrained(tmp_path)


def test_an_export_needs_nothing_of_the_run_s_small_base(tmp_path):
    """The base may be gone: a small network's codec and prompts follow from the export."""
    base = SmallSdxl(downscale=2, channels=(32, 32), num_tokens=6).load()
    base.unet.save_pretrained(tmp_path / "base" / "unet")
    base.codec.save_pretrained(tmp_path / "base" / "codec")
    save_scheduler(base.prediction, tmp_path / "base")
    module = tiny_module(
        untrained_depth(tmp_path), backbone=SmallSdxl(weights=str(tmp_path / "base"), num_tokens=6)
    )
    module.export(tmp_path / "export")
    (tmp_path / "base").rename(tmp_path / "gone")
    pipe = Text2ImagePipeline.from_export(tmp_path)
    assert pipe.prompt_encoder.num_tokens == 6
    assert pipe("a ball", seed=0).images[0].size == (SIZE_PX, SIZE_PX)
