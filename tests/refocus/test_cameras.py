"""Planes, points and levels are those of the paper's grid, and follow its shares."""

import numpy as np
import pytest
import torch
from scipy import stats

from dofsuite.diffusion import draw_uniform
from dofsuite.refocus.cameras import (
    NUM_UNIFORMS,
    CameraSampling,
    choose,
    draw_cameras,
    draw_focus,
    point_of,
    prefer,
)


def scene(count, planes=(0.0, 0.3, 0.62, 1.0), side=16):
    """Vertical stripes at a few disparities."""
    stripe = torch.tensor(planes).repeat_interleave(side // len(planes))
    return stripe.expand(count, 1, side, side).contiguous()


def drawn(count=3000, disparity=None, **options):
    disparity = scene(count) if disparity is None else disparity
    return draw_cameras(
        disparity, draw_uniform(0, range(count), "cameras", NUM_UNIFORMS), CameraSampling(**options)
    )


def disparity_at(disparity, point):
    side = disparity.shape[-1]
    column, row = (point * side).long().unbind(1)
    return disparity[torch.arange(len(point)), 0, row, column]


def test_choose_is_uniform_over_the_allowed_places():
    allowed = torch.tensor([[False, True, False, True, True]]).expand(3000, -1)
    places = choose(allowed, draw_uniform(0, range(3000), "c", 1)[:, 0]).numpy()
    counts = np.bincount(places, minlength=5)
    assert counts[0] == counts[2] == 0
    assert stats.chisquare(counts[[1, 3, 4]]).pvalue > 1e-3


def test_prefer_narrows_only_where_something_is_left():
    allowed = torch.tensor([[True, True], [True, True]])
    preferred = torch.tensor([[False, True], [False, False]])
    assert prefer(allowed, preferred).tolist() == [[False, True], [True, True]]


def test_a_pixel_s_point_is_its_center():
    assert point_of(torch.tensor([0, 7]), 2, 4).tolist() == [[0.125, 0.25], [0.875, 0.75]]


@pytest.mark.parametrize("grid", ["paper", "continuous"])
def test_every_focus_point_lies_on_its_plane(grid):
    disparity = scene(3000)
    for camera in drawn(disparity=disparity, grid=grid):
        distance = (disparity_at(disparity, camera.focus_point) - camera.focus_disparity).abs()
        assert distance.max() < CameraSampling().eta


def test_planes_that_no_pixel_lies_on_are_not_drawn_and_the_others_equally_often():
    _, target, _ = drawn()
    planes, counts = np.unique(target.focus_disparity.numpy().round(3), return_counts=True)
    assert planes.tolist() == pytest.approx([0.0, 0.3, 0.6, 1.0], abs=1e-3)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("grid", ["paper", "continuous"])
def test_the_second_target_is_on_another_plane(grid):
    _, target, second = drawn(grid=grid)
    assert ((target.focus_disparity - second.focus_disparity).abs() > CameraSampling().eta).all()


def test_a_flat_scene_still_gives_a_camera():
    disparity = torch.zeros(4, 1, 8, 8)
    for camera in drawn(4, disparity):
        assert camera.focus_disparity.eq(0).all()
        assert camera.focus_point.isfinite().all()


def test_levels_are_the_grid_s_with_the_stated_share_of_all_in_focus():
    reference, target, second = drawn(20000, scene(20000, side=4))
    share = (target.bokeh_level == 0).float().mean().item()
    assert share == pytest.approx(1 / 421, abs=4 * (1 / 421 / 20000) ** 0.5)
    assert sorted(set(reference.bokeh_level.tolist())) == list(range(21))
    assert sorted(set(second.bokeh_level.tolist())) == list(range(1, 21))


def test_the_share_of_all_in_focus_targets_is_an_option():
    _, target, _ = drawn(4000, scene(4000, side=4), all_in_focus_targets=0.4)
    assert (target.bokeh_level == 0).float().mean().item() == pytest.approx(0.4, abs=0.03)


def test_the_share_of_all_in_focus_references_is_an_option():
    reference, target, _ = drawn(4000, scene(4000, side=4), all_in_focus_references=0.4)
    assert (reference.bokeh_level == 0).float().mean().item() == pytest.approx(0.4, abs=0.03)
    assert (target.bokeh_level == 0).float().mean().item() < 0.01


def test_continuous_levels_fill_the_range():
    _, _, second = drawn(grid="continuous")
    assert stats.kstest(second.bokeh_level.numpy(), stats.uniform(1, 19).cdf).pvalue > 1e-3


def test_drawing_never_synchronizes_with_the_device():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():  # raises on .item(), bool(), nonzero and boolean indexing
        draw_focus(torch.rand(2, 1, 8, 8), torch.rand(2, 2), CameraSampling())


@pytest.mark.parametrize("wrong", [{"all_in_focus_targets": 1.5}, {"planes": 1}, {"eta": 0.0}])
def test_wrong_numbers_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CameraSampling(**wrong)
