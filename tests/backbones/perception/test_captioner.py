"""Captioners: the words of transformers' own chain, prompts and conversations, and one sentence on
mistakes.
"""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import pre_tokenizers
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPImageProcessorPil,
    GPT2Tokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from dofsuite.backbones import Captioner
from dofsuite.data.synthetic.photographs import photograph
from dofsuite.errors import UserError

SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
VISION = {"image_size": 32, "patch_size": 8, **SHAPE}
SIZE = {"height": 32, "width": 32}
TALK = (
    "{% for m in messages %}USER:{% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ME:{% endif %}"
)


def bytes_tokenizer(**special):
    """A word is its bytes."""
    vocab = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    return GPT2Tokenizer(
        vocab=vocab | {"<|endoftext|>": len(vocab)}, merges=[], pad_token="<|endoftext|>", **special
    )


def tiny_blip():
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] [DEC] a cup of red coffee cat on table the grey".split()
    tokenizer = BertTokenizer(
        vocab={word: n for n, word in enumerate(words)},
        bos_token="[DEC]",
        extra_special_tokens=["[DEC]"],
    )
    text = {
        "vocab_size": len(words),
        "encoder_hidden_size": 16,
        "projection_dim": 16,
        "max_position_embeddings": 32,
    }
    tokens = {"bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3}
    model = BlipForConditionalGeneration(
        BlipConfig(text_config={**text, **tokens, **SHAPE}, vision_config=VISION)
    )
    return model, BlipProcessor(BlipImageProcessorPil(size=SIZE), tokenizer)


def tiny_blip2():
    text = {
        "model_type": "opt",
        "vocab_size": 260,
        "hidden_size": 16,
        "word_embed_proj_dim": 16,
        "ffn_dim": 16,
    }
    text |= {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "bos_token_id": 256,
        "eos_token_id": 256,
    }
    former = {"encoder_hidden_size": 16, "vocab_size": 260, **SHAPE}
    config = Blip2Config(
        vision_config=VISION, qformer_config=former, text_config=text, num_query_tokens=4
    )
    processor = Blip2Processor(
        BlipImageProcessorPil(size=SIZE), bytes_tokenizer(), num_query_tokens=4
    )
    config.image_token_index = processor.tokenizer.convert_tokens_to_ids("<image>")
    return Blip2ForConditionalGeneration(config), processor


def tiny_llava():
    tokenizer = bytes_tokenizer(extra_special_tokens={"image_token": "<image>"})
    text = {
        "model_type": "llama",
        "vocab_size": 260,
        "bos_token_id": 256,
        "eos_token_id": 256,
        **SHAPE,
    }
    vision = {"model_type": "clip_vision_model", **VISION}
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=tokenizer.image_token_id
    )
    config.vision_feature_layer = -1
    image = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIZE)
    more = {
        "patch_size": 8,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    return LlavaForConditionalGeneration(config), LlavaProcessor(
        image, tokenizer, chat_template=TALK, **more
    )


BUILD = {"blip": tiny_blip, "blip2": tiny_blip2, "llava": tiny_llava}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Each kind's folder, network and stock processor."""
    kinds = {}
    for kind, build in BUILD.items():
        folder = tmp_path_factory.mktemp("models") / kind
        torch.manual_seed(0)
        model, processor = build()
        with torch.no_grad():  # large weights, so that the images matter to the words
            for weight in model.parameters():
                if weight.ndim > 1:
                    torch.nn.init.orthogonal_(weight.flatten(1), gain=3)
        model.eval().save_pretrained(folder)
        processor.save_pretrained(folder)
        kinds[kind] = folder, model, processor
    return kinds


def photographs():
    """Two photographs, as PIL images and as values [2, 3, 60, 80]."""
    shown = [photograph(name).crop((0, 0, 80, 60)) for name in ("coffee", "chelsea")]
    values = (
        torch.from_numpy(np.stack([np.asarray(image) for image in shown])).permute(0, 3, 1, 2) / 255
    )
    return shown, values


def by_transformers(model, processor, image: Image.Image, text=None):
    words = {} if text is None else {"text": [text]}
    inputs = processor(images=[image], return_tensors="pt", **words)
    with torch.no_grad():
        return inputs, model.generate(**inputs, max_new_tokens=9, do_sample=False)


@pytest.mark.parametrize("kind", ["blip", "blip2"])
@pytest.mark.parametrize("prompt", [None, "a cup"])
def test_captions_are_those_of_transformers_own_chain(saved, kind, prompt):
    folder, model, processor = saved[kind]
    shown, values = photographs()
    captions = Captioner(str(folder), prompt=prompt, longest_tokens=9).load()(values)
    for image, caption in zip(shown, captions, strict=True):
        _, tokens = by_transformers(model, processor, image, prompt)
        expected = processor.batch_decode(tokens, skip_special_tokens=True)[0]
        assert caption == " ".join(expected.split())
        assert "\n" not in caption
    assert captions[0] != captions[1]


def test_a_model_that_is_spoken_to_is_asked_and_its_answer_alone_is_kept(saved):
    folder, model, processor = saved["llava"]
    shown, values = photographs()
    captions = Captioner(str(folder), prompt="What is it?", longest_tokens=9).load()(values)
    for image, caption in zip(shown, captions, strict=True):
        inputs, tokens = by_transformers(model, processor, image, "USER:<image>What is it?ME:")
        new_tokens = tokens[0, inputs["input_ids"].shape[1] :]
        assert caption == " ".join(
            processor.tokenizer.decode(new_tokens, skip_special_tokens=True).split()
        )
        assert "USER" not in caption


def test_a_caption_does_not_depend_on_its_company(saved):
    writer = Captioner(str(saved["blip"][0]), longest_tokens=9).load()
    _, values = photographs()
    assert writer(values)[1:] == writer(values[1:])


def test_mistakes_are_one_sentence(saved, tmp_path, monkeypatch):
    saved["blip"][1].save_pretrained(tmp_path)
    with pytest.raises(UserError, match=str(tmp_path)):
        Captioner(str(tmp_path)).load()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"Salesforce/blip2-opt-2\.7b: .*local copy"):
        Captioner().load()


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_processor_that_needs_torchvision_says_so(tmp_path):
    """As InternVL's does, the paper's captioner."""
    special = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<ctx>",
    }
    bytes_tokenizer(extra_special_tokens=special | {"video_token": "<video>"}).save_pretrained(
        tmp_path
    )
    CLIPImageProcessorPil().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "internvl"}')
    (tmp_path / "processor_config.json").write_text('{"processor_class": "InternVLProcessor"}')
    with pytest.raises(UserError, match="needs torchvision, which is not installed"):
        Captioner(str(tmp_path)).load()
