"""Relative depth: transformers' own output, and one sentence where a model predicts meters."""

import pytest
import torch
from transformers import AutoModelForDepthEstimation, DepthAnythingForDepthEstimation

from dofsuite.backbones import RelativeDepth
from dofsuite.backbones.perception.frozen import normalize
from dofsuite.backbones.small.depth import small_config
from dofsuite.errors import UserError


def save(folder, kind):
    """A small Depth Anything of random weights."""
    config = small_config(8, 96, 4, 1)
    config.depth_estimation_type = kind
    torch.manual_seed(0)
    network = DepthAnythingForDepthEstimation(config)
    torch.nn.init.constant_(
        network.head.conv3.bias, 1.0
    )  # else its last ReLU may cut everything off
    network.save_pretrained(folder)
    return str(folder)


def test_the_answer_is_transformers_disparity_at_the_image_s_size(tmp_path):
    path = save(tmp_path, "relative")
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    theirs = AutoModelForDepthEstimation.from_pretrained(path)(normalize(image)).predicted_depth
    output = RelativeDepth(path, size_px=None).load()(image)
    assert output.shape == (2, 1, 32, 48)
    assert torch.allclose(output[:, 0], theirs, atol=1e-6)
    assert RelativeDepth(path, size_px=64).load()(image).shape == output.shape


def test_a_model_in_meters_is_rejected(tmp_path):
    with pytest.raises(
        UserError, match=r"it predicts meters, not disparity; load it as DepthAnything"
    ):
        RelativeDepth(save(tmp_path, "metric")).load()
