import pytest
import torch

from dofsuite.optics import DisparityLayers, bokeh_radius_px, render_bokeh
from tests.optics.photographs import psnr_db


@pytest.fixture
def two_items(scene):
    image, radius_px = scene
    disparity = (radius_px - radius_px.min()) / (radius_px.max() - radius_px.min())
    return torch.cat([image, image.flip(-1)]), torch.cat([disparity, 1 - disparity])


def exact(image, disparity, level, focus, width_px=512):
    return render_bokeh(image, bokeh_radius_px(disparity, focus, level, width_px), method="exact")


@pytest.mark.parametrize(("level", "focus"), [(2, 0.5), (8, 0.0), (12, 0.7)])
def test_a_variant_equals_the_yardstick_s(two_items, level, focus):
    rendered = DisparityLayers(*two_items).render(level, focus, width_px=512)
    assert rendered.shape == (2, 3, 48, 40)
    assert psnr_db(rendered, exact(*two_items, level, focus)) > 60


def test_small_radii_are_rendered_exactly(two_items):
    rendered = DisparityLayers(*two_items, layers=2).render(
        20.0, 0.4
    )  # 48 px wide: at most 1.1 px of blur
    assert torch.allclose(rendered, exact(*two_items, 20.0, 0.4, width_px=48), atol=1e-6)


def test_levels_planes_and_widths_of_each_item(two_items):
    layers = DisparityLayers(*two_items)
    level, focus, width_px = (
        torch.tensor([3.0, 12.0]),
        torch.tensor([0.9, 0.2]),
        torch.tensor([512.0, 400.0]),
    )
    both = layers.render(level, focus, width_px)
    for item in range(2):
        alone = DisparityLayers(*(t[item : item + 1] for t in two_items))
        expected = alone.render(level[item].item(), focus[item].item(), width_px[item].item())
        assert (
            psnr_db(both[item : item + 1], expected) > 70
        )  # a small level is exact alone, by layers in this batch


def test_variants_do_not_depend_on_those_rendered_before(two_items):
    layers = DisparityLayers(*two_items, largest_radius_px=5)
    first = layers.render(6, 0.0, width_px=512)
    layers.render(15, 1.0, width_px=512)
    assert torch.allclose(layers.render(6, 0.0, width_px=512), first, atol=1e-6)


def test_layer_ffts_are_shared_by_all_variants(two_items, monkeypatch):
    transformed = []
    forward = torch.fft.rfft2
    monkeypatch.setattr(
        torch.fft, "rfft2", lambda x, s: transformed.append(x[..., 0, 0].numel()) or forward(x, s=s)
    )
    layers = DisparityLayers(*two_items, layers=31, largest_radius_px=20)
    for level in (6, 20, 12):
        layers.render(level, 0.3, width_px=512)
    assert sum(transformed) == 2 * 4 * 31


def test_half_precision_and_gradients(two_items):
    image, disparity = two_items
    assert (
        DisparityLayers(image.bfloat16(), disparity.bfloat16()).render(9, 0.5, width_px=512).dtype
        == torch.bfloat16
    )
    image.requires_grad_()
    disparity.requires_grad_()
    DisparityLayers(image, disparity).render(9, 0.5, width_px=512).square().sum().backward()
    assert torch.isfinite(image.grad).all()
    assert torch.isfinite(disparity.grad).all()


def test_fewer_than_two_layers_are_rejected(two_items):
    with pytest.raises(ValueError, match="layers"):
        DisparityLayers(*two_items, layers=1)
