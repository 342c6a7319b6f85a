"""What a run leaves: reloaded bit for bit by our pipeline, and used from stock diffusers."""

import json

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import safe_open
from safetensors.torch import load_file

from dofsuite.backbones import SmallFlux
from dofsuite.diffusion import TimestepSampling
from dofsuite.errors import UserError
from dofsuite.refocus import CameraEmbedder, RefocusPipeline
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.export import LORA
from dofsuite.refocus.probe import ProbeQuery
from tests.refocus.tiny import tiny_batches, tiny_module, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    module = tiny_module()
    train(module, tiny_batches(3))
    module.trained_size_px = 32
    folder = tmp_path_factory.mktemp("run")
    module.export(folder / "export")
    return module, folder


@pytest.fixture(scope="module")
def inputs():
    batch = tiny_batches(1)[0]
    return (
        batch.image_srgb,
        batch.disparity,
        torch.tensor([[0.3, 0.6], [0.8, 0.2]]),
        torch.tensor([12.0, 4.0]),
    )


def pipeline_answer(pipe, inputs):
    image, disparity, point, level = inputs
    return pipe(
        image, point, level, disparity, generator=torch.Generator().manual_seed(5), output_type="pt"
    ).images


def module_answer(module, inputs):
    """The module's own image, from the same noise."""
    image, disparity, point, level = inputs
    reference, depth = module.encode(image)[0], module.encode(disparity.expand(-1, 3, -1, -1))[0]
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(5))
    return module.refocus(reference, depth, point, level, noise)


def test_the_pipeline_gives_the_module_s_image_bit_for_bit(trained, inputs):
    module, folder = trained
    refocused = pipeline_answer(RefocusPipeline.from_export(folder), inputs)
    assert torch.equal(refocused, module_answer(module, inputs))


@pytest.mark.parametrize("conditions", ["time_zero", "cached"])
def test_an_export_says_what_its_conditions_are_and_who_runs_it(inputs, tmp_path, conditions):
    module = tiny_module(conditions=conditions)
    train(module, tiny_batches(2))
    module.trained_size_px = 32
    module.export(tmp_path)
    refocused = pipeline_answer(RefocusPipeline.from_export(tmp_path), inputs)
    assert torch.equal(refocused, module_answer(module, inputs))
    assert f"`conditions: {conditions}`" in (tmp_path / "README.md").read_text()
    assert "no stock pipeline can" in (tmp_path / "README.md").read_text()
    # Run with full attention it would be another model
    settings = tmp_path / "refocus.json"
    settings.write_text(settings.read_text().replace(conditions, "full"))
    other = pipeline_answer(RefocusPipeline.from_export(tmp_path), inputs)
    assert (other - refocused).abs().max() > 2e-5


def test_a_pipeline_of_other_settings_follows_the_stock_scheduler_as_the_module_does(
    inputs, tmp_path
):
    module = tiny_module(
        timestep_sampling=TimestepSampling(shift=60.0),
        level_scale=7.0,
        focus_range="unit",
        position_ids="shared",
    )
    train(module, tiny_batches(2))
    module.trained_size_px = 32
    module.export(tmp_path)
    pipe = RefocusPipeline.from_export(tmp_path)
    assert pipe.scheduler.config.shift == 60.0
    refocused = pipeline_answer(pipe, inputs)
    assert torch.allclose(refocused, module_answer(module, inputs), atol=1e-5)
    unshifted = tiny_module(level_scale=7.0, focus_range="unit", position_ids="shared")
    unshifted.load_state_dict(module.state_dict())
    assert not torch.allclose(refocused, module_answer(unshifted, inputs), atol=1e-2)


def test_a_model_trained_without_depth_gets_none_from_probe_and_pipeline(inputs, tmp_path):
    module = tiny_module(depth_dropout=1.0)
    train(module, tiny_batches(1))
    module.trained_size_px = 32
    module.export(tmp_path)
    image, disparity, point, level = inputs
    pipe = RefocusPipeline.from_export(tmp_path)
    options = {"generator": torch.Generator().manual_seed(5), "output_type": "pt"}
    without = pipe(image, point, level, **options).images
    options["generator"].manual_seed(5)
    with pytest.warns(UserWarning, match="trained without depth"):
        assert torch.equal(pipe(image, point, level, disparity, **options).images, without)
    batch = tiny_batches(1)[0]
    query = ProbeQuery(batch.image_srgb, batch.image_srgb, Cameras(point, level, level))
    without_depth = batch._replace(disparity=torch.zeros_like(batch.disparity))
    assert torch.equal(module.predict(batch, query), module.predict(without_depth, query))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_precision_export_is_half_as_large_and_the_rounded_adapter(
    trained, inputs, tmp_path, dtype
):
    module, run = trained
    folder = run / "export"
    module.export_dtype = dtype
    try:
        module.export(tmp_path)
    finally:
        module.export_dtype = "float32"
    full, half = (load_file(each / LORA) for each in (folder, tmp_path))
    assert (tmp_path / LORA).stat().st_size < 0.6 * (folder / LORA).stat().st_size
    for name, weight in full.items():
        assert torch.equal(half[name], weight.to(getattr(torch, dtype)))
    image, disparity, point, level = inputs
    options = {"output_type": "pt"}
    exact, rounded = (
        RefocusPipeline.from_export(each)(
            image, point, level, disparity, generator=torch.Generator().manual_seed(5), **options
        ).images
        for each in (folder, tmp_path)
    )
    assert torch.allclose(rounded, exact, atol=5e-3)
    assert not torch.equal(rounded, exact)


