import functools

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from dofsuite.metrics import LVCorr, laplacian_variance, lv_corr
from dofsuite.metrics.guards import one_of
from dofsuite.metrics.level_correlation import Variant
from dofsuite.optics import display_to_linear, linear_to_display, render_bokeh
from tests.metrics.conftest import LEVELS, sweep_of_contrast
from tests.optics.photographs import photo_21

VARIANTS = ["level_mean", "level_per_scene"]


def gray_sweep(scenes, settings=5, seed=0):
    """8-bit gray images, so that no rule of gray conversion matters, as [scenes, settings, 3, h,
    w] and as numpy.
    """
    images = np.random.default_rng(seed).integers(
        0, 256, (scenes, settings, 24, 20), dtype=np.uint8
    )
    contrast = np.random.default_rng(seed + 1).uniform(0.1, 1, (scenes, settings, 1, 1))
    images = (images * contrast).astype(np.uint8)
    return torch.from_numpy(images)[:, :, None].expand(-1, -1, 3, -1, -1).double() / 255, images


def scipy_score(sweep, variant):
    curves = laplacian_variance(sweep).numpy()
    curves = curves.mean(axis=0, keepdims=True) if variant == "level_mean" else curves
    return -np.mean([pearsonr(LEVELS, curve).statistic for curve in curves])


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_minus_scipy_s_pearson(sweep, variant):
    assert lv_corr(sweep, LEVELS, variant).item() == pytest.approx(
        scipy_score(sweep, variant), rel=1e-9
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_class_equals_function_however_the_scenes_are_batched(sweep, variant):
    metric = LVCorr(LEVELS, variant)
    for batch in sweep.split([1, 4, 2]):
        metric.update(batch)
    assert metric.compute().item() == pytest.approx(
        lv_corr(sweep, LEVELS, variant).item(), rel=1e-9
    )


def test_genphoto_diff_is_numpy_s_correlation_of_opencv_s_differences_scene_by_scene():
    (preds, preds_gray), (target, target_gray) = gray_sweep(6), gray_sweep(6, seed=5)
    expected = []
    for scene, true_scene in zip(preds_gray, target_gray, strict=True):
        steps = [
            np.diff([cv2.Laplacian(gray, cv2.CV_64F).var() for gray in each])
            for each in (scene, true_scene)
        ]
        expected.append(np.corrcoef(*steps)[0, 1])
    score = lv_corr(preds, [1, 2, 3, 4, 5], "genphoto_diff", target).item()
    assert score == pytest.approx(np.mean(expected), rel=1e-9)
    assert np.ptp(expected) > 0.5
    metric = LVCorr([1, 2, 3, 4, 5], "genphoto_diff")
    for scenes in (slice(0, 1), slice(1, None)):
        metric.update(preds[scenes], target[scenes])
    assert metric.compute().item() == pytest.approx(np.mean(expected), rel=1e-9)


def test_genphoto_diff_of_the_truth_is_1_and_of_its_reverse_contrast_minus_1():
    target, _ = gray_sweep(3)
    assert lv_corr(target, [1, 2, 3, 4, 5], "genphoto_diff", target).item() == pytest.approx(
        1, rel=1e-12
    )
    noise = (
        torch.rand(1, 1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        - 0.5
    )
    variance = torch.tensor([0.2, 0.3, 0.7, 0.9]).reshape(1, 4, 1, 1, 1)
    turned = lv_corr(
        0.5 + noise * (1 - variance).sqrt(), LEVELS, "genphoto_diff", 0.5 + noise * variance.sqrt()
    )
    assert turned.item() == pytest.approx(-1, abs=1e-3)


def test_genphoto_diff_counts_a_sweep_that_does_not_change_as_0():
    target, _ = gray_sweep(2)
    preds = torch.cat([target[:1], target[1:, :1].expand(1, 5, 3, 24, 20)])
    with pytest.warns(UserWarning, match="LVCorr"):
        assert lv_corr(preds, [1, 2, 3, 4, 5], "genphoto_diff", target).item() == pytest.approx(
            0.5, rel=1e-9
        )


def test_genphoto_diff_needs_the_truth_of_the_same_scenes_and_three_levels(sweep):
    with pytest.raises(ValueError, match="target must be given"):
        LVCorr(LEVELS, "genphoto_diff").update(sweep)
    with pytest.raises(ValueError, match="same scenes"):
        LVCorr(LEVELS, "genphoto_diff").update(sweep, sweep[:3])
    with pytest.raises(ValueError, match="target must be"):
        LVCorr(LEVELS, "genphoto_diff").update(sweep, sweep[:, :3])
    with pytest.raises(ValueError, match="at least three"):
        LVCorr([5, 10], "genphoto_diff")


def test_the_other_variants_do_not_look_at_the_truth(sweep):
    assert lv_corr(sweep, LEVELS, "level_mean", sweep.flip(1)) == lv_corr(sweep, LEVELS)


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
    assert mixed.item() == pytest.approx(
        lv_corr(sweep, LEVELS, "level_per_scene").item() * 7 / 8, rel=1e-9
    )


def test_wrong_shape_and_unknown_variant_are_rejected_by_name(sweep):
    with pytest.raises(ValueError, match=r"preds must be \[batch, 4 levels"):
        LVCorr(LEVELS).update(sweep[:, :3])
    with pytest.raises(ValueError, match="level_mean, level_per_scene"):
        one_of("pooled", Variant, "variant")


@pytest.fixture(scope="module")
def true_bokeh():
    """Sweeps of BokehMe's photograph 21 at 384 x 384, foci .2 to .8, gamma 4: levels -> [4, levels,
    3, 384, 384].
    """
    image, disparity = photo_21((384, 384))
    light = display_to_linear(image, 4)

    @functools.cache
    def rendered(level, focus):
        return linear_to_display(render_bokeh(light, level * (disparity - focus)), 4)[0]

    return lambda levels: torch.stack(
        [
            torch.stack([rendered(level, focus) for level in levels])
            for focus in (0.2, 0.4, 0.6, 0.8)
        ]
    )


@pytest.mark.parametrize(
    ("levels", "per_scene", "averaged_first"),
    [
        ((5, 10, 15, 20), 0.935, 0.937),
        ((8, 12, 20, 30), 0.919, 0.909),
        ((5, 10, 20, 30), 0.895, 0.895),
        ((1, 5, 10, 15), 0.876, 0.893),
        ((0, 5, 10, 15, 20), 0.843, 0.854),
    ],
)
def test_true_bokeh_of_a_photograph_scores_what_was_measured_before(
    true_bokeh, levels, per_scene, averaged_first
):
    # facts of the project: an independent NumPy renderer
    sweep = true_bokeh(levels)
    assert lv_corr(sweep, levels, "level_per_scene").item() == pytest.approx(per_scene, abs=0.001)
    assert lv_corr(sweep, levels).item() == pytest.approx(averaged_first, abs=0.001)
