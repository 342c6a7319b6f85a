"""Camera Settings as Tokens: tokens against NumPy, what learns, the aperture learnt, and the way
out and back.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from dofsuite.backbones import PromptEmbeds, SmallDepth, SmallSdxl
from dofsuite.backbones.sdxl.adapters import ControlledUnet, DepthControl, UnetLora
from dofsuite.baselines.camera_tokens.export import load
from dofsuite.baselines.camera_tokens.module import CameraTokensModule
from dofsuite.baselines.camera_tokens.settings import CameraTokensSettings
from dofsuite.baselines.camera_tokens.tokens import CameraTokens, inverse_depth_image
from dofsuite.diffusion import draw_noise, x_from_noise
from dofsuite.text2image.camera.exif import Exif
from dofsuite.training.checkpoints.io import AtomicCheckpointIO
from tests.text2image.tiny import SIZE_PX, SIZES, TINY_SDXL, tiny_batch, tiny_data

ALL_THREE = {"adapter": UnetLora(rank=2), "control": DepthControl()}


def tiny(lora=None, control=None, rate=1e-3, **more) -> CameraTokensModule:
    module = CameraTokensModule(
        backbone=TINY_SDXL,
        lora=lora,
        control=control,
        depth=SmallDepth(weights=None),
        optimizer=lambda p: torch.optim.AdamW(p, lr=rate),
        size_px=SIZE_PX,
        **more,
    )
    module.configure_model()
    return module


def steps(module: CameraTokensModule, count: int, batch=None) -> list[float]:
    """Losses of `count` steps on one batch."""
    optimizer, losses = module.configure_optimizers(), []
    for _ in range(count):
        loss = module.denoising(batch or tiny_batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def with_random_weights(tokens: CameraTokens) -> CameraTokens:
    """Give the last layers weights, as training would."""
    torch.manual_seed(1)
    for layers in tokens.settings:
        torch.nn.init.normal_(layers[-1].weight)
    return tokens


def test_a_token_is_two_layers_of_the_stretched_logarithm():
    tokens = with_random_weights(CameraTokens(dim=6, hidden=5))
    computed = tokens(torch.tensor([[2.8, 85.0]]))[0].detach().numpy()
    for i, (value, low, high) in enumerate([(2.8, 0.5, 128.0), (85.0, 1.0, 2000.0)]):
        z = 2 * (math.log(value) - math.log(low)) / (math.log(high) - math.log(low)) - 1
        first, _, last = tokens.settings[i]
        hidden = first.weight.detach().numpy()[:, 0] * z + first.bias.detach().numpy()
        hidden = hidden / (1 + np.exp(-hidden))
        assert np.allclose(computed[i], last.weight.detach().numpy() @ hidden, atol=1e-5)


def test_tokens_are_zero_at_first_and_without_exif_and_stand_behind_the_text():
    exif = Exif(torch.tensor([1.8, math.nan]), torch.tensor([50.0, 50.0]))
    assert not CameraTokens(dim=6)(exif.stacked()).any()
    prompt = PromptEmbeds(torch.randn(2, 3, 6), torch.randn(2, 4))
    longer = with_random_weights(CameraTokens(dim=6)).appended_to(prompt, exif)
    assert torch.equal(longer.tokens[:, :3], prompt.tokens)
    assert torch.equal(longer.pooled, prompt.pooled)
    assert longer.tokens[0, 3:].abs().min() > 0
    assert not longer.tokens[1, 3:].any()


@pytest.mark.parametrize("name", ["all weights", "adapter", "control"])
def test_what_is_named_learns_and_nothing_else(name):
    lora = None if name == "all weights" else UnetLora(rank=2)
    module = tiny(lora=lora, control=ALL_THREE["control"] if name == "control" else None)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    losses = steps(module, 8)
    moved = {
        key for key, value in module.state_dict().items() if not torch.equal(value, before[key])
    }
    assert losses[-1] < losses[0]
    assert any(key.startswith("tokens.") for key in moved)
    assert any(key.startswith("controlnet.") for key in moved) == (name == "control")
    assert not any(key.startswith(("codec.", "depth_model.")) for key in moved)
    of_unet = {key for key in moved if key.startswith("unet.")}
    assert of_unet
    assert all("lora" in key for key in of_unet) == (name != "all weights")


@pytest.mark.slow
def test_what_an_aperture_means_can_be_learnt_from_the_tokens_alone():
    """Flat pictures of one caption, dark ones at f/1.8 and bright ones at f/22."""
    side, count = 16, 8
    module = CameraTokensModule(
        backbone=SmallSdxl(**SIZES | {"num_tokens": 4}),
        lora=None,
        optimizer=lambda p: torch.optim.AdamW(p, lr=2e-3),
        token_size=3.0,
        cond_dropout=0.0,
        size_px=side,
    )
    module.configure_model()
    batch = tiny_batch()._replace(
        image_srgb=torch.tensor([0.1, 0.9] * 4)
        .reshape(count, 1, 1, 1)
        .expand(count, 3, side, side),
        caption=["a wall"] * count,
        f_number=torch.tensor([1.8, 22.0] * 4),
        focal_length_mm=torch.full((count,), 50.0),
        sensor_width_mm=torch.full((count,), torch.nan),
        prompt_tokens=torch.zeros(count, 0, 0),
        prompt_pooled=torch.zeros(count, 0),
    )
    optimizer = module.configure_optimizers()
    for step in range(60):
        loss = module.denoising(
            batch._replace(index=torch.arange(count * step, count * (step + 1)))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noise, t = (
        draw_noise((12, side // 2, side // 2), 0, [0] * count, "test"),
        torch.full((count,), 999),
    )
    with torch.no_grad():
        generated = x_from_noise(
            noise, module.denoiser(batch).noise(noise, t), t, module.alphas_cumprod
        )
        brightness = ((module.codec.decode(generated) + 1) / 2).mean((1, 2, 3))
    assert brightness[1] - brightness[0] > 0.3


def test_a_latent_that_the_data_brings_is_taken_for_the_image_s():
    module, batch = tiny(), tiny_batch()
    latent = module.codec.encode(batch.image_srgb * 2 - 1)
    brought = batch._replace(latent=latent, image_srgb=torch.zeros_like(batch.image_srgb))
    assert torch.equal(module.denoising(brought), module.denoising(batch))


def test_a_size_before_training_is_about_that_of_the_tokens():
    cameras = torch.tensor([[1.8, 24.0], [8.0, 50.0], [22.0, 200.0]])
    sizes = CameraTokens(dim=64, initial_size=2.0)(cameras).square().mean((0, 2)).sqrt()
    assert all(1 < size < 4 for size in sizes.tolist())


def test_a_new_controlnet_changes_nothing_and_one_of_scale_0_never_does():
    module = tiny(control=DepthControl())
    batch = tiny_batch()
    noisy = draw_noise((12, SIZE_PX // 2, SIZE_PX // 2), 0, [0, 1], "test")
    t = torch.tensor([10, 800])
    with torch.no_grad():
        denoiser = module.denoiser(batch)
        assert isinstance(denoiser.unet, ControlledUnet)
        alone = denoiser._replace(unet=module.unet).guided_noise(noisy, t, 3.0)
        assert torch.equal(denoiser.guided_noise(noisy, t, 3.0), alone)
        for parameter in module.controlnet.parameters():
            parameter.add_(0.05)
        assert not torch.allclose(denoiser.guided_noise(noisy, t, 3.0), alone, atol=1e-3)
        denoiser.unet.scale = 0.0
        assert torch.allclose(denoiser.guided_noise(noisy, t, 3.0), alone, atol=1e-6)


def test_each_row_of_a_guided_batch_sees_its_own_depth():
    module = tiny(control=DepthControl())
    with torch.no_grad():
        for parameter in module.controlnet.parameters():
            parameter.add_(0.05)
        pictures = torch.rand(2, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0))
        noisy = draw_noise((12, SIZE_PX // 2, SIZE_PX // 2), 0, [0, 1], "test")
        denoiser = module.denoiser(tiny_batch())._replace(
            unet=ControlledUnet(module.unet, module.controlnet, pictures, 1.0)
        )
        both = denoiser.guided_noise(noisy, torch.tensor([500, 500]), 3.0)
        for i in (0, 1):
            one = PromptEmbeds(*(embeds[i : i + 1] for embeds in denoiser.prompt))
            unet = ControlledUnet(module.unet, module.controlnet, pictures[i : i + 1], 1.0)
            alone = denoiser._replace(unet=unet, prompt=one).guided_noise(
                noisy[i : i + 1], torch.tensor([500]), 3.0
            )
            assert torch.allclose(both[i : i + 1], alone, atol=1e-4)


def test_inverse_depth_image_is_inverse_depth_stretched():
    depth = torch.tensor([[1.0, 2.0], [4.0, math.inf]]).reshape(1, 1, 2, 2)
    assert torch.allclose(
        inverse_depth_image(depth)[0, 0], torch.tensor([[1.0, 1 / 3], [0.0, 0.0]])
    )
    assert not inverse_depth_image(torch.full((1, 1, 2, 2), 5.0)).any()


@pytest.mark.parametrize("name", ["all weights", "adapter and control"])
def test_an_export_predicts_as_the_run_did(name, tmp_path):
    with_lora = name != "all weights"
    module = tiny(
        lora=UnetLora(rank=2) if with_lora else None, control=DepthControl() if with_lora else None
    )
    steps(module, 3)
    module.export(tmp_path)
    back = load(tmp_path)
    batch = tiny_batch()
    noisy, t = (
        draw_noise((12, SIZE_PX // 2, SIZE_PX // 2), 0, [0, 1], "test"),
        torch.tensor([10, 800]),
    )
    unet = back.unet
    if with_lora:
        unet = ControlledUnet(
            unet, back.controlnet, inverse_depth_image(back.depth(batch.image_srgb)), 1.0
        )
    prompt = back.tokens.appended_to(
        back.prompts.encode(batch.caption), Exif(batch.f_number, batch.focal_length_mm)
    )
    with torch.no_grad():
        denoiser = module.denoiser(batch)
        again = denoiser._replace(unet=unet, prompt=prompt, prediction=back.prediction)
        assert torch.allclose(again.noise(noisy, t), denoiser.noise(noisy, t), atol=1e-5)
    assert CameraTokensSettings.read(tmp_path).lora == with_lora


def test_stock_diffusers_reads_the_adapter(tmp_path):
    module = tiny(lora=UnetLora(rank=2))
    steps(module, 3)
    module.export(tmp_path)
    unet = TINY_SDXL.load().unet
    assert isinstance(unet, UNet2DConditionModel)
    state, alphas = StableDiffusionXLPipeline.lora_state_dict(tmp_path, use_safetensors=True)
    StableDiffusionXLPipeline.load_lora_into_unet(state, alphas, unet)
    kept = load_file(tmp_path / "pytorch_lora_weights.safetensors")
    pairs = [(name, value) for name, value in unet.named_parameters() if "lora" in name]
    assert len(kept) == len(pairs) > 0
    for name, value in pairs:
        assert torch.equal(kept["unet." + name.replace(".default_0", "")], value.detach())


def test_a_run_continued_is_the_run(tmp_path):
    import pytorch_lightning as pl

    def train(until: int, resume=None):
        module = tiny(lora=UnetLora(rank=2), control=DepthControl())
        trainer = pl.Trainer(
            max_steps=until,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=tmp_path,
            enable_checkpointing=False,
            plugins=[AtomicCheckpointIO()],
        )
        data = tiny_data()
        trainer.fit(module, datamodule=data, ckpt_path=resume)
        return trainer, {
            name: value for name, value in module.named_parameters() if value.requires_grad
        }

    _, full = train(4)
    half, _ = train(2)
    half.save_checkpoint(tmp_path / "half.ckpt")
    kept = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    assert set(kept) == set(full)
    _, continued = train(4, resume=tmp_path / "half.ckpt")
    assert all(torch.equal(full[name], continued[name]) for name in full)
