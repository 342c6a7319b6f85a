"""Soft steps become hard, slopes and thin things stay."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from dofsuite.photography.depth_edges import MIN_STEP, snap_edges


def test_a_soft_step_has_two_values_and_stays_where_it_was():
    """Of 1000 px, so the window reaches 4 px to each side."""
    step = np.zeros((40, 1000), np.float32)
    step[:, 500:] = 1
    soft = torch.from_numpy(gaussian_filter(step, 1.2))[None, None]
    between = (soft > 0.05) & (soft < 0.95)
    assert between.sum() >= 3 * 40
    hard = snap_edges(soft)[0, 0]
    assert ((hard < 0.05) | (hard > 0.95)).all()
    assert torch.equal(hard > 0.5, torch.from_numpy(step) > 0.5)


def test_it_is_the_nearer_extreme_of_scipy_s_window():
    disparity = np.random.default_rng(0).random((30, 250)).astype(np.float32)
    extremes = [
        each(disparity, size=3, mode="nearest") for each in (maximum_filter, minimum_filter)
    ]
    high, low = extremes
    expected = np.where(high - disparity <= disparity - low, high, low)
    expected = np.where(high - low >= MIN_STEP, expected, disparity)
    snapped = snap_edges(torch.from_numpy(disparity)[None, None])[0, 0].numpy()
    np.testing.assert_array_equal(snapped, expected)


def test_slopes_and_what_is_thinner_than_the_window_stay():
    slope = torch.linspace(0, 1, 1000).expand(1, 1, 20, 1000)
    assert torch.equal(snap_edges(slope), slope)
    wire = torch.zeros(1, 1, 20, 1000)
    wire[..., 500] = 0.7
    assert torch.equal(snap_edges(wire), wire)
