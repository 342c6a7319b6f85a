"""CLIP's image embedding: Pillow's pixels to the bit, transformers' embedding, the metric over it,
and mistakes.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
)

from dofsuite.backbones import ClipImages
from dofsuite.backbones.perception.image_processor import (
    FILTERS,
    load_image_processor,
    resized_levels,
)
from dofsuite.data.synthetic.photographs import photograph
from dofsuite.errors import UserError
from dofsuite.metrics import CLIPImageSimilarity, ImageEmbedder

SIDE = 32


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny CLIP's folder, the whole model, and its stock processor."""
    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    shape = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = CLIPTextConfig(vocab_size=20, bos_token_id=0, eos_token_id=1, **shape)
    vision = CLIPVisionConfig(image_size=SIDE, patch_size=8, **shape)
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    model.save_pretrained(folder)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    processor.save_pretrained(folder)
    return folder, model, processor


def levels_of(name, height, width):
    """A photograph's corner as bytes [3, h, w]."""
    return torch.from_numpy(np.asarray(photograph(name))[:height, :width].copy()).permute(2, 0, 1)


def by_pillow(levels, size, number):
    """Bytes [3, h, w] resized by Pillow: the rows first, whatever order its version would
    choose.
    """
    image = Image.fromarray(levels.permute(1, 2, 0).numpy())
    resized = image.resize((size[1], image.height), number).resize((size[1], size[0]), number)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1).float()


@pytest.mark.parametrize("number", FILTERS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((64, 64), (224, 224)),
        ((50, 70), (96, 160)),
        ((300, 400), (224, 299)),
        ((300, 90), (64, 64)),
        ((9, 9), (9, 4)),
    ],
)
def test_images_are_resized_as_pillow_does_to_the_bit(number, before, after):
    levels = levels_of("astronaut", *before)
    assert torch.equal(
        resized_levels(levels[None], after, FILTERS[number])[0], by_pillow(levels, after, number)
    )


def test_noise_is_resized_as_pillow_does_where_the_filter_overshoots():
    levels = (
        torch.randint(0, 2, (3, 40, 60), generator=torch.Generator().manual_seed(0)).mul(255).byte()
    )
    assert torch.equal(
        resized_levels(levels[None], (25, 90), FILTERS[3])[0], by_pillow(levels, (25, 90), 3)
    )


@pytest.mark.parametrize(
    ("height", "width"), [(400, 500), (224, 224), (300, 90), (61, 140), (12, 100)]
)
def test_the_preparation_is_the_stock_processor_s(tmp_path, height, width):
    processor = CLIPImageProcessorPil()  # as openai's: 224 px
    processor.save_pretrained(tmp_path)
    levels = levels_of("coffee", height, width)
    expected = processor(
        levels.numpy(), input_data_format="channels_first", return_tensors="pt"
    ).pixel_values
    ours = load_image_processor(str(tmp_path), None)(levels[None] / 255)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-6)


def test_openai_s_old_file_is_read_as_transformers_reads_it(tmp_path):
    """Sizes as single numbers and the extractor's old name, as openai/clip-vit-base-patch32 has
    them.
    """
    old = {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 224,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    read = load_image_processor(str(tmp_path), None)
    assert (read.size, read.crop_px, read.filter) == (
        {"shortest_edge": 224},
        (224, 224),
        FILTERS[3],
    )


def test_a_crop_larger_than_the_image_is_black_around_it(tmp_path):
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 30}, crop_size={"height": 45, "width": 52}
    )
    processor.save_pretrained(tmp_path)
    levels = levels_of("coffee", 60, 71)
    expected = processor(
        levels.numpy(), input_data_format="channels_first", return_tensors="pt"
    ).pixel_values
    assert torch.allclose(
        load_image_processor(str(tmp_path), None)(levels[None] / 255), expected, rtol=0, atol=1e-6
    )


def test_the_embedding_is_transformers_own(clip):
    folder, model, processor = clip
    images = torch.stack([levels_of(name, 120, 90) for name in ("coffee", "astronaut", "chelsea")])
    inputs = processor(
        [image.numpy() for image in images],
        input_data_format="channels_first",
        return_tensors="pt",
    )
    with torch.no_grad():
        expected = model.get_image_features(**inputs).pooler_output
    embedder = ClipImages(str(folder)).load()
    ours = embedder(images / 255)
    assert ours.shape == (3, 24)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-5)
    assert torch.allclose(embedder(images[:1] / 255), expected[:1], rtol=0, atol=1e-5)


def test_clip_i_names_its_backbone_and_is_the_cosine(clip):
    folder, model, processor = clip
    embedder = ClipImages(str(folder)).load()
    assert isinstance(embedder, ImageEmbedder)
    metric = CLIPImageSimilarity(embedder)
    assert metric.label == "CLIP-I (tiny-clip)"
    a, b = levels_of("coffee", 100, 100), levels_of("chelsea", 100, 120)
    metric.update(a[None] / 255, b[None] / 255)
    with torch.no_grad():
        vectors = [
            model.get_image_features(
                **processor(x.numpy(), input_data_format="channels_first", return_tensors="pt")
            )
            .pooler_output[0]
            .numpy()
            for x in (a, b)
        ]
    expected = np.dot(*vectors) / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    assert metric.compute().item() == pytest.approx(expected, abs=1e-5)
    copy = CLIPImageSimilarity(embedder)
    copy.update(a[None] / 255, a[None] / 255)
    assert copy.compute().item() == 1


def test_weights_are_named_by_id_or_folder_and_revision(tmp_path, monkeypatch):
    assert ClipImages("openai/clip-vit-base-patch32", None).name == "openai/clip-vit-base-patch32"
    assert (
        ClipImages("openai/clip-vit-base-patch32", "abc").name == "openai/clip-vit-base-patch32@abc"
    )
    (tmp_path / "models" / "vit-l").mkdir(parents=True)
    assert ClipImages(f"{tmp_path}/models/vit-l/", None).name == "vit-l"
    monkeypatch.chdir(tmp_path)
    assert ClipImages("models/vit-l", None).name == "vit-l"


def test_mistakes_are_one_sentence(clip, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="the folder lacks this part or it cannot be read"):
        ClipImages(str(tmp_path)).load()
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}')
    with pytest.raises(UserError, match="'segformer', which is no CLIP"):
        ClipImages(str(tmp_path)).load()
    text = tmp_path / "text"
    config = clip[1].config
    CLIPTextModel(config.text_config).save_pretrained(text)
    config.save_pretrained(text)
    clip[2].save_pretrained(text)
    with pytest.raises(
        UserError, match=r"\d+ weights of CLIPVisionModelWithProjection are missing"
    ):
        ClipImages(str(text)).load()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"openai/clip-vit-base-patch32: .*local copy"):
        ClipImages().load()
