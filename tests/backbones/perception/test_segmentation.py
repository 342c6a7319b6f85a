"""Segmenters: the likeliest class is transformers' own output, the next ones are NumPy's; sizes,
and mistakes.
"""

import json

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    CLIPTokenizer,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    OneFormerConfig,
    OneFormerForUniversalSegmentation,
    OneFormerImageProcessorPil,
    OneFormerProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessorPil,
    SwinConfig,
)

from dofsuite.backbones import SemanticSegmenter
from dofsuite.backbones.perception.segmentation import summed_over_masks
from dofsuite.errors import UserError
from dofsuite.metrics import ContentConsistency, Segmenter

CLASSES = 12
SIZE = {"shortest_edge": 96, "longest_edge": 160}
MASKS = {
    "hidden_dim": 32,
    "encoder_feedforward_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "dim_feedforward": 16,
    "num_queries": 10,
    "num_labels": CLASSES,
}


def swin():
    stages = ["stage1", "stage2", "stage3", "stage4"]
    return SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1] * 4,
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=stages,
    )


def opinionated(network):
    """Random weights with large differences between classes and places, so that an argmax has
    something to find.
    """
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1 and any(
                part in name for part in ("class_predictor", "classifier", "class_embed")
            ):
                weight.normal_(0, 2)
            elif weight.ndim > 1:
                nn.init.orthogonal_(weight)
    return network.eval()


def save_mask2former(folder):
    config = Mask2FormerConfig(
        backbone_config=swin(), feature_size=32, mask_feature_size=32, **MASKS
    )
    opinionated(Mask2FormerForUniversalSegmentation(config)).save_pretrained(folder)
    processor = Mask2FormerImageProcessorPil(size=SIZE)
    processor.save_pretrained(folder)
    return processor


def save_segformer(folder):
    shape = {"depths": [1] * 4, "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
    config = SegformerConfig(num_labels=CLASSES, decoder_hidden_size=16, **shape)
    opinionated(SegformerForSemanticSegmentation(config)).save_pretrained(folder)
    processor = SegformerImageProcessorPil(size={"height": 64, "width": 64})
    processor.save_pretrained(folder)
    return processor


def save_oneformer(folder):
    lengths = {"task_seq_len": 33, "max_seq_len": 33, "text_encoder_context_length": 33}
    texts = {"text_encoder_width": 32, "text_encoder_num_layers": 1, "text_encoder_vocab_size": 190}
    parts = {"conv_dim": 32, "mask_dim": 32, "query_dec_layers": 1}
    config = OneFormerConfig(backbone_config=swin(), **parts, **lengths, **texts, **MASKS)
    network = opinionated(OneFormerForUniversalSegmentation(config))
    with torch.no_grad():  # its queries begin alike, so one class would win everywhere
        output = network(
            pixel_values=random_images(96, 96), task_inputs=torch.ones(2, 33, dtype=torch.int64)
        )
        head = network.model.transformer_module.decoder.class_embed
        head.bias -= output.class_queries_logits.mean((0, 1))
    network.save_pretrained(folder)
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *[f"{letter}</w>" for letter in letters]]
    tokenizer = CLIPTokenizer(
        vocab={word: n for n, word in enumerate(words)}, merges=[], model_max_length=33
    )
    tokenizer.save_pretrained(folder)
    names = {str(n): {"isthing": n % 2, "name": f"class {n}"} for n in range(CLASSES)}
    (folder / "classes.json").write_text(json.dumps(names))
    image_processor = OneFormerImageProcessorPil(
        size=SIZE, repo_path=str(folder), class_info_file="classes.json"
    )
    image_processor.save_pretrained(folder)
    # As a copy of a hub's folder would be: the class list is in a repository that cannot be
    # reached.
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"repo_path": "nobody/nothing"}))
    return OneFormerProcessor(image_processor, tokenizer, max_seq_length=33, task_seq_length=33)


SAVE = {"mask2former": save_mask2former, "segformer": save_segformer, "oneformer": save_oneformer}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Each kind's folder, stock processor and our segmenter of all classes."""
    torch.manual_seed(0)
    kinds = {}
    for kind, save in SAVE.items():
        folder = tmp_path_factory.mktemp("models") / kind
        folder.mkdir()
        processor = save(folder)
        kinds[kind] = folder, processor, SemanticSegmenter(str(folder), top_k=CLASSES).load()
    return kinds


