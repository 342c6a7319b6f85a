"""SDXL by description: full size on the meta device, small for real, and one sentence when it
cannot be had.
"""

import time

import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel

from dofsuite.backbones import PretrainedSdxl, SmallSdxl, VaeCodec
from dofsuite.backbones.sdxl.prediction_type import read_prediction, save_scheduler
from dofsuite.errors import UserError
from tests.full_size import RandomSdxl

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""Of SDXL's own scheduler."""


@pytest.fixture(scope="module")
def full_size():
    with torch.device("meta"):
        return RandomSdxl().load()


@pytest.fixture(scope="module")
def small():
    return SmallSdxl().load()


def predict(modules, noisy, t, prompts):
    embeds = modules.prompts.encode(prompts)
    time_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(len(noisy), -1)
    added = {"text_embeds": embeds.pooled, "time_ids": time_ids}
    return modules.unet(noisy, t, embeds.tokens, added_cond_kwargs=added).sample


def test_the_unet_has_the_published_2_567_463_684_weights(full_size):
    assert sum(p.numel() for p in full_size.unet.parameters()) == 2_567_463_684


def test_the_vae_has_the_published_83_653_863_weights(full_size):
    assert sum(p.numel() for p in full_size.codec.parameters()) == 83_653_863
    assert (full_size.codec.latent_channels, full_size.codec.downscale) == (4, 8)


def test_the_prompts_have_sdxl_s_shapes(full_size):
    embeds = full_size.prompts.encode(["a red disc", ""])
    assert embeds.tokens.shape == (2, 77, 2048)
    assert embeds.pooled.shape == (2, 1280)
    config = full_size.unet.config
    assert config.cross_attention_dim == 2048
    assert config.projection_class_embeddings_input_dim == 1280 + 6 * config.addition_time_embed_dim


def test_full_size_runs_at_1024_px_on_the_meta_device(full_size):
    noisy = torch.empty(1, 4, 128, 128, device="meta")
    added = {
        "text_embeds": torch.empty(1, 1280, device="meta"),
        "time_ids": torch.empty(1, 6, device="meta"),
    }
    t, tokens = torch.zeros(1, device="meta"), torch.empty(1, 77, 2048, device="meta")
    assert full_size.unet(noisy, t, tokens, added_cond_kwargs=added).sample.shape == (
        1,
        4,
        128,
        128,
    )
    assert full_size.codec.decode(noisy).shape == (1, 3, 1024, 1024)


def test_dtypes_are_those_asked_for():
    with torch.device("meta"):
        modules = RandomSdxl(dtype="bfloat16", vae_dtype="float32").load()
    assert {p.dtype for p in modules.unet.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in modules.codec.parameters()} == {torch.float32}


