import cv2
import numpy as np
import pytest
import torch

from dofsuite.metrics import FocusHitRate, focus_hit_rate
from dofsuite.metrics.focus_hits import local_sharpness
from dofsuite.optics import render_bokeh


@pytest.fixture
def pairs():
    """Five scenes, near on the left and far on the right, focused near and far; the points lie on
    the two planes.
    """
    image = torch.rand(5, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    disparity = (torch.arange(60) < 30).float().expand(5, 1, 40, 60)
    focused = torch.stack([render_bokeh(image, 5 * (disparity - plane)) for plane in (1, 0)], dim=1)
    points = torch.tensor([[0.25, 0.5], [0.75, 0.5]]).expand(5, 2, 2)
    return focused, points


def test_true_refocusing_hits_always_and_swapped_images_never(pairs):
    focused, points = pairs
    assert focus_hit_rate(focused, points) == 1
    assert focus_hit_rate(focused.flip(1), points) == 0


def test_two_equal_images_miss(pairs):
    focused, points = pairs
    assert focus_hit_rate(focused[:, :1].expand(-1, 2, -1, -1, -1), points) == 0


def test_an_image_focused_nearer_whatever_the_point_hits_half(pairs):
    focused, points = pairs
    mixed = torch.cat([focused[:2], focused[2:4].flip(1)])
    assert focus_hit_rate(mixed, points[:4]) == 0.5


def test_sharpness_is_the_mean_square_of_opencv_s_laplacian_in_the_window():
    image = torch.rand(1, 3, 30, 40, dtype=torch.float64)
    gray = np.tensordot([0.299, 0.587, 0.114], image[0].numpy(), 1)
    energy = cv2.Laplacian(gray, cv2.CV_64F) ** 2
    inside = local_sharpness(image, torch.tensor([[0.5, 0.5]], dtype=torch.float64), 0.25)
    assert inside.item() == pytest.approx(energy[15 - 5 : 15 + 6, 20 - 5 : 20 + 6].mean(), rel=1e-9)
    corner = local_sharpness(image, torch.tensor([[1.0, 0.0]], dtype=torch.float64), 0.25)
    assert corner.item() == pytest.approx(energy[:6, -6:].mean(), rel=1e-9)


def test_class_equals_function_however_the_pairs_are_batched(pairs):
    focused, points = pairs
    focused = torch.cat([focused[:2], focused[2:].flip(1)])
    metric = FocusHitRate()
    metric.update(focused[:1], points[:1])
    metric.update(focused[1:], points[1:])
    assert metric.compute() == focus_hit_rate(focused, points) == 0.4


@pytest.mark.parametrize("window", [0, -0.1, 1.5])
def test_a_window_that_is_no_share_is_rejected_by_name(pairs, window):
    with pytest.raises(ValueError, match="window"):
        FocusHitRate(window)
    with pytest.raises(ValueError, match="window"):
        focus_hit_rate(*pairs, window)


@pytest.mark.parametrize("wrong", [5.0, -0.1, float("nan")])
def test_points_in_pixels_are_rejected_by_name(pairs, wrong):
    preds, points = pairs
    points = points.clone()
    points[0, 1, 0] = wrong
    with pytest.raises(ValueError, match="points must be fractions"):
        focus_hit_rate(preds, points)


def test_what_is_no_pair_is_rejected_by_name(pairs):
    focused, points = pairs
    with pytest.raises(ValueError, match="preds must be"):
        FocusHitRate().update(focused[:, :1], points)
    with pytest.raises(ValueError, match="points"):
        FocusHitRate().update(focused, points[:, :1])
