"""The shipped method files, what a wrong one says, prompts, and sampling against diffusers and a
closed form.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import DDIMScheduler

from dofsuite.backbones import SmallSaliency, SmallSdxl
from dofsuite.baselines.ddim import ddim, trailing_times
from dofsuite.diffusion import add_noise, draw_noise, scaled_linear_alphas_cumprod
from dofsuite.errors import UserError
from dofsuite.evaluate import parser_of
from dofsuite.evaluation.text2image.generators import SampledSdxl, SampleRequest
from dofsuite.evaluation.text2image.methods import (
    Method,
    PostHocLens,
    read_method,
    with_former_names,
)
from dofsuite.evaluation.text2image.prompts import read_prompts
from dofsuite.evaluation.text2image.trained import CameraTokensGenerator, ExportedGenerator
from dofsuite.experiment.command import read_command
from dofsuite.experiment.experiment import read_experiment
from dofsuite.optics import render_bokeh
from dofsuite.text2image import Lens
from dofsuite.text2image.camera.exif import Exif
from dofsuite.text2image.dmd2.sampling import FEW_STEPS
from tests.evaluation.text2image.tiny_text2image import BASELINES, ROOT
from tests.text2image.tiny import SIZES
from tests.text2image.tiny_run import SIZE_PX, untrained_depth

ALPHAS = scaled_linear_alphas_cumprod()
CPU = torch.device("cpu")
SMALL = sorted((ROOT / "experiments" / "baselines" / "small").glob("*.yaml"))


# --- files ---


@pytest.mark.parametrize("file", BASELINES, ids=lambda file: file.stem)
def test_a_shipped_method_parses_and_says_how_to_run_it(file):
    method, plain = read_method(file)
    assert method.name == plain["name"]
    text = file.read_text()
    assert text.startswith("# ")
    assert "python -m dofsuite.evaluate text2image experiments/baselines/*.yaml" in text
    if isinstance(method.generator, SampledSdxl):
        assert method.generator.backbone.path == "stabilityai/stable-diffusion-xl-base-1.0"
        assert method.generator.size_px == 1024
    else:  # the run is that of a shipped experiment
        run = method.generator.model.removeprefix("runs/")
        assert (ROOT / "experiments" / f"{run}.yaml").is_file()
        assert f"python -m dofsuite.fit experiments/{run}.yaml" in text


@pytest.mark.parametrize("file", SMALL, ids=lambda file: file.stem)
def test_a_small_row_names_a_run_that_its_own_words_train(file):
    method, _ = read_method(file)
    train, evaluate = (
        file.read_text().split(f"python -m dofsuite.{verb} ")[1].split("\n")[0].split()
        for verb in ("fit", "evaluate")
    )
    assert read_experiment(read_command(train)).folder == Path(method.generator.model)
    assert parser_of(evaluate[0]).parse_args(evaluate[1:]).prompts == "synthetic:prompts"


def test_the_rows_are_the_supplement_s():
    methods = {file.stem: read_method(file)[0] for file in BASELINES}
    kinds = {
        stem: (type(m.generator), m.lens and m.lens.lens.method) for stem, m in methods.items()
    }
    assert kinds == {
        "2_sdxl_words": (SampledSdxl, None),
        "3_sdxl_prose": (SampledSdxl, None),
        "4_distilled_exif": (ExportedGenerator, None),
        "5_camera_tokens": (CameraTokensGenerator, None),
        "5_camera_tokens_depth": (CameraTokensGenerator, None),
        "6_sdxl_taf": (SampledSdxl, "gather"),
        "8_deep_taf": (ExportedGenerator, "gather"),
        "8_sdxl_fixed_occlusion": (SampledSdxl, "occlusion"),
        "ours": (ExportedGenerator, None),
    }
    assert methods["8_sdxl_fixed_occlusion"].lens.scene_f_number == 16
    assert methods["6_sdxl_taf"].lens.scene_f_number is None
    assert methods["8_deep_taf"].generator.all_in_focus


def merged(old, new):
    """`new` over `old`, mapping by mapping."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": {"init_args": {"stepps": 4}}}, "generator: Option 'stepps' is not accepted"),
        ({"generator": {"init_args": {"steps": 0}}}, "steps must lie between 1 and 1000, not 0"),
        ({"generator": {"init_args": {"guidance_scale": "much"}}}, "generator.guidance_scale: "),
        (
            {"generator": {"init_args": {"prompt_template": "{camera}"}}},
            "prompt_template: '{camera}' has a field other than prompt",
        ),
        (
            {"generator": {"class_path": "os.system"}},
            "generator: Importing 'os.system' is not allowed",
        ),
        ({"lens": {"lens": {"method": "pinhole"}}}, "lens.method"),
        ({"lens": {"lens": {"gamma": -1}}}, "gamma must be positive or srgb"),
        ({"lens": {"scale_mm": 0}}, "scale_mm must be positive"),
        ({"lense": {}}, "lense: a method has no such key"),
        ({"lense": {"scale_mm": 2.0}}, "lense: a method has no such key"),
        ({"name": None}, "a method needs a name and a generator"),
        ({"generator": {"init_args": {"words": "a"}}}, "words is called prompt_template now"),
        (
            {"generator": {"class_path": "dofsuite.evaluation.text2image_trained.Any"}},
            "text2image_trained is called dofsuite.evaluation.text2image.trained now",
        ),
    ],
)
def test_a_wrong_method_file_is_one_sentence(change, message, tmp_path):
    content = yaml.safe_load((ROOT / "experiments" / "baselines" / "6_sdxl_taf.yaml").read_text())
    for key, value in change.items():
        if value is None:
            del content[key]
        else:
            content[key] = merged(content[key], value) if key in content else value
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as error:
        read_method(file)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_stored_settings_keep_their_names():
    """Those that an evaluation of an earlier version wrote, so that it goes on."""
    file = ROOT / "experiments" / "baselines" / "2_sdxl_words.yaml"
    generator = with_former_names(read_method(file)[1])["generator"]
    assert generator["class_path"] == "dofsuite.evaluation.text2image_generators.SampledSdxl"
    options = generator["init_args"]
    assert options.pop("backbone")["class_path"] == "dofsuite.backbones.PretrainedSdxl"
    assert options == {
        "words": "{prompt}, {focal_length_mm:g}mm, f/{f_number:g}",
        "steps": 50,
        "guidance": 5.0,
        "size_px": 1024,
        "at_once": 4,
    }


