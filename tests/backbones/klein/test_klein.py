"""FLUX.2 klein by description: full size on the meta device, tiny for real."""

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
)
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from dofsuite.backbones import Lora, PretrainedKlein, SmallKlein, family_of
from dofsuite.backbones.family import pack
from dofsuite.backbones.klein.codec import Flux2VaeCodec
from dofsuite.errors import UserError
from tests.full_size import RandomKlein
from tests.real_layouts import save_klein


@pytest.fixture(scope="module")
def full_size():
    with torch.device("meta"):
        return RandomKlein().load()


def test_klein_4b_has_its_3_9_billion_weights_and_published_widths(full_size):
    """7.75 GB in bfloat16, as published."""
    transformer = full_size.transformer
    assert sum(p.numel() for p in transformer.parameters()) == pytest.approx(3.876e9, rel=1e-3)
    assert (transformer.inner_dim, transformer.config.in_channels) == (3072, 128)
    assert (full_size.codec.latent_channels, full_size.codec.downscale) == (32, 8)
    assert full_size.pooled_text.numel() == 0


def test_the_adapter_sits_on_the_100_linears_of_the_blocks(full_size):
    transformer = full_size.transformer
    names = Lora().target_names(transformer)
    assert len(names) == 5 * 12 + 20 * 2
    widths = [transformer.get_submodule(name) for name in names]
    weights = sum(64 * (linear.in_features + linear.out_features) for linear in widths)
    assert weights == pytest.approx(96.3e6, rel=1e-3)
    blocks = [name for name, _ in transformer.named_modules() if "blocks." in name]
    linears = {n for n in blocks if isinstance(transformer.get_submodule(n), torch.nn.Linear)}
    assert set(names) == linears


def test_latents_are_the_stock_pipeline_s():
    torch.manual_seed(0)
    vae = AutoencoderKLFlux2(block_out_channels=(8, 8, 16, 16), norm_num_groups=4).eval()
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.1, 2)
    pipe = Flux2KleinPipeline(None, vae, None, None, None)
    image = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        stock = pipe._encode_vae_image(image, None)
        latent = Flux2VaeCodec(vae).encode(image)
    assert torch.equal(pack(latent), pipe._pack_latents(stock))
    codec = Flux2VaeCodec(vae)
    torch.testing.assert_close(codec.denormalized(codec.normalized(latent)), latent)


def test_ids_are_the_stock_pipeline_s():
    family = family_of(SmallKlein().load().transformer)
    ids = family.position_ids(6, 8)
    noise = Flux2KleinPipeline._prepare_latent_ids(torch.zeros(1, 4, 3, 4))[0]
    references = Flux2KleinPipeline._prepare_image_ids([torch.zeros(1, 4, 3, 4)] * 2)[0]
    assert torch.equal(ids, torch.cat([noise, references]).float())
    stock = Flux2KleinPipeline._prepare_text_ids(torch.zeros(1, 5, 4))[0]
    assert torch.equal(family.text_ids(5, torch.device("cpu")), stock.float())


@pytest.mark.parametrize(("tokens", "steps"), [(1024, 50), (1024, 4), (8192, 28)])
def test_the_shift_gives_the_stock_pipeline_s_schedule(tokens, steps):
    sigmas = np.linspace(1.0, 1 / steps, steps)
    stock = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    stock.set_timesteps(sigmas=sigmas, mu=compute_empirical_mu(tokens, steps))
    family = family_of(SmallKlein().load().transformer)
    ours = FlowMatchEulerDiscreteScheduler(shift=family.time_shift(tokens, steps))
    ours.set_timesteps(sigmas=sigmas)
    torch.testing.assert_close(ours.sigmas, stock.sigmas)


def test_a_local_folder_loads_as_the_hub_would(tmp_path):
    save_klein(tmp_path)
    modules = PretrainedKlein(str(tmp_path)).load()
    assert modules.transformer.dtype == modules.codec.vae.dtype == torch.bfloat16
    assert not any(p.requires_grad for p in modules.transformer.parameters())
    with pytest.raises(UserError, match=r"transformer: the folder lacks this part"):
        PretrainedKlein(str(tmp_path / "vae")).load()
    assert torch.get_default_dtype() == torch.float32
