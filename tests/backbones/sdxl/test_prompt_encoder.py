"""Prompts: words by their hash, and SDXL's two encoders against
StableDiffusionXLPipeline.encode_prompt.
"""

import hashlib
import subprocess
import sys

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from huggingface_hub import HfApi
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from dofsuite.backbones import SdxlPromptEncoder, WordEncoder
from dofsuite.backbones.small.word_encoder import word_vector, words_of
from dofsuite.errors import UserError

PROMPTS = ["a red disc on the left", "A blue box, in the middle!", ""]


def test_a_word_s_vector_is_its_shake_256():
    digest = hashlib.shake_256(b"word grass").digest(4 * 5)
    levels = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 20, 4)]
    expected = [((n + 0.5) / 2**31 - 1) * 3**0.5 for n in levels]
    assert word_vector("word grass", 5).tolist() == pytest.approx(expected, abs=1e-6)


def test_words_have_unit_variance_and_nothing_in_common():
    first, second = word_vector("red", 20_000), word_vector("blue", 20_000)
    assert first.square().mean().item() == pytest.approx(1, abs=0.03)
    assert first.mean().item() == pytest.approx(0, abs=0.03)
    assert (first * second).mean().item() == pytest.approx(0, abs=0.03)


@pytest.mark.slow
def test_another_python_with_another_hash_seed_says_the_same():
    program = (
        "from dofsuite.backbones import WordEncoder\n"
        "print(WordEncoder().encode(['a red disc'])[0].double().sum().item())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{WordEncoder().encode(['a red disc']).tokens.double().sum().item()}\n"}


def test_case_and_punctuation_do_not_divide_words():
    assert words_of("A blue box, at f/2.8 -- soft-edged.") == [
        "a",
        "blue",
        "box",
        "at",
        "f/2.8",
        "soft-edged",
    ]


def test_tokens_are_the_words_then_zeros():
    tokens = WordEncoder(num_tokens=8).encode(["red disc", ""]).tokens
    assert (tokens[0, :2].abs().amax(-1) > 0).all()
    assert tokens[0, 2:].abs().max() == 0
    assert tokens[1].abs().max() == 0


def test_a_word_hears_the_one_before_it_and_its_place():
    encoder = WordEncoder()
    tokens = encoder.encode(["red disc red disc", "blue disc"]).tokens
    assert not torch.allclose(tokens[0, 1], tokens[1, 1])
    assert not torch.allclose(tokens[0, 1], tokens[0, 3])
    # The parts are orthogonal but for chance: own word 1, word before 1/4, place 1/4, over 3/2.
    alike = torch.nn.functional.cosine_similarity(tokens[0, 1], tokens[0, 3], dim=0)
    assert alike.item() == pytest.approx(1.25 / 1.5, abs=0.25)


def test_the_pooled_vector_knows_the_words_and_not_their_order():
    pooled = WordEncoder().encode(["red disc grass", "grass red disc", "blue disc grass"]).pooled
    assert torch.allclose(pooled[0], pooled[1], atol=1e-6)
    assert not torch.allclose(pooled[0], pooled[2], atol=1e-2)
    assert torch.allclose(pooled.square().mean(1), torch.ones(3), atol=1e-5)


def test_a_prompt_is_the_same_in_every_batch():
    encoder = WordEncoder()
    alone, together = encoder.encode(["red disc"]), encoder.encode(["blue box", "red disc"])
    assert torch.equal(alone.tokens[0], together.tokens[1])
    assert torch.equal(alone.pooled[0], together.pooled[1])


def test_the_empty_conditioning_is_the_empty_prompt_s_zeros():
    encoder = WordEncoder()
    empty, uncond = encoder.encode(["", ""]), encoder.uncond(2)
    assert torch.equal(empty.tokens, uncond.tokens)
    assert torch.equal(empty.pooled, uncond.pooled)
    assert uncond.tokens.abs().max() == 0


def tokenizer() -> CLIPTokenizer:
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *[f"{letter}</w>" for letter in letters]]
    return CLIPTokenizer(
        vocab={word: n for n, word in enumerate(words)}, merges=[], model_max_length=77
    )


