"""Tokens are packed as stock FLUX packs them."""

import torch
from diffusers import FluxKontextPipeline

from dofsuite.refocus.tokens import pack, position_ids, unpack


def test_packing_is_the_stock_pipeline_s():
    latent = torch.randn(2, 16, 6, 8)
    assert torch.equal(pack(latent), FluxKontextPipeline._pack_latents(latent, 2, 16, 6, 8))


def test_unpacking_undoes_packing():
    latent = torch.randn(2, 48, 4, 10)
    assert torch.equal(unpack(pack(latent), 4, 10), latent)


def test_noise_ids_are_the_stock_pipeline_s_and_the_reference_s_are_kontext_s():
    stock = FluxKontextPipeline._prepare_latent_image_ids(1, 3, 4, torch.device("cpu"), torch.float32)
    ids = position_ids(6, 8)
    assert torch.equal(ids[:12], stock)
    kontext = stock.clone()
    kontext[:, 0] = 1
    assert torch.equal(ids[12:24], kontext)
    assert ids[24:, 0].unique().tolist() == [2]


def test_shared_ids_are_the_same_for_all_three_streams():
    ids = position_ids(4, 4, "shared")
    assert torch.equal(ids[:4], ids[4:8])
    assert torch.equal(ids[:4], ids[8:])
