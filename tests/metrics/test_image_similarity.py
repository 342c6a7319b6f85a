import pytest
import torch
from scipy.spatial.distance import cosine

from dofsuite.metrics import CLIPImageSimilarity, clip_image_similarity
from tests.metrics.every_metric import quadrants


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(5, 3, 9, 8, generator=generator), torch.rand(
        5, 3, 12, 16, generator=generator
    )


@pytest.fixture(scope="module")
def clip():
    """transformers' CLIP, as it is but tiny and untrained."""
    from transformers import CLIPConfig, CLIPModel

    tiny = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        text_config=tiny | {"vocab_size": 20},
        vision_config=tiny | {"image_size": 8, "patch_size": 4},
        projection_dim=12,
    )
    torch.manual_seed(0)
    return CLIPModel(config).eval()


def test_it_is_the_mean_of_scipy_s_cosines(images):
    pairs = zip(*(quadrants(image).double().numpy() for image in images), strict=True)
    expected = sum(1 - cosine(*pair) for pair in pairs) / 5
    assert clip_image_similarity(*images, quadrants).item() == pytest.approx(expected, rel=1e-9)


def test_a_copy_scores_exactly_1_in_a_network_too(images, clip):
    metric = CLIPImageSimilarity(lambda x: clip.vision_model(x[..., :8, :8]).pooler_output)
    for image in images:
        metric.update(image, image.clone())
        assert clip_image_similarity(image, image, quadrants) == 1
    assert metric.compute() == 1


def test_of_transformers_clip_it_is_the_cosine_of_the_projected_embeddings(images, clip):
    preds, reference = (image[..., :8, :8] for image in images)
    metric = CLIPImageSimilarity(
        lambda x: clip.get_image_features(pixel_values=x).pooler_output, "tiny CLIP"
    )
    metric.update(preds, reference)
    with torch.no_grad():
        projected = [
            clip.visual_projection(clip.vision_model(x).pooler_output) for x in (preds, reference)
        ]
    expected = torch.cosine_similarity(*projected).mean().item()
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)
    assert metric.label == "CLIP-I (tiny CLIP)"
    assert "backbone='tiny CLIP'" in repr(metric)


def test_a_transformers_output_as_it_comes_is_rejected_with_the_mend(images, clip):
    metric = CLIPImageSimilarity(lambda x: clip.get_image_features(pixel_values=x[..., :8, :8]))
    with pytest.raises(
        ValueError, match=r"must return a tensor, not BaseModelOutputWithPooling.*pooler_output"
    ):
        metric.update(*images)


def test_the_backbone_is_the_embedder_s_own_name_or_that_of_its_function_or_class(clip):
    named = torch.nn.Flatten()
    named.name = "pixels"
    names = [
        CLIPImageSimilarity(embedder).backbone
        for embedder in (named, torch.nn.Flatten(), quadrants)
    ]
    assert names == ["pixels", "Flatten", "quadrants"]


def test_an_embedding_of_zeros_counts_as_0():
    black = torch.zeros(1, 3, 4, 4)
    assert clip_image_similarity(black, black, lambda x: x.flatten(1)) == 0


def test_it_is_differentiable_in_the_images(images):
    preds = images[0].double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: clip_image_similarity(x, images[1].double(), quadrants), preds
    )


def test_mistakes_are_rejected_by_name(images):
    preds, reference = images
    with pytest.raises(ValueError, match=r"preds must be \[batch, 3, h, w\]"):
        CLIPImageSimilarity(quadrants).update(preds[0], reference)
    with pytest.raises(ValueError, match=r"reference must be \[batch, 3, h, w\]"):
        CLIPImageSimilarity(quadrants).update(preds, reference[:, :1])
    with pytest.raises(ValueError, match="preds and reference must be pairs, not 5 and 4"):
        CLIPImageSimilarity(quadrants).update(preds, reference[:4])
    with pytest.raises(ValueError, match=r"embedder must return \[5, d\]"):
        CLIPImageSimilarity(lambda x: x).update(preds, reference)
