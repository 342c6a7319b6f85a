"""Codecs against SciPy's DCT, their own inverse, and diffusers' VAE."""

import pytest
import torch
from diffusers import AutoencoderKL
from scipy.fft import dctn

from dofsuite.backbones import Acceleration, SpaceToDepthCodec, VaeCodec
from dofsuite.backbones.codec import opponent_basis


@pytest.fixture
def image():
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("downscale", [2, 4])
@pytest.mark.parametrize("whitening", [0.0, 0.6, 1.0])
def test_decoding_undoes_encoding(image, downscale, whitening):
    codec = SpaceToDepthCodec(downscale, whitening)
    assert (codec.decode(codec.encode(image)) - image).abs().max() < 2e-6


def test_a_latent_is_the_weighted_dct_of_its_square(image):
    codec = SpaceToDepthCodec(4, 0.6)
    square = torch.einsum("kc,chw->khw", opponent_basis().float(), image[1, :, 4:8, 8:12]).numpy()
    expected = torch.from_numpy(dctn(square, axes=(1, 2), norm="ortho")) * codec.gain
    latent = codec.encode(image)[1, :, 1, 2].reshape(3, 4, 4)
    assert torch.allclose(latent, expected, atol=1e-5)


def test_opponent_colors_are_orthonormal():
    basis = opponent_basis()
    assert torch.allclose(basis @ basis.T, torch.eye(3, dtype=torch.float64), atol=1e-12)


def test_whitening_brings_fine_detail_near_the_mean_color():
    plain, even = SpaceToDepthCodec(4, 0.0), SpaceToDepthCodec(4, 0.6)
    assert plain.gain.std() < 1e-6
    assert even.gain[0, 3, 3] / even.gain[0, 0, 0] > 5


def test_it_is_saved_and_read_as_diffusers_saves(tmp_path, image):
    codec = SpaceToDepthCodec(2, 0.3)
    codec.save_pretrained(tmp_path)
    again = SpaceToDepthCodec.from_pretrained(
        tmp_path, use_safetensors=True, low_cpu_mem_usage=False
    )
    assert torch.equal(again.encode(image), codec.encode(image))


def test_the_vae_s_latents_are_shifted_scaled_modes(image):
    torch.manual_seed(0)
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        scaling_factor=0.36,
        shift_factor=0.12,
        **blocks,
    )
    codec = VaeCodec(vae)
    latent = codec.encode(image)
    assert codec.downscale == 2
    assert latent.shape == (2, codec.latent_channels, 8, 12)
    mode = vae.encode(image).latent_dist.mean
    assert torch.allclose(latent, (mode - 0.12) * 0.36, atol=1e-6)
    assert torch.allclose(codec.decode(latent), vae.decode(mode).sample, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in codec.parameters())


def test_a_vae_with_channels_last_has_the_same_numbers_and_gradients(image):
    torch.manual_seed(0)
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 2, "norm_num_groups": 4}
    levels |= {"up_block_types": ("UpDecoderBlock2D",) * 2, "block_out_channels": (8, 16)}
    results = []
    codec = VaeCodec(AutoencoderKL(**levels))
    for acceleration in (Acceleration(), Acceleration(channels_last=True)):
        acceleration.apply_to_codec(codec)
        seen = image.clone().requires_grad_()
        latent = codec.encode(seen)
        decoded = codec.decode(latent)
        decoded.square().sum().backward()
        results.append((latent, decoded, seen.grad))
    assert codec.vae.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    for plain, last in zip(*results, strict=True):
        torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cast_to_half_precision_decoding_still_undoes_encoding(image, dtype):
    latent = SpaceToDepthCodec(4, 0.6).encode(image)
    codec = SpaceToDepthCodec(4, 0.6).to(dtype)
    assert torch.equal(codec.encode(image), latent)
    assert (codec.decode(latent) - image).abs().max() < 2e-6
    assert codec.encode(image.to(dtype)).dtype == torch.float32
