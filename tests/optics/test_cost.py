"""Counted costs: FFTs against their closed forms, launches, waits, growth with the radius."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dofsuite.optics import DisparityLayers, disparity_layers, render_bokeh
from dofsuite.optics.cost import cost_of, lens_cost, lens_cycle_cost
from dofsuite.optics.layered import default_num_layers
from dofsuite.optics.meta import stated_radius


def test_arithmetic_is_counted_by_its_closed_forms():
    left, right = torch.rand(3, 4), torch.rand(4, 5)
    assert cost_of(lambda: left @ right).flop == 2 * 3 * 4 * 5
    assert cost_of(lambda: left + 1).flop == 12
    assert cost_of(lambda: left.T.reshape(12)).moved_bytes == 2 * left.nbytes  # one copy, no view
    image = torch.rand(2, 8, 16)
    cost = cost_of(lambda: torch.fft.irfft2(torch.fft.rfft2(image)))
    assert (cost.forward_ffts, cost.inverse_ffts) == (2, 2)
    assert cost.flop == 2 * 2.5 * image.numel() * 7


def test_memory_is_counted_at_its_peak():
    def call():
        first = torch.empty(1000)
        del first
        return torch.empty(500)

    assert cost_of(call).peak_bytes == 4000


def test_waits_are_counted():
    values = torch.rand(4)
    assert cost_of(lambda: float(values.max())).waits == 1
    assert cost_of(lambda: values[values > 2]).waits >= 1
    meta = torch.empty(4, device="meta")
    assert cost_of(lambda: meta + 1).waits == 0


@pytest.mark.parametrize("method", ["gather", "layered", "occlusion"])
def test_with_a_promised_range_no_method_waits_and_the_numbers_are_the_same(scene, method):
    image, radius_px = scene[0], 2 * scene[1]
    low_px, high_px = (end.item() for end in radius_px.aminmax())
    range_px = {"radius_range_px": (low_px, high_px), "num_layers": 7}
    expected = render_bokeh(image, radius_px, method=method, **range_px)
    leaf, radius = image.clone().requires_grad_(), radius_px.clone().requires_grad_()
    rendered = []

    def step():
        rendered.append(render_bokeh(leaf, radius, method=method, reads_radius=False, **range_px))
        rendered[0].sum().backward()

    assert cost_of(step).waits == 0
    assert torch.allclose(rendered[0], expected, atol=1e-6)


def test_layered_takes_four_ffts_a_layer_forward_and_backward():
    cost = lens_cost("layered", 128, 128, 20)
    layers = default_num_layers(20)
    assert (cost.forward_ffts, cost.inverse_ffts) == (4 * layers + 4, 4 * layers + 4)


@pytest.mark.slow
def test_at_full_size_cost_grows_at_most_as_stated():
    for method, most in (("gather", 11), ("occlusion", 2), ("layered", 2)):
        small, large = (lens_cost(method, 1024, 1024, radius).flop for radius in (20, 200))
        assert large / small <= most, method


def variants_of(number):
    levels = torch.linspace(9, 20, number)[:, None]
    planes = torch.linspace(0, 1, number)[:, None]
    image, disparity = torch.rand(1, 3, 40, 36), torch.rand(1, 1, 40, 36)
    layers = DisparityLayers(image, disparity, 21, largest_radius_px=20, reads_radius=False)
    cost = cost_of(lambda: list(layers.render_variants(levels, planes, width_px=512)))
    return layers, cost


def test_all_variants_share_4_l_forward_ffts_and_what_is_launched_for_a_chunk(monkeypatch):
    costs = []
    for number in (1, 3, 12):
        layers, cost = variants_of(number)
        assert layers.variants_at_once >= 12
        assert (cost.forward_ffts, cost.inverse_ffts) == (4 * 21, 4 * number)
        assert cost.waits == 0
        costs.append(cost)
    assert len({cost.launches for cost in costs}) == 1
    # Two chunks: the product, not the FFTs, is launched twice.
    monkeypatch.setitem(disparity_layers.VALUES_AT_ONCE, "cpu", 8 * 21 * 60 * 31)
    layers, cost = variants_of(12)
    assert layers.variants_at_once < 12
    assert cost.forward_ffts == 4 * 21


def test_a_promised_radius_gives_the_same_variants():
    image, disparity = torch.rand(2, 3, 40, 36), torch.rand(2, 1, 40, 36)
    levels = torch.tensor([[2.0, 14.0], [17.0, 9.0], [1.0, 3.0]])
    planes = torch.tensor([[0.2, 1.0], [0.0, 0.7], [0.5, 0.5]])
    reading, promised = (
        DisparityLayers(image, disparity, largest_radius_px=20, reads_radius=reads)
        for reads in (True, False)
    )
    expected, got = (
        torch.cat(list(layers.render_variants(levels, planes, width_px=512)))
        for layers in (reading, promised)
    )
    assert torch.allclose(got, expected, atol=1e-6)
    one = reading.render(levels[1], planes[1], width_px=512)
    assert torch.allclose(got[1], one, atol=1e-6)


def test_tensors_without_values_are_counted_at_the_stated_radius():
    image, radius = (torch.empty(1, channels, 8, 8, device="meta") for channels in (3, 1))
    with stated_radius(20):
        cost = cost_of(lambda: render_bokeh(image, radius, "layered"))
    assert cost.forward_ffts == 4 * default_num_layers(20)


@pytest.mark.slow
def test_a_step_at_a_stated_radius_has_the_lens_s_own_peak_and_a_cycle_five_photographs():
    with FakeTensorMode(), stated_radius(12):
        image = torch.empty(1, 3, 64, 64, requires_grad=True)
        radius = torch.empty(1, 1, 64, 64, requires_grad=True)
        step = cost_of(lambda: render_bokeh(image, radius, "gather").sum().backward())
    cycle = lens_cycle_cost("gather", 64, 64, 12)
    assert step.peak_bytes == pytest.approx(cycle.peak_bytes, rel=0.05)
    assert cycle.flop == cycle.generator_step.flop + 4 * cycle.critic_step.flop
    assert cycle.critic_step.flop < cycle.generator_step.flop
