"""Depth models: published sizes, transformers' own processing, meters, gradients, and one sentence
on mistakes.
"""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForDepthEstimation,
    DepthAnythingForDepthEstimation,
    DPTImageProcessorPil,
)

from dofsuite.backbones import DepthAnything, Metric3D, SmallDepth
from dofsuite.backbones.perception.frozen import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Frozen,
    fitted_size,
    normalize,
    resized,
)
from dofsuite.backbones.perception.metric3d import Metric3DDepth
from dofsuite.backbones.small.depth import save_small, small_config
from dofsuite.errors import UserError
from tests.full_size import RandomDepth


@pytest.fixture
def image():
    """A smooth image [1, 3, 90, 120] with a hard edge in it."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 90), torch.linspace(0, 1, 120), indexing="ij")
    smooth = torch.stack([x, y, (x + y) / 2]) * 0.6 + 0.2
    return torch.where((x > 0.5) & (y > 0.3), 1 - smooth, smooth)[None]


@pytest.mark.parametrize(("size", "millions"), [("small", 24.8), ("base", 97.5), ("large", 335.3)])
def test_depth_anything_has_its_published_sizes(size, millions):
    with torch.device("meta"):
        network = RandomDepth(size).load()
        assert network(torch.empty(1, 3, 1024, 768)).shape == (1, 1, 1024, 768)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("height", "width"), [(480, 640), (1024, 1024), (1080, 1920), (90, 120), (700, 300)]
)
def test_an_image_is_seen_at_the_size_and_values_of_transformers_own_processor(height, width):
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 12, 12), dtype=np.float32))
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    pixels = (image[0] * 255).round().to(torch.uint8)
    processor = DPTImageProcessorPil(
        size={"height": 518, "width": 518},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
    )
    expected = processor(
        pixels.numpy(), input_data_format="channels_first", return_tensors="pt"
    ).pixel_values
    size = fitted_size(height, width, 518, 14)
    assert size == tuple(expected.shape[-2:])
    pixels_in = normalize(resized(pixels[None] / 255, size, "bicubic"))
    assert (
        pixels_in - expected
    ).abs().mean() < 0.01  # two gray levels: Pillow rounds to bytes between its two passes


def test_without_a_size_an_image_keeps_its_own_in_whole_patches():
    assert fitted_size(1024, 1024, None, 14) == (1022, 1022)
    assert fitted_size(64, 64, None, 8) == (64, 64)
    assert fitted_size(3, 50, None, 8) == (8, 48)


def test_what_comes_out_is_transformers_depth_at_the_image_s_size(image):
    network = SmallDepth(weights=None).load()
    square = image[..., :64, :64]
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected = network.network(pixel_values=(square - mean) / std).predicted_depth
    assert torch.allclose(network(square)[:, 0], expected, atol=1e-6)
    other = network(image)
    assert other.shape == (1, 1, 90, 120)
    assert other.dtype == torch.float32
    assert 0 < other.min() <= other.max() < 12


def test_gradients_reach_the_image_and_no_weight(image):
    network = SmallDepth(weights=None).load()
    image.requires_grad_()
    network(image).sum().backward()
    assert image.grad.abs().sum() > 0
    assert torch.isfinite(image.grad).all()
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_the_gradient_to_the_image_is_the_function_s():
    network = SmallDepth(weights=None, width=96, seed=3).load().double()
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(image)
    network(image).sum().backward()
    with torch.no_grad():
        steps = [network(image + sign * 1e-5 * direction).sum() for sign in (1, -1)]
    slope = ((steps[0] - steps[1]) / 2e-5).item()
    assert (image.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4)


def test_a_frozen_network_stays_in_evaluation_mode():
    network = Frozen(nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3)))
    around = nn.ModuleList([network]).train()
    assert around.training
    assert not any(part.training for part in network.modules())


def test_small_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    first = SmallDepth(weights=None).load().state_dict()
    torch.manual_seed(2)
    again, other = (
        SmallDepth(weights=None).load().state_dict(),
        SmallDepth(weights=None, seed=1).load().state_dict(),
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert sum(value.numel() for value in first.values()) == pytest.approx(0.67e6, rel=0.05)


def test_a_saved_small_network_is_read_by_us_and_by_transformers(tmp_path, image):
    network = SmallDepth(weights=None, farthest_m=15, seed=4).load()
    save_small(network.network, tmp_path)
    square = image[..., :64, :64]
    ours = SmallDepth(weights=str(tmp_path)).load()
    assert torch.allclose(ours(square), network(square), rtol=1e-2)  # 16 bit
    theirs = AutoModelForDepthEstimation.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.allclose(theirs(normalize(square)).predicted_depth, ours(square)[:, 0], atol=1e-5)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}


def test_a_local_metric_model_loads_as_the_hub_s_and_a_relative_one_is_rejected(tmp_path, image):
    config = small_config(8, 96, 4, 20)
    DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path / "metric")
    network = DepthAnything(str(tmp_path / "metric"), size_px=32).load()
    assert network(image).shape == (1, 1, 90, 120)
    config.depth_estimation_type = "relative"
    DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path / "relative")
    with pytest.raises(UserError, match=r"no metric depth model"):
        DepthAnything(str(tmp_path / "relative")).load()


def test_a_folder_without_a_stand_in_is_named(tmp_path):
    with pytest.raises(UserError, match=r"config\.json is missing"):
        SmallDepth(weights=str(tmp_path)).load()


def test_without_network_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"Depth-Anything-V2-Metric-Outdoor-Small-hf: .*local copy"):
        DepthAnything().load()


class Brightness(nn.Module):
    """A network of Metric3D's interface whose depth is known: the red of what it sees, before
    normalisation.
    """

    min_val, max_val, num_depth_regressor_anchor = 0.1, 200.0, 256

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.input = None

    def register_depth_expectation_anchor(self, bins_num, batch):
        raise AssertionError("this one asks for CUDA")

    def forward(self, data):
        self.input = data["input"]
        red = self.input[:, :1] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
        return 10 * self.gain * red, None, {}


@pytest.mark.parametrize(("height", "width"), [(616, 1064), (1024, 1024), (90, 120)])
def test_metric3d_fits_an_image_into_its_frame_and_comes_back(height, width):
    image = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    image = (
        torch.nn.functional.interpolate(image, (height, width), mode="bicubic")
        .clamp(0.1, 0.9)
        .requires_grad_()
    )
    depth = Metric3DDepth(Brightness(), None, 36.0)
    output = depth(image)
    assert depth.network.input.shape == (1, 3, 616, 1064)
    assert (output - 10 * image[:, :1]).abs().mean() < 0.05
    output.sum().backward()
    assert (image.grad[:, 0] > 0).float().mean() > 0.99


def test_metric3d_s_canonical_camera_is_scaled_by_the_real_one():
    image = torch.full((2, 3, 616, 616), 0.5)
    canonical, real = (Metric3DDepth(Brightness(), mm, 36.0)(image) for mm in (None, 50.0))
    # 50 mm before a sensor of 36 mm is 50 / 36 * 616 px; the network answers for 1000 px.
    assert torch.allclose(real / canonical, torch.tensor(50 / 36 * 616 / 1000), rtol=1e-5)


def test_metric3d_s_anchors_are_its_own_without_cuda():
    depth = Metric3DDepth(Brightness(), None, 36.0)
    for batch in (1, 3):
        depth(torch.rand(batch, 3, 30, 30))
    anchors = depth.network.depth_expectation_anchor
    assert anchors.shape == (3, 256)
    assert np.allclose(anchors[2], np.geomspace(0.1, 200.0, 256), rtol=1e-4)


def test_metric3d_names_the_package_that_it_lacks(monkeypatch):
    def load(*_, **__):
        raise ModuleNotFoundError("No module named 'mmengine'", name="mmengine")

    monkeypatch.setitem(sys.modules, "torch.hub", types.SimpleNamespace(load=load))
    monkeypatch.setattr(torch, "hub", sys.modules["torch.hub"])
    with pytest.raises(UserError, match=r"metric3d:\w{40}: vit_large: .*pip install mmengine"):
        Metric3D(trust_remote_code=True).load()