@pytest.fixture
def sdxl_folder(tmp_path):
    """Both encoders as small as they can be, saved as SDXL's folder holds them."""
    shape = {
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "vocab_size": 190,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    torch.manual_seed(0)
    first = CLIPTextModel(CLIPTextConfig(hidden_size=16, num_hidden_layers=3, **shape))
    second = CLIPTextModelWithProjection(
        CLIPTextConfig(
            hidden_size=24, num_hidden_layers=4, projection_dim=20, hidden_act="gelu", **shape
        )
    )
    folder = tmp_path / "sdxl"
    first.save_pretrained(folder / "text_encoder")
    second.save_pretrained(folder / "text_encoder_2")
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer().save_pretrained(folder / name)
    return folder, first.eval(), second.eval()


def by_diffusers(first, second):
    """Prompt and empty conditioning as the pipeline makes them; it needs neither VAE nor UNet for
    that.
    """
    pipe = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=None,
        scheduler=None,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    with torch.no_grad():
        return pipe.encode_prompt(PROMPTS, device="cpu", do_classifier_free_guidance=True)


def test_prompts_are_encoded_as_diffusers_pipeline_does(sdxl_folder):
    folder, first, second = sdxl_folder
    tokens, no_tokens, pooled, no_pooled = by_diffusers(first, second)
    embeds = SdxlPromptEncoder(str(folder)).encode(PROMPTS)
    assert embeds.tokens.shape == (3, 77, 40)
    assert embeds.pooled.shape == (3, 20)
    assert torch.allclose(embeds.tokens, tokens, rtol=1e-3, atol=1e-3)
    assert torch.allclose(embeds.pooled, pooled, rtol=1e-3, atol=1e-3)
    uncond = SdxlPromptEncoder(str(folder)).uncond(3)
    assert uncond.tokens.abs().max() == no_tokens.abs().max() == 0
    assert uncond.pooled.abs().max() == no_pooled.abs().max() == 0


def test_other_weights_in_the_same_folder_are_another_model(sdxl_folder):
    folder, first, _ = sdxl_folder
    before = SdxlPromptEncoder(str(folder)).encode(["red"]).tokens
    for parameter in first.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    first.save_pretrained(folder / "text_encoder")
    assert not torch.allclose(
        SdxlPromptEncoder(str(folder)).encode(["red"]).tokens, before, atol=1e-2
    )


def test_twelve_steps_of_new_captions_load_both_encoders_once(sdxl_folder, monkeypatch):
    """Counted at the real loading code and at the hub's client; nothing is written."""
    loads, hub_calls = [], []
    for network in (CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer):
        load = network.from_pretrained
        monkeypatch.setattr(
            network,
            "from_pretrained",
            lambda *args, load=load, **options: loads.append(1) or load(*args, **options),
        )
    ask = HfApi.model_info
    monkeypatch.setattr(
        HfApi, "model_info", lambda *args, **options: hub_calls.append(1) or ask(*args, **options)
    )
    folder = sdxl_folder[0]
    files = {file for file in folder.parent.rglob("*") if file.is_file()}
    encoder = SdxlPromptEncoder(str(folder))
    for step in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            encoder.encode([f"caption {step}, first", f"caption {step}, second"])
    assert len(loads) == 4  # two tokenizers and two encoders
    assert not hub_calls
    assert {file for file in folder.parent.rglob("*") if file.is_file()} == files


def test_embeddings_in_training_equal_those_in_use_bit_for_bit(sdxl_folder):
    """Under autocast and outside, alone and in a batch, with TF32 allowed or not."""
    folder = str(sdxl_folder[0])
    use = SdxlPromptEncoder(folder).encode(PROMPTS)
    with torch.autocast("cpu", torch.bfloat16):
        training = SdxlPromptEncoder(folder).encode(PROMPTS[::-1])
    alone = SdxlPromptEncoder(folder).encode(PROMPTS[1:2])
    assert use.tokens.dtype == training.tokens.dtype == torch.float32
    for embeds in (training.tokens.flip(0), training.pooled.flip(0)):
        assert torch.equal(embeds, use.tokens if embeds.ndim == 3 else use.pooled)
    assert torch.equal(alone.tokens[0], use.tokens[1])
    assert torch.equal(alone.pooled[0], use.pooled[1])


def test_prompts_asked_for_again_at_once_are_encoded_once(sdxl_folder):
    encoder = SdxlPromptEncoder(str(sdxl_folder[0]))
    first = encoder.encode(["red", "blue"])
    calls = []
    for _, part in encoder._parts:
        part.register_forward_hook(lambda *_: calls.append(1))
    again = encoder.encode(["blue", "red", "blue"])
    assert torch.equal(again.tokens, first.tokens[[1, 0, 1]])
    assert torch.equal(again.pooled, first.pooled[[1, 0, 1]])
    assert not calls
    encoder.encode(["green"])
    encoder.encode(["red"])
    assert len(calls) == 4  # two prompts by two encoders


def test_without_network_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    encoder = SdxlPromptEncoder("stabilityai/stable-diffusion-xl-base-1.0")
    assert encoder.uncond(1).tokens.shape == (1, 77, 2048)
    with pytest.raises(UserError, match=r"tokenizer: .*copy in diffusers layout"):
        encoder.encode(["a red disc"])
