import pytest
import torch

from dofsuite.optics import render_bokeh
from dofsuite.optics.bokeh import METHODS


def test_unknown_method_names_the_ones_there_are():
    with pytest.raises(ValueError, match="exact, gather, layered, occlusion"):
        render_bokeh(torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4), method="gauss")


def test_fewer_than_two_layers_are_rejected():
    with pytest.raises(ValueError, match="num_layers"):
        render_bokeh(torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4), num_layers=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_radius_that_is_not_finite_is_rejected_by_name(value):
    radius_px = torch.zeros(1, 1, 4, 4)
    radius_px[0, 0, 1, 2] = value
    with pytest.raises(ValueError, match="radius_px"):
        render_bokeh(torch.rand(1, 3, 4, 4), radius_px)


@pytest.mark.parametrize("fft_dtype", [torch.bfloat16, torch.float16, torch.complex64])
def test_an_fft_in_another_precision_is_rejected_by_name(fft_dtype):
    with pytest.raises(ValueError, match="fft_dtype"):
        render_bokeh(torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4), fft_dtype=fft_dtype)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_renders_an_image_of_one_pixel(method):
    image = torch.rand(1, 3, 1, 1)
    assert torch.allclose(render_bokeh(image, torch.full((1, 1, 1, 1), 30.0), method=method), image)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_no_gradient_is_asked_for_none_is_made(method):
    assert not render_bokeh(
        torch.rand(1, 3, 4, 4), torch.ones(1, 1, 4, 4), method=method
    ).requires_grad
