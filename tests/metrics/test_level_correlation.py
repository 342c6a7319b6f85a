import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from dofsuite.metrics import LVCorr, laplacian_variance, lv_corr
from dofsuite.metrics.level_correlation import checked_variant
from dofsuite.optics import display_to_linear, linear_to_display, render_bokeh
from tests.metrics.conftest import LEVELS, sweep_of_contrast
from tests.optics.photographs import photo_21

VARIANTS = ["level_mean", "level_per_scene"]


def scipy_score(sweep, variant):
    curves = laplacian_variance(sweep).numpy()
    curves = curves.mean(axis=0, keepdims=True) if variant == "level_mean" else curves
    return -np.mean([pearsonr(LEVELS, curve).statistic for curve in curves])


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_minus_scipy_s_pearson(sweep, variant):
    assert lv_corr(sweep, LEVELS, variant).item() == pytest.approx(scipy_score(sweep, variant), rel=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_class_equals_function_however_the_scenes_are_batched(sweep, variant):
    metric = LVCorr(LEVELS, variant)
    for batch in sweep.split([1, 4, 2]):
        metric.update(batch)
    assert metric.compute().item() == pytest.approx(lv_corr(sweep, LEVELS, variant).item(), rel=1e-9)


def test_the_order_of_settings_does_not_matter(sweep):
    order = [2, 0, 3, 1]
    shuffled = lv_corr(sweep[:, order], [LEVELS[i] for i in order])
    assert shuffled.item() == pytest.approx(lv_corr(sweep, LEVELS).item(), rel=1e-9)


def test_rising_sharpness_is_negative(sweep):
    assert lv_corr(sweep.flip(1), LEVELS) < -0.8


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_curve_that_does_not_change_gives_0_and_a_warning(variant):
    for contrast in ([0.8] * 4, [0.0] * 4):
        with pytest.warns(UserWarning, match="LVCorr"):
            assert lv_corr(sweep_of_contrast(contrast, scenes=2), LEVELS, variant) == 0


def test_one_flat_scene_counts_as_0_among_the_others(sweep):
    flat = torch.full_like(sweep[:1], 0.5)
    with pytest.warns(UserWarning, match="LVCorr"):
        mixed = lv_corr(torch.cat([sweep, flat]), LEVELS, "level_per_scene")
    assert mixed.item() == pytest.approx(lv_corr(sweep, LEVELS, "level_per_scene").item() * 7 / 8, rel=1e-9)


def test_wrong_shape_and_unknown_variant_are_refused_by_name(sweep):
    with pytest.raises(ValueError, match=r"preds must be \[batch, 4 levels"):
        LVCorr(LEVELS).update(sweep[:, :3])
    with pytest.raises(ValueError, match="level_mean, level_per_scene"):
        checked_variant("pooled")


def test_true_bokeh_of_a_photograph_scores_what_was_measured_before():
    # facts of the project: BokehMe's photograph 21 at 384 x 384, foci .2 to .8, gamma 4, an independent NumPy renderer
    image, disparity = photo_21((384, 384))
    light = display_to_linear(image, 4)
    sweep = torch.stack(
        [
            torch.cat([linear_to_display(render_bokeh(light, level * (disparity - focus)), 4) for level in LEVELS])
            for focus in (0.2, 0.4, 0.6, 0.8)
        ]
    )
    assert lv_corr(sweep, LEVELS, "level_per_scene").item() == pytest.approx(0.935, abs=0.001)
    assert lv_corr(sweep, LEVELS).item() == pytest.approx(0.937, abs=0.001)
