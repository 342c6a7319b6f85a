"""Tokens are packed as stock FLUX packs them."""

import pytest
import torch
from diffusers import FluxKontextPipeline

from dofsuite.backbones import Lora, SmallFlux, family_of
from dofsuite.backbones.family import pack, unpack
from dofsuite.backbones.flux.family import Flux1


def test_packing_is_the_stock_pipeline_s():
    latent = torch.randn(2, 16, 6, 8)
    assert torch.equal(pack(latent), FluxKontextPipeline._pack_latents(latent, 2, 16, 6, 8))


def test_unpacking_undoes_packing():
    latent = torch.randn(2, 48, 4, 10)
    assert torch.equal(unpack(pack(latent), 4, 10), latent)


def test_noise_ids_are_the_stock_pipeline_s_and_the_reference_s_are_kontext_s():
    stock = FluxKontextPipeline._prepare_latent_image_ids(
        1, 3, 4, torch.device("cpu"), torch.float32
    )
    ids = Flux1().position_ids(6, 8)
    assert torch.equal(ids[:12], stock)
    kontext = stock.clone()
    kontext[:, 0] = 1
    assert torch.equal(ids[12:24], kontext)
    assert ids[24:, 0].unique().tolist() == [2]


def test_shared_ids_are_the_same_for_all_three_streams():
    ids = Flux1().position_ids(4, 4, "shared")
    assert torch.equal(ids[:4], ids[4:8])
    assert torch.equal(ids[:4], ids[8:])


@pytest.mark.parametrize("autocast", [False, True])
def test_a_bfloat16_base_with_a_float32_adapter_predicts_in_float32(autocast):
    transformer = (
        SmallFlux(weights=None, heads=2, single_blocks=1, downscale=2)
        .load()
        .transformer.to(torch.bfloat16)
    )
    Lora(rank=4).attach(transformer)
    latent, prompt = torch.randn(1, 12, 8, 8), torch.randn(1, 1, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = family_of(transformer).predict_velocity(
            transformer, latent, latent, latent, prompt, torch.rand(1), torch.zeros(16)
        )
    assert output.dtype == torch.float32
    assert output.shape == latent.shape
