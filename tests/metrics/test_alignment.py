"""Alignment: known warps by SciPy, known colors by scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dofsuite.metrics import Alignment, color_drift, fit_alignment, misalignment
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.rendering import Rendering, photograph

ndimage = pytest.importorskip("scipy.ndimage")


def photograph_and_depth(size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph in [0, 1]; its disparity rises downwards, and at a disc."""
    data, cell = pytest.importorskip("skimage.data"), 512 // size_px
    image = data.astronaut().reshape(size_px, cell, size_px, cell, 3).mean(axis=(1, 3)) / 255
    y, x = np.mgrid[:size_px, :size_px] / (size_px - 1)
    return image, 0.7 * y + 0.3 * ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.06)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    return photograph_and_depth(128)


def warped(values: np.ndarray, scale: float, shift: tuple[float, float], order: int) -> np.ndarray:
    """`values` with what lay at p from the middle at scale * p + shift, (x, y)."""
    middle, moved = (np.array(values.shape[:2]) - 1) / 2, np.array(shift)[::-1]
    offset = middle - (middle + moved) / scale
    channels = values.reshape(*values.shape[:2], -1)
    planes = [
        ndimage.affine_transform(
            channels[..., k], np.eye(2) / scale, offset, order=order, mode="mirror"
        )
        for k in range(channels.shape[-1])
    ]
    return np.clip(np.stack(planes, axis=-1).reshape(values.shape), 0, 1)


def refocused(image: np.ndarray, disparity: np.ndarray, plane: float, level: float) -> Tensor:
    """[1, 3, h, w], 8 bit, with the focus on a plane."""
    camera = Cameras(torch.tensor([[0.5, 0.5]]), torch.tensor([plane]), torch.tensor([level]))
    light = torch.from_numpy(image).movedim(-1, 0)[None].float()
    width_px = torch.tensor([float(image.shape[1])])
    (picture,) = photograph(
        light,
        torch.from_numpy(disparity)[None, None].float(),
        width_px,
        [camera],
        Rendering(gamma=2.2, layers=8, reference_width_px=128.0),
    )
    return (picture * 255).round() / 255


# Focal plane and level of the picture given and of the result: at 128 px, radius over disparity.
REFOCUSED = {
    "bokeh": ((0.0, 0.0), (0.9, 2.5)),
    "refocus": ((0.1, 2.5), (0.9, 2.5)),
    "deblur": ((0.9, 2.5), (0.0, 0.0)),
}
WARPS = [(1.0, (0.0, 0.0)), (0.98, (0.1, 0.0)), (1.02, (-3.0, 4.0))]


# Of small pictures the same error of scale moves the border less.
@pytest.mark.parametrize(
    ("size_px", "scale_bar"), [(128, 1e-3), pytest.param(256, 5e-4, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("task", REFOCUSED)
def test_known_shifts_and_scales_under_another_focus(task, size_px, scale_bar):
    image, disparity = photograph_and_depth(size_px)
    given, asked = REFOCUSED[task]
    reference = refocused(image, disparity, *given)
    results = [
        refocused(warped(image, *warp, order=5), warped(disparity, *warp, order=0), *asked)
        for warp in WARPS
    ]
    fit = fit_alignment(torch.cat(results), reference.expand(len(results), -1, -1, -1))
    shifts = torch.tensor([shift for _, shift in WARPS], dtype=torch.float64)
    scales = torch.tensor([scale for scale, _ in WARPS], dtype=torch.float64)
    assert (fit.shift_px - shifts).norm(dim=1).max() <= 0.05
    assert (fit.scale - scales).abs().max() <= scale_bar


def test_a_copy_is_exactly_where_it_was(scene):
    image = refocused(*scene, 1.0, 3.0)
    fit = fit_alignment(image, image)
    assert fit.shift_px.abs().max() < 1e-9
    assert fit.scale.item() == pytest.approx(1, abs=1e-9)
    assert color_drift(image, image).item() == 0


def test_a_large_shift_and_zoom_is_found(scene):
    image, _ = scene
    moved = warped(image, 1.15, (20.0, -12.0), order=3)
    fit = fit_alignment(*(refocused(each, scene[1], 0.0, 0.0) for each in (moved, image)))
    assert torch.allclose(fit.shift_px[0], torch.tensor([20.0, -12.0]).double(), atol=0.3)
    assert fit.scale.item() == pytest.approx(1.15, abs=2e-3)


def test_pictures_of_different_things_have_no_alignment(scene):
    image = refocused(*scene, 0.0, 0.0)
    other = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    flat = torch.full_like(image, 0.5)
    fit = fit_alignment(torch.cat([other, flat, image]), torch.cat([image, image, image]))
    assert fit.scale.isnan().tolist() == [True, True, False]
    assert fit.shift_px.isnan().all(dim=1).tolist() == [True, True, False]


def test_the_mean_is_over_the_pairs_that_could_be_measured(scene):
    image = refocused(*scene, 0.0, 0.0)
    metric = Alignment("shift")
    metric.update(image.roll(3, dims=-1), image)
    metric.update(torch.full_like(image, 0.5), image)
    assert metric.compute().item() == pytest.approx(3, abs=0.05)
    assert metric.measured().item() == 0.5


def test_color_drift_is_scikit_images_delta_e_of_even_colors():
    color = pytest.importorskip("skimage.color")
    a, b = torch.rand(2, 20, 3, generator=torch.Generator().manual_seed(0)).double()
    expected = color.deltaE_cie76(color.rgb2lab(a.numpy()), color.rgb2lab(b.numpy()))
    images = (each[:, :, None, None].expand(-1, -1, 20, 30) for each in (a, b))
    assert color_drift(*images).numpy() == pytest.approx(expected, rel=2e-3)


def test_a_blur_in_light_hardly_changes_the_color_and_a_tint_does(scene):
    image, disparity = scene
    reference, blurred = (refocused(image, disparity, 0.0, level) for level in (0.0, 8.0))
    tinted = (image * np.array([1.0, 0.95, 0.9])).clip(0, 1)
    drift = color_drift(
        torch.cat([blurred, refocused(tinted, disparity, 0.0, 0.0)]),
        reference.expand(2, -1, -1, -1),
    )
    assert drift[0] < 0.5
    assert drift[1] > 3


@pytest.mark.usefixtures("as_users_run_it")
def test_unknown_quantities_other_sizes_and_small_pictures_are_refused():
    image = torch.rand(1, 3, 15, 20)
    with pytest.raises(ValueError, match="at least 16 px a side"):
        fit_alignment(image, image)
    with pytest.raises(ValueError, match="must have one size"):
        misalignment(image, image[..., 1:])
    with pytest.raises(ValueError, match="quantity must be one of shift, scale, color"):
        Alignment("turn")