def test_what_is_no_method_file_is_one_sentence(tmp_path):
    (tmp_path / "list.yaml").write_text("[1, 2]")
    (tmp_path / "broken.yaml").write_text("a: [")
    for name, message in (
        ("list", "needs a name"),
        ("broken", "it is no YAML"),
        ("absent", "it cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            read_method(tmp_path / f"{name}.yaml")


# --- prompts ---


def test_prompts_of_a_file_and_of_a_set(tmp_path):
    (tmp_path / "p.txt").write_text("# a comment\nA cat, sitting\n\n  a dog \n")
    prompts = read_prompts(str(tmp_path / "p.txt"))
    assert [tuple(prompt) for prompt in prompts] == [
        ("0000", "A cat, sitting", 50.0),
        ("0001", "a dog", 50.0),
    ]
    assert read_prompts(str(tmp_path / "p.txt"), 1, 85.0)[0].focal_length_mm == 85
    of_set = read_prompts("synthetic:prompts")
    assert len(of_set) == 25
    assert of_set[3].key == "0003-prompts000003"
    assert all(
        prompt.text.startswith("a ") and prompt.focal_length_mm != 50 for prompt in of_set[:3]
    )
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(UserError, match="no prompt in it"):
        read_prompts(str(tmp_path / "empty.txt"))


# --- sampling ---


def test_four_trailing_times_are_the_few_steps_and_times_fall_from_the_last():
    assert trailing_times(4) == FEW_STEPS
    for steps in (1, 7, 50, 1000):
        times = trailing_times(steps)
        assert times[0] == 999
        assert len(set(times)) == steps
        assert list(times) == sorted(times, reverse=True)
        assert min(times) >= 0


@pytest.mark.parametrize("steps", [1, 4, 8, 50])
def test_ddim_is_diffusers_s(steps):
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    noise = draw_noise((4, 8, 8), 0, [0, 1], "test")
    theirs = noise.clone()

    def generator(noisy, t):
        return torch.tanh(noisy + t[:, None, None, None] / 1000)

    for t in scheduler.timesteps:
        theirs = scheduler.step(generator(theirs, t.expand(2)), t, theirs, eta=0.0).prev_sample
    assert torch.allclose(ddim(generator, noise, ALPHAS, steps), theirs, atol=1e-4, rtol=1e-4)


def test_ddim_maps_noise_to_a_gaussian_in_closed_form():
    """Of data N(mean, std^2) the best prediction is known; DDIM then is the map x = mean + std
    noise.
    """
    mean, std = 0.3, 0.5

    def best(noisy, t):
        a = ALPHAS[t].float()[:, None, None, None]
        return (1 - a).sqrt() * (noisy - a.sqrt() * mean) / (a * std**2 + 1 - a)

    noise = draw_noise((1, 16, 16), 0, [0], "test")
    generated = ddim(best, noise, ALPHAS, 500)
    assert torch.allclose(generated, mean + std * noise, atol=0.02)
    assert (ddim(best, noise, ALPHAS, 10) - mean - std * noise).abs().max() > (
        generated - mean - std * noise
    ).abs().max()


def request(*f_numbers: float) -> SampleRequest:
    return SampleRequest("a red disc", Exif.checked(list(f_numbers), 50.0), seed=3)


def tiny_sdxl(**more) -> SampledSdxl:
    return SampledSdxl(SmallSdxl(**SIZES), **{"steps": 4, "size_px": SIZE_PX, **more})


def test_sdxl_has_the_camera_from_its_prompt_alone():
    assert tiny_sdxl().text("a cat", 1.8, 50.0) == "a cat, 50mm, f/1.8"
    prose = tiny_sdxl(prompt_template="{prompt}, {depth_of_field}")
    assert prose.text("a cat", 2.8, 50.0) == "a cat, shallow depth of field, blurred background"
    standard = (1.8, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0)
    assert len({prose.text("a cat", number, 50.0) for number in standard}) == 5
    sample = tiny_sdxl().load(CPU)
    first, second = sample(request(1.8, 22))
    assert not torch.equal(first, second)
    assert torch.allclose(first, sample(request(1.8))[0], atol=1e-5)
    without_camera = tiny_sdxl(prompt_template="{prompt}").load(CPU)(request(1.8, 22))
    assert torch.equal(*without_camera)


def test_images_start_from_one_noise_of_the_seed_and_do_not_depend_on_their_company():
    sample = tiny_sdxl(prompt_template="{prompt}").load(CPU)
    one = sample(request(4))
    assert torch.equal(one, sample(request(4)))
    assert not torch.equal(one, sample(request(4)._replace(seed=4)))
    one_by_one = tiny_sdxl(batch_size=1).load(CPU)(request(1.8, 4, 22))
    assert torch.allclose(
        tiny_sdxl(batch_size=3).load(CPU)(request(1.8, 4, 22)), one_by_one, atol=1e-5
    )


def test_guidance_one_is_the_network_alone_step_by_step():
    """The sampler by hand, in a loop over the network's own calls."""
    network = SmallSdxl(**SIZES).load()
    embeds = network.prompts.encode(["a red disc"])
    ids = torch.tensor([[SIZE_PX, SIZE_PX, 0, 0, SIZE_PX, SIZE_PX]])
    noisy = draw_noise((12, SIZE_PX // 2, SIZE_PX // 2), 3, [0], "pipeline/0")
    with torch.no_grad():
        for t, after in ((999, 749), (749, 499), (499, 249), (249, None)):
            conditions = {"text_embeds": embeds.pooled, "time_ids": ids}
            v = network.unet(
                noisy, t, encoder_hidden_states=embeds.tokens, added_cond_kwargs=conditions
            ).sample
            a = ALPHAS[t].float()
            x, noise = a.sqrt() * noisy - (1 - a).sqrt() * v, (1 - a).sqrt() * noisy + a.sqrt() * v
            noisy = x if after is None else add_noise(x, noise, torch.tensor([after]), ALPHAS)
        by_hand = ((network.codec.decode(noisy) + 1) / 2).clamp(0, 1)
    generated = tiny_sdxl(prompt_template="{prompt}", guidance_scale=1.0).load(CPU)(request(4))
    assert torch.allclose(generated, by_hand, atol=1e-4)


# --- a lens after a generator ---


class EvenSaliency(SmallSaliency):
    """Everything is salient alike: the focus is the mean depth."""

    def load(self):
        class Even(torch.nn.Module):
            def forward(self, image):
                return torch.ones_like(image[:, :1])

        return Even()


def test_an_added_lens_is_the_thin_lens_on_the_scene(tmp_path):
    depth = untrained_depth(tmp_path / "depth")
    added = PostHocLens(depth, EvenSaliency(), Lens(method="exact"), scene_f_number=16.0)
    scene = torch.rand(1, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0))
    cameras = Exif.checked([5.6, 16.0], 200.0)
    photographs = added.load(CPU)(scene, cameras)
    z = depth.load()(scene).double()
    focus = z.mean()
    for image, f_number in zip(photographs, (5.6, 16.0), strict=True):
        coc_mm = (z - focus) / z * 200**2 / (f_number * (1000 * focus - 200))
        radius_px = (
            (coc_mm / 2 * SIZE_PX / 24).clamp(-SIZE_PX / 4, SIZE_PX / 4).float()
        )  # the square is the center of a 3:2 frame
        assert radius_px.abs().max() < SIZE_PX / 8  # below the knee of the lens's bound
        assert torch.allclose(image, render_bokeh(scene, -radius_px, method="exact")[0], atol=1e-4)


def test_a_fixed_scene_has_one_camera_and_a_varying_one_each(tmp_path):
    depth = untrained_depth(tmp_path / "depth")
    cameras = Exif.checked([1.8, 8.0], 85.0)
    fixed = PostHocLens(depth, EvenSaliency(), scene_f_number=16.0).scene_cameras(cameras)
    assert [numbers.tolist() for numbers in fixed] == [[16.0], [85.0]]
    assert PostHocLens(depth, EvenSaliency()).scene_cameras(cameras) is cameras
    one_scene = Method(
        "fixed", tiny_sdxl(), PostHocLens(depth, EvenSaliency(), scene_f_number=16.0)
    ).load(CPU)
    scenes = Method("varying", tiny_sdxl(), PostHocLens(depth, EvenSaliency())).load(CPU)
    narrow = SampleRequest("a red disc", Exif.checked([64.0, 128.0], 24.0), seed=0)
    assert torch.allclose(*one_scene(narrow), atol=1e-6)  # nothing but the lens could differ
    assert not torch.allclose(*scenes(narrow), atol=1e-3)


def test_invalid_numbers_are_errors():
    for wrong in ({"steps": 1001}, {"guidance_scale": math.nan}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            tiny_sdxl(**wrong)
