import numpy as np
import pytest
import torch

from dofsuite.metrics import BlurGain, blur_gain, laplacian_variance
from tests.metrics.conftest import LEVELS, sweep_of_contrast


@pytest.fixture
def model():
    return sweep_of_contrast([1.0, 0.8, 0.7, 0.6], scenes=7, seed=3)


def test_it_is_the_ratio_of_the_logs_of_averaged_falls(model, sweep):
    falls = []
    for images in (model, sweep):
        mean = laplacian_variance(images).numpy().mean(axis=0)
        falls.append(np.log(mean[-1] / mean[0]))
    assert blur_gain(model, sweep, LEVELS).item() == pytest.approx(falls[0] / falls[1], rel=1e-9)


def test_the_truth_has_gain_1_and_its_reverse_minus_1(sweep):
    assert blur_gain(sweep, sweep, LEVELS) == 1
    assert blur_gain(sweep.flip(1), sweep, LEVELS).item() == pytest.approx(-1, rel=1e-9)


def test_no_control_has_gain_0(sweep):
    assert blur_gain(sweep[:, :1].expand_as(sweep), sweep, LEVELS) == 0


def test_levels_in_any_order(model, sweep):
    order = [2, 0, 3, 1]
    shuffled = blur_gain(model[:, order], sweep[:, order], [LEVELS[i] for i in order])
    assert shuffled.item() == pytest.approx(blur_gain(model, sweep, LEVELS).item(), rel=1e-9)


def test_class_equals_function_however_the_scenes_are_batched(model, sweep):
    metric = BlurGain(LEVELS)
    for batch in zip(model.split([3, 4]), sweep.split([3, 4]), strict=True):
        metric.update(*batch)
    assert metric.compute().item() == pytest.approx(
        blur_gain(model, sweep, LEVELS).item(), rel=1e-9
    )


def test_a_truth_that_does_not_change_gives_0_and_a_warning(model):
    for constant in (model[:, :1].expand_as(model), torch.full_like(model, 0.5)):
        with pytest.warns(UserWarning, match="BlurGain"):
            assert blur_gain(model, constant, LEVELS) == 0


def test_sweeps_of_different_scenes_are_rejected(model, sweep):
    with pytest.raises(ValueError, match="same scenes"):
        BlurGain(LEVELS).update(model[:3], sweep)
    with pytest.raises(ValueError, match="target must be"):
        BlurGain(LEVELS).update(model, sweep[:, :2])