def test_files_are_safetensors_and_plain_json(trained):
    _, folder = trained
    names = {
        str(path.relative_to(folder / "export"))
        for path in (folder / "export").rglob("*")
        if path.is_file()
    }
    assert names == {
        "pytorch_lora_weights.safetensors",
        "camera_embedder/config.json",
        "camera_embedder/diffusion_pytorch_model.safetensors",
        "refocus.json",
        "README.md",
    }
    assert (
        json.loads((folder / "export" / "refocus.json").read_text())["backbone"]["class"]
        == "SmallFlux"
    )


def test_the_same_adapter_is_the_same_bytes_whatever_the_order_of_python_s_sets(trained):
    with safe_open(
        trained[1] / "export" / "pytorch_lora_weights.safetensors", framework="pt"
    ) as file:
        (written,) = [
            json.loads(value) for key, value in file.metadata().items() if "lora_adapter" in key
        ]
    modules = written["transformer.target_modules"]
    assert len(modules) > 3
    assert modules == sorted(modules)


def test_stock_diffusers_runs_the_adapter(trained, inputs):
    """The README's recipe: a stock transformer, the LoRA by its own loader, the camera token as
    `prompt_embeds`.
    """
    module, folder = trained
    image, disparity, point, level = inputs
    transformer = SmallFlux(weights=None, heads=2, single_blocks=1, downscale=2).load().transformer
    transformer.load_lora_adapter(
        folder / "export", prefix="transformer", weight_name="pytorch_lora_weights.safetensors"
    )
    camera = CameraEmbedder.from_pretrained(
        folder / "export" / "camera_embedder", low_cpu_mem_usage=False
    )
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[1.0, 0.5])
    (reference, depth), h = (
        (module.encode(image)[0], module.encode(disparity.expand(-1, 3, -1, -1))[0]),
        8,
    )
    latent = noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(5))

    def pack(x):
        b, c = x.shape[:2]
        return x.view(b, c, h, 2, h, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * h, 4 * c)

    def unpack(x):
        b = len(x)
        return x.view(b, h, h, -1, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(noise.shape)

    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(h), indexing="ij")
    ids = torch.cat(
        [
            torch.stack([torch.full_like(rows, k), rows, columns], -1).reshape(-1, 3)
            for k in range(3)
        ]
    )
    with torch.no_grad():
        for t in scheduler.timesteps:
            velocity = transformer(
                hidden_states=torch.cat([pack(latent), pack(reference), pack(depth)], 1),
                encoder_hidden_states=camera(point, level),
                pooled_projections=camera.pooled_text.expand(2, -1),
                timestep=(t / 1000).expand(2),
                img_ids=ids.float(),
                txt_ids=torch.zeros(1, 3),
            ).sample[:, : h * h]
            latent = scheduler.step(unpack(velocity), t, latent).prev_sample
    ours = module.refocus(reference, depth, point, level, noise)
    stock = ((module.codec.decode(latent) + 1) / 2).clamp(0, 1)
    assert torch.allclose(ours, stock, atol=1e-4)


def test_pipelines_are_saved_and_read_as_diffusers_pipelines(trained, inputs, tmp_path):
    _, folder = trained
    image, disparity, point, level = inputs
    pipe = RefocusPipeline.from_export(folder)
    pipe.transformer.fuse_lora()
    pipe.transformer.unload_lora()
    pipe.save_pretrained(tmp_path)
    again = RefocusPipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    images = [
        p(
            image,
            point,
            level,
            disparity,
            generator=torch.Generator().manual_seed(1),
            output_type="pt",
        ).images
        for p in (pipe, again)
    ]
    assert torch.equal(*images)


def test_any_shape_is_resized_to_whole_tokens(trained):
    pipe = RefocusPipeline.from_export(trained[1])
    assert pipe.working_size(200, 200) == (32, 32)
    height, width = pipe.working_size(100, 300)
    assert height % 4 == width % 4 == 0
    assert height * width == pytest.approx(32**2, rel=0.2)
    assert pipe(torch.rand(1, 3, 100, 300), (0.5, 0.5), 3.0).images[0].size == (width, height)


@pytest.mark.parametrize(("point", "level"), [((1.2, 0.5), 3.0), ((0.5, 0.5), -1.0)])
def test_an_invalid_camera_is_an_error(trained, point, level):
    pipe = RefocusPipeline.from_export(trained[1])
    with pytest.raises(ValueError, match="focus_point must lie"):
        pipe(torch.rand(1, 3, 32, 32), point, level)


def test_a_folder_without_an_adapter_is_named(tmp_path):
    with pytest.raises(UserError, match=r"refocus\.json is missing"):
        RefocusPipeline.from_export(tmp_path)


OLD_KEYS = {"guidance_embed": "guidance", "uses_depth": "sees_depth"}


def with_old_keys(file):
    values = json.loads(file.read_text())
    file.write_text(json.dumps({OLD_KEYS.get(key, key): value for key, value in values.items()}))


def test_earlier_keys_of_an_export_and_of_a_saved_pipeline_are_read(tmp_path):
    module = tiny_module(guidance_embed=2.5, depth_dropout=1.0)
    module.export(tmp_path / "export")
    with_old_keys(tmp_path / "export" / "refocus.json")
    pipe = RefocusPipeline.from_export(tmp_path)
    assert (pipe.config.guidance_embed, pipe.config.uses_depth) == (2.5, False)
    pipe.transformer.fuse_lora()
    pipe.transformer.unload_lora()
    pipe.save_pretrained(tmp_path / "saved")
    with_old_keys(tmp_path / "saved" / "model_index.json")
    pipe = RefocusPipeline.from_pretrained(tmp_path / "saved", low_cpu_mem_usage=False)
    assert (pipe.config.guidance_embed, pipe.config.uses_depth) == (2.5, False)
