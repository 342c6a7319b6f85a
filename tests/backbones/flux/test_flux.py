"""FLUX by description: full size on the meta device, small for real, and one sentence when it
cannot be had.
"""

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from dofsuite.backbones import Lora, PretrainedFlux, SmallFlux
from dofsuite.backbones.flux.family import Flux1
from dofsuite.errors import UserError
from tests.full_size import RandomFlux


@pytest.fixture(scope="module")
def full_size():
    with torch.device("meta"):
        return RandomFlux().load()


def call(transformer, seed=0, text_tokens=1):
    config = transformer.config
    generator = torch.Generator().manual_seed(seed)
    return transformer(
        hidden_states=torch.randn(2, 12, config.in_channels, generator=generator),
        encoder_hidden_states=torch.randn(
            2, text_tokens, config.joint_attention_dim, generator=generator
        ),
        pooled_projections=torch.zeros(2, config.pooled_projection_dim),
        timestep=torch.tensor([0.3, 0.9]),
        img_ids=torch.zeros(12, 3),
        txt_ids=torch.zeros(text_tokens, 3),
        return_dict=False,
    )[0]


def test_flux_1_dev_has_its_11_9_billion_weights(full_size):
    assert sum(p.numel() for p in full_size.transformer.parameters()) == pytest.approx(
        11.901e9, rel=1e-3
    )
    assert sum(p.numel() for p in full_size.codec.parameters()) == pytest.approx(83.8e6, rel=1e-2)
    assert (full_size.codec.latent_channels, full_size.codec.downscale) == (16, 8)


def test_the_adapter_sits_on_the_418_linears_of_the_blocks(full_size):
    names = Lora().target_names(full_size.transformer)
    assert len(names) == 418
    assert sum(name.startswith("single_") for name in names) == 38 * 5
    assert not any("norm" in name for name in names)
    assert len(Lora(targets="all_linear").target_names(full_size.transformer)) > 418


def test_a_new_adapter_leaves_the_output_as_it_is_bit_for_bit():
    transformer = SmallFlux(weights=None).load().transformer
    before = call(transformer)
    Lora(rank=4).attach(transformer)
    assert torch.equal(call(transformer), before)


def test_only_the_adapter_is_trained_and_in_float32():
    transformer = SmallFlux(weights=None).load().transformer.to(torch.bfloat16)
    Lora(rank=4).attach(transformer)
    trained = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())


def test_small_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    first = SmallFlux(weights=None).load().transformer.state_dict()
    torch.manual_seed(2)
    second = SmallFlux(weights=None).load().transformer.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_informed_start_passes_tokens_through():
    transformer = SmallFlux(weights=None).load().transformer
    one, other = torch.randn(2, 5, transformer.config.in_channels)
    way = [transformer.proj_out(transformer.x_embedder(tokens)) for tokens in (one, other)]
    assert torch.allclose(way[0] - way[1], one - other, atol=1e-4)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.8, -0.8), (-0.6, 0.4)])
def test_the_informed_start_looks_where_the_prompt_says(x, y):
    """The prompt token's first attention, over depth tokens of an 8 x 8 grid, has its mean within a
    token of (x, y).
    """
    transformer = SmallFlux(weights=None).load().transformer
    block, width = transformer.transformer_blocks[0], transformer.inner_dim
    prompt = torch.zeros(1, 1, transformer.config.joint_attention_dim)
    prompt[0, 0, :2] = torch.tensor([x, y])
    hidden = torch.nn.functional.layer_norm(transformer.context_embedder(prompt), (width,))
    attention = block.attn
    query = attention.norm_added_q(attention.add_q_proj(hidden).unflatten(-1, (6, 32)))[:, :, 0]
    keys = attention.norm_k(attention.to_k(torch.randn(1, 192, width)).unflatten(-1, (6, 32)))[
        :, :, 0
    ]
    cos, sin = transformer.pos_embed(Flux1().position_ids(16, 16))
    pairs = keys.unflatten(-1, (16, 2))
    turned = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
    weights = torch.softmax((query @ (keys * cos + turned * sin).mT)[0, 0] / 32**0.5, dim=0)
    on_depth = weights[128:].reshape(8, 8)
    assert on_depth.sum() > 0.95
    places = torch.arange(8.0)
    assert (on_depth.sum(0) @ places).item() == pytest.approx(4 * x + 3.5, abs=1)
    assert (on_depth.sum(1) @ places).item() == pytest.approx(4 * y + 3.5, abs=1)


def test_a_local_folder_loads_as_the_hub_would(tmp_path):
    modules = SmallFlux(weights=None).load()
    modules.transformer.save_pretrained(tmp_path / "transformer")
    with pytest.raises(UserError, match=r"vae: the folder lacks this part"):
        PretrainedFlux(str(tmp_path), dtype="float32").load()
    again = FluxTransformer2DModel.from_pretrained(tmp_path, subfolder="transformer")
    assert torch.equal(call(again), call(modules.transformer))


def test_the_empty_prompt_s_tokens_are_the_stock_pipeline_s(tmp_path):
    tokens = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("a", -1.0), ("b", -2.0)]
    tokenizer = T5Tokenizer(vocab=tokens, extra_ids=0)
    torch.manual_seed(0)
    encoder = T5EncoderModel(
        T5Config(vocab_size=5, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    ).eval()
    tokenizer.save_pretrained(tmp_path / "tokenizer_2")
    encoder.save_pretrained(tmp_path / "text_encoder_2")
    ours = PretrainedFlux(str(tmp_path), dtype="float32", empty_prompt_tokens=6)._empty_prompt()
    pipe = FluxPipeline(None, None, None, None, encoder, tokenizer, None)
    stock = pipe._get_t5_prompt_embeds("", 1, 6, dtype=torch.float32)[0]
    torch.testing.assert_close(ours, stock.detach())
    assert ours.std() > 0


def test_without_network_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"black-forest-labs/FLUX.1-dev: transformer: .*local copy"):
        PretrainedFlux().load()


def test_a_folder_without_a_base_is_named(tmp_path):
    with pytest.raises(UserError, match=r"transformer/config\.json"):
        SmallFlux(weights=str(tmp_path)).load()