def random_images(height, width, count=2):
    """Smooth images of 8-bit values [n, 3, h, w] in [0, 1]."""
    coarse = torch.rand(count, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round() / 255


def stock_inputs(kind, processor, image):
    levels = (image * 255).round().byte().numpy()
    more = {"task_inputs": ["semantic"]} if kind == "oneformer" else {}
    return processor(images=[levels], return_tensors="pt", **more)


@pytest.mark.parametrize("kind", SAVE)
@pytest.mark.parametrize(("height", "width"), [(50, 70), (120, 64), (200, 300)])
def test_scores_and_the_likeliest_class_are_transformers_own(saved, kind, height, width):
    _, processor, segmenter = saved[kind]
    images = random_images(height, width)
    ids = segmenter(images)
    assert ids.shape == (2, CLASSES, height, width)
    assert ids.dtype == torch.int64
    post = getattr(processor, "image_processor", processor).post_process_semantic_segmentation
    for image, likeliest in zip(images, ids[:, 0], strict=True):
        inputs = stock_inputs(kind, processor, image)
        assert torch.allclose(
            segmenter.process(image[None]), inputs["pixel_values"], rtol=0, atol=1e-6
        )
        options = {"task_inputs": inputs["task_inputs"]} if kind == "oneformer" else {}
        with torch.no_grad():
            output = segmenter.network(pixel_values=inputs["pixel_values"], **options)
        stock = post(output, target_sizes=[(height, width)], return_segmentation_scores=True)[0]
        scores = segmenter.scores(image[None])[0]
        assert (
            scores.std(dim=(-2, -1)).max() > 0.01 * scores.abs().max()
        )  # the network tells places apart
        assert torch.allclose(
            scores, stock.segmentation_scores, rtol=0, atol=1e-4 * scores.abs().max().item()
        )
        assert (
            stock.segmentation == likeliest
        ).float().mean() > 0.999  # the last bit of float32 may turn a tie


@pytest.mark.parametrize("kind", SAVE)
def test_the_next_classes_are_those_of_a_full_sort(saved, kind):
    folder, _, segmenter = saved[kind]
    images = random_images(50, 70)
    scores = segmenter.scores(images[:1])[0].numpy()
    order = np.argsort(-scores, axis=0, kind="stable")
    ids = SemanticSegmenter(str(folder), top_k=3).load()(images[:1])[0].numpy()
    assert (ids == order[:3]).mean() > 0.999
    assert (segmenter(images[:1])[0].numpy() == order).mean() > 0.999


def test_class_times_mask_is_a_sum_over_queries():
    rng = np.random.default_rng(0)
    classes, masks = rng.normal(size=(1, 4, 6)), rng.normal(size=(1, 4, 5, 7))
    chances = np.exp(classes) / np.exp(classes).sum(-1, keepdims=True)
    expected = np.zeros((5, 5, 7))
    for q in range(4):
        for c in range(5):  # the sixth is "no object"
            expected[c] += chances[0, q, c] / (1 + np.exp(-masks[0, q]))
    ours = summed_over_masks(torch.from_numpy(classes), torch.from_numpy(masks))[0]
    assert np.allclose(ours.numpy(), expected, atol=1e-5)


def test_an_image_s_classes_do_not_depend_on_its_company(saved):
    segmenter = saved["mask2former"][2]
    images = random_images(50, 70, count=3)
    assert torch.equal(segmenter(images)[1], segmenter(images[1:2])[0])


def test_it_is_the_metric_s_segmenter(saved):
    segmenter = SemanticSegmenter(str(saved["segformer"][0])).load()
    assert isinstance(segmenter, Segmenter)
    with pytest.warns(UserWarning, match="3 of 12 classes"):
        metric = ContentConsistency(segmenter)
    assert "segmenter='segformer'" in repr(metric)
    images = random_images(40, 40, count=2)
    metric.update(torch.stack([images, images]))
    first, second = segmenter(images).numpy()
    share = (first[:, None] == second[None]).any((0, 1)).mean()
    assert metric.compute().item() == pytest.approx(share, abs=1e-6)
    assert metric.chance == pytest.approx(1 - 84 / 220)  # C(9, 3) / C(12, 3)


def test_mistakes_are_one_sentence(saved, tmp_path, monkeypatch):
    folder = saved["segformer"][0]
    with pytest.raises(UserError, match="top_k: 13 of its 12 classes"):
        SemanticSegmenter(str(folder), top_k=13).load()
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="'clip', which is no semantic segmenter"):
        SemanticSegmenter(str(tmp_path)).load()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"facebook/mask2former-.*local copy"):
        SemanticSegmenter().load()


def test_a_network_without_all_its_weights_is_rejected(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = saved["segformer"][0]
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    weights = load_file(folder / "model.safetensors")
    del weights["decode_head.classifier.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError,
        match=r"1 weights .* missing or do not fit, such as decode_head\.classifier\.weight",
    ):
        SemanticSegmenter(str(tmp_path)).load()