@pytest.mark.parametrize(("downscale", "channels"), [(4, (64, 64, 96)), (8, (192, 192))])
def test_the_small_network_answers_in_the_shape_of_its_latents(downscale, channels):
    modules = SmallSdxl(downscale=downscale, channels=channels).load()
    latent = modules.codec.encode(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert latent.shape == (2, 3 * downscale**2, 64 // downscale, 64 // downscale)
    assert (
        predict(modules, latent, torch.tensor([3, 900]), ["a red disc", ""]).shape == latent.shape
    )


def test_the_small_network_has_three_and_a_half_million_weights_and_is_quick(small):
    assert sum(p.numel() for p in small.unet.parameters()) == pytest.approx(3.4e6, rel=0.05)
    noisy, t = torch.randn(8, 48, 16, 16), torch.full((8,), 500)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        with torch.no_grad():
            predict(small, noisy, t, ["a red disc on the left in front of grass"] * 8)
        seconds.append(time.perf_counter() - start)
    assert (
        min(seconds) < 1.0
    )  # .05 s on one thread of the machine it was made on; a bound against blunders only


def test_a_prompt_and_a_time_change_what_the_small_network_says(small):
    noisy, t = torch.randn(1, 48, 16, 16), torch.tensor([500])
    first = predict(small, noisy, t, ["a red disc"])
    assert not torch.allclose(predict(small, noisy, t, ["a blue disc"]), first, atol=1e-4)
    assert not torch.allclose(
        predict(small, noisy, torch.tensor([10]), ["a red disc"]), first, atol=1e-4
    )


def test_small_weights_follow_from_the_seed_alone(small):
    torch.manual_seed(1)
    again = SmallSdxl().load().unet.state_dict()
    other = SmallSdxl(seed=1).load().unet.state_dict()
    assert all(torch.equal(again[name], value) for name, value in small.unet.state_dict().items())
    assert not all(torch.equal(other[name], value) for name, value in again.items())


def test_a_level_too_narrow_for_noise_is_rejected():
    with pytest.raises(
        ValueError, match=r"channels: the first is 64; with downscale 8 it must be at least 192"
    ):
        SmallSdxl(downscale=8)


def test_an_exported_folder_is_read_with_its_own_shapes(tmp_path):
    modules = SmallSdxl(
        channels=(64, 96), token_dim=32, pooled_dim=16, whitening=0.3, seed=5
    ).load()
    modules.unet.save_pretrained(tmp_path / "unet")
    modules.codec.save_pretrained(tmp_path / "codec")
    save_scheduler("v_prediction", tmp_path)
    again = SmallSdxl(weights=str(tmp_path)).load()
    noisy, t = torch.randn(1, 48, 16, 16), torch.tensor([500])
    assert torch.allclose(
        predict(again, noisy, t, ["grass"]), predict(modules, noisy, t, ["grass"]), atol=1e-5
    )
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(again.codec.encode(image), modules.codec.encode(image))
    assert not any(p.requires_grad for p in again.unet.parameters())


def test_a_folder_without_a_network_is_named(tmp_path):
    with pytest.raises(UserError, match=r"unet/config\.json is missing"):
        SmallSdxl(weights=str(tmp_path)).load()


def tiny_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    return AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=4, scaling_factor=0.13025, **blocks
    )


def test_a_local_folder_loads_as_the_hub_would(tmp_path, small):
    small.unet.save_pretrained(tmp_path / "unet")
    with pytest.raises(UserError, match=r"vae: the folder lacks this part"):
        PretrainedSdxl(str(tmp_path), vae=None).load()
    tiny_vae().save_pretrained(tmp_path / "vae")
    tiny_vae().save_pretrained(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"scheduler: the folder lacks this part"):
        PretrainedSdxl(str(tmp_path), vae=None).load()
    EulerDiscreteScheduler(**BETAS).save_pretrained(tmp_path / "scheduler")
    modules = PretrainedSdxl(str(tmp_path), vae=None, vae_dtype="float32").load()
    assert isinstance(modules.unet, UNet2DConditionModel)
    assert modules.prediction == "epsilon"
    apart = PretrainedSdxl(
        str(tmp_path), vae=str(tmp_path / "elsewhere"), vae_dtype="float32"
    ).load()
    image = torch.rand(1, 3, 8, 8) * 2 - 1
    assert torch.equal(modules.codec.encode(image), apart.codec.encode(image))


def test_sdxl_s_vae_has_no_shift_and_lets_gradients_through():
    vae = tiny_vae()
    codec = VaeCodec(vae)
    image = (torch.rand(1, 3, 8, 8) * 2 - 1).requires_grad_()
    latent = codec.encode(image)
    assert torch.allclose(latent, vae.encode(image).latent_dist.mean * 0.13025, atol=1e-6)
    codec.decode(latent).square().sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in codec.parameters())


def test_without_network_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"stable-diffusion-xl-base-1.0: unet: .*local copy"):
        PretrainedSdxl().load()


def test_what_a_network_predicts_stands_in_its_scheduler_s_configuration(tmp_path):
    EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction").save_pretrained(
        tmp_path / "scheduler"
    )
    assert read_prediction(str(tmp_path)) == "v_prediction"
    EulerDiscreteScheduler(**BETAS, prediction_type="sample").save_pretrained(
        tmp_path / "scheduler"
    )
    with pytest.raises(UserError, match="prediction_type is sample"):
        read_prediction(str(tmp_path))


@pytest.mark.parametrize(
    "other", [{"rescale_betas_zero_snr": True}, {"beta_end": 0.02}, {"beta_schedule": "linear"}]
)
def test_a_network_of_another_schedule_is_rejected(tmp_path, other):
    EulerDiscreteScheduler(**(BETAS | other)).save_pretrained(tmp_path / "scheduler")
    with pytest.raises(UserError, match=next(iter(other))):
        read_prediction(str(tmp_path))
