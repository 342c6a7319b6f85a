"""Depth from files and planes: units, kinds and sizes, against closed forms."""

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.backbones import RelativeDepth
from dofsuite.errors import UserError
from dofsuite.photography import DepthEstimator, plane_depth, read_depth
from tests.backbones.perception.test_relative_depth import save

SIZE = (20, 30)


@pytest.fixture
def meters(tmp_path):
    """Depths from 1 m at the left to 4 m at the right."""
    values = np.linspace(1, 4, 30, dtype=np.float32) * np.ones((20, 1), np.float32)
    np.save(tmp_path / "depth.npy", values)
    return tmp_path / "depth.npy", values


def test_meters_come_back_as_meters(meters):
    path, values = meters
    depth = read_depth(path, "meters", SIZE)
    np.testing.assert_allclose(depth.meters()[0, 0], values, rtol=1e-5)
    assert depth.inverse_range_per_m == pytest.approx((0.25, 1.0))


def test_millimeters_are_a_thousandth(tmp_path):
    Image.fromarray(np.full(SIZE, 1500, np.uint16)).save(tmp_path / "depth.png")
    depth = read_depth(tmp_path / "depth.png", "millimeters", SIZE)
    np.testing.assert_allclose(depth.meters()[0, 0], 1.5, rtol=1e-6)


def test_gray_images_are_disparity_by_default(tmp_path):
    values = np.arange(600, dtype=np.uint16).reshape(SIZE)
    Image.fromarray(values).save(tmp_path / "depth.png")
    depth = read_depth(tmp_path / "depth.png", None, SIZE)
    np.testing.assert_allclose(depth.disparity[0, 0], values / 599, rtol=1e-5)
    assert depth.inverse_range_per_m is None


def test_numbers_without_a_kind_are_refused_with_the_kinds(meters):
    with pytest.raises(UserError, match="say --depth-kind meters, millimeters, depth"):
        read_depth(meters[0], None, SIZE)


def test_a_map_of_another_size_is_enlarged_and_one_of_another_shape_refused(meters):
    assert read_depth(meters[0], "depth", (200, 300)).disparity.shape == (1, 1, 200, 300)
    with pytest.raises(UserError, match=r"30x20 px and the photograph 20x30"):
        read_depth(meters[0], "depth", (30, 20))


def test_relative_depth_gets_its_scale_from_the_distance_in_focus(meters):
    depth = plane_depth((0.5, 1.0), (0.5, 0.0), (101, 50)).with_focus_at(0.5, 2.0)
    assert float(depth.meters()[0, 0, 50, 0]) == pytest.approx(2.0)
    assert float(depth.meters()[0, 0, 0, 0]) > 100


def test_an_infinite_distance_is_a_distance(tmp_path):
    np.save(tmp_path / "depth.npy", np.array([[2.0, np.inf]], np.float32))
    depth = read_depth(tmp_path / "depth.npy", "meters", (1, 2))
    assert depth.meters()[0, 0].tolist() == [[2.0, np.inf]]


def test_a_plane_is_linear_between_its_points_and_clamped_beyond():
    disparity = plane_depth((0.5, 0.9), (0.5, 0.4), (100, 10)).disparity[0, 0]
    rows = torch.arange(100) + 0.5
    expected = ((rows - 40) / 50).clamp(0, 1)
    torch.testing.assert_close(disparity, expected[:, None].expand(100, 10))


def test_a_plane_needs_two_points():
    with pytest.raises(UserError, match="--plane"):
        plane_depth((0.5, 0.5), (0.5, 0.5), SIZE)


def test_the_disparity_at_a_point_is_the_median_around_it(meters):
    depth = read_depth(meters[0], "depth", (400, 600))
    depth.disparity[..., 200, 300] = 0  # one wrong pixel
    inverse = 1 / np.interp(300, [10, 589], [1, 4])
    assert depth.at((0.5, 0.5)) == pytest.approx((inverse - 0.25) / 0.75, abs=0.01)


def test_a_depth_model_is_loaded_once_and_its_disparity_stretched(tmp_path, monkeypatch):
    path = save(tmp_path, "relative")
    image = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    predicted = RelativeDepth(path).load()(image[None])
    low, high = predicted.aminmax()
    loads = []
    load = RelativeDepth.load
    monkeypatch.setattr(RelativeDepth, "load", lambda self: loads.append(1) or load(self))
    estimate = DepthEstimator(path)
    for _ in range(2):
        torch.testing.assert_close(
            estimate(image).disparity, (predicted - low) / (high - low), atol=1e-5, rtol=0
        )
    assert loads == [1]


def test_a_depth_model_that_is_not_there_says_what_else_works(tmp_path):
    with pytest.raises(UserError, match=r"^--depth auto: .* Without a model: --depth FILE"):
        DepthEstimator(str(tmp_path / "none"))(torch.zeros(3, 32, 48))
