"""The probe's measures against loops and closed forms."""

import numpy as np
import pytest
import torch

from dofsuite.cli import config_from
from dofsuite.errors import UserError
from dofsuite.optics import bokeh_radius_px
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.measure import parser
from dofsuite.refocus.measure_config import MeasureConfig
from dofsuite.refocus.measurement import table
from dofsuite.refocus.probe_scores import (
    HitRate,
    in_focus_error,
    standard_error,
    token_border_steps,
)
from dofsuite.refocus.rendering import Rendering
from dofsuite.refocus.without_model import uniform_blur


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_error_in_focus_is_the_mean_over_pixels_of_a_small_radius():
    pred, target = images(2, 3, 6, 5), images(2, 3, 6, 5, seed=1)
    radius_px = images(2, 1, 6, 5, seed=2) * 4 - 2
    expected = []
    for i in range(2):
        errors = [
            abs(float(pred[i, c, y, x]) - float(target[i, c, y, x]))
            for c, y, x in np.ndindex(3, 6, 5)
            if abs(float(radius_px[i, 0, y, x])) <= 0.5
        ]
        expected.append(np.mean(errors))
    assert in_focus_error(pred, target, radius_px, 0.5).tolist() == pytest.approx(expected)


def test_error_in_focus_without_a_pixel_in_focus_is_0():
    error = in_focus_error(images(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4))
    assert error.tolist() == [0.0]


def test_steps_at_token_borders_are_those_of_a_loop():
    image = images(2, 3, 12, 8)
    at_borders, elsewhere = token_border_steps(image, 4)
    for i in range(2):
        steps = {True: [], False: []}
        for c, y, x in np.ndindex(3, 12, 8):
            here = float(image[i, c, y, x])
            if y + 1 < 12:
                steps[(y + 1) % 4 == 0].append((abs(float(image[i, c, y + 1, x]) - here), 8))
            if x + 1 < 8:
                steps[(x + 1) % 4 == 0].append((abs(float(image[i, c, y, x + 1]) - here), 12))
        # A mean over lines of pixels: rows have 8, columns have 12
        for mean, found in ((at_borders, steps[True]), (elsewhere, steps[False])):
            lines = sum(1 / (3 * length) for _, length in found)
            total = sum(step / (3 * length) for step, length in found)
            assert float(mean[i]) == pytest.approx(total / lines, rel=1e-4)


def test_constant_tokens_step_at_their_borders_alone():
    tokens = images(1, 3, 4, 4).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    at_borders, elsewhere = token_border_steps(tokens, 8)
    assert float(at_borders) > 0
    assert float(elsewhere) == 0


def test_a_token_as_large_as_the_image_has_no_border():
    with pytest.raises(ValueError, match="token_px"):
        token_border_steps(images(1, 3, 8, 8), 8)


def test_standard_error_of_the_hit_rate_is_numpy_s_over_scenes():
    hits = images(11, 2) > 0.3
    rate = HitRate()
    rate.update(hits[:4])
    rate.update(hits[4:])
    per_scene = hits.float().mean(dim=1).numpy()
    value, error = rate.values()
    assert value == pytest.approx(per_scene.mean())
    assert error == pytest.approx(per_scene.std(ddof=1) / 11**0.5)


def test_one_scene_has_no_standard_error():
    one = torch.tensor(1.0)
    assert standard_error(one, one, one).isnan()


def test_a_uniform_blur_has_half_the_level_everywhere():
    rendering = Rendering(gamma=2.2, layers=21, reference_width_px=32.0)
    # A point of light between far and near planes of focus
    image = torch.zeros(2, 3, 32, 32)
    image[:, :, 16, 16] = 1.0
    camera = Cameras(torch.zeros(2, 2), torch.tensor([0.1, 0.9]), torch.tensor([8.0, 8.0]))
    blurred = uniform_blur(image, torch.full((2,), 32.0), camera, rendering)
    rows, columns = torch.nonzero(blurred[0, 0] > 0.01, as_tuple=True)
    distance_px = torch.hypot(rows.float() - 16, columns.float() - 16)
    assert float(distance_px.max()) == pytest.approx(4, abs=1)
    assert torch.allclose(blurred[0], blurred[1], atol=1e-4)
    half = bokeh_radius_px(torch.full((1, 1, 1, 1), 0.6), 0.1, 8.0, 32.0, 32.0)
    assert float(half.abs()) == pytest.approx(4)


def test_the_table_has_a_row_a_predictor_and_errors_of_hit_rates():
    numbers = {"mae": 0.25, "focus_hit_rate": 0.5, "focus_hit_rate_se": 0.125}
    lines = table({"model": {**numbers, "mae_oracle": 0.0}, "truth": numbers}, 3).splitlines()
    assert lines[0] == "| 3 scenes | mae | focus_hit_rate |"
    assert lines[2:] == [f"| {name} | 0.2500 | 0.5000 +- 0.125 |" for name in ("model", "truth")]


def test_counts_out_of_range_are_errors_that_name_the_option():
    with pytest.raises(UserError, match=r"^--count"):
        config_from(MeasureConfig, parser().parse_args(["--count", "0"]))
