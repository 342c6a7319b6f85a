"""Apertures that are not round, against loops, OpenCV's polygons and finite differences."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dofsuite.optics import (
    Aperture,
    DisparityLayers,
    Tile,
    bokeh_radius_px,
    display_to_linear,
    linear_to_display,
    render_bokeh,
)
from dofsuite.optics.layered import NEAR_PX
from tests.optics.photographs import photo_21, psnr_db

PENTAGON, HEXAGON = Aperture(blades=5, rotation_deg=17), Aperture(blades=6, rotation_deg=10)
CAT_EYE = Aperture(cat_eye=0.6)
BOTH = Aperture(blades=5, rotation_deg=-40, cat_eye=0.4)
SHAPES = [PENTAGON, HEXAGON, CAT_EYE, BOTH]


def corners(aperture, radius_px, side=1):
    """Corners [blades, (x, y)] around 0, y downwards; `side` is -1 in front of the focal plane."""
    degrees = aperture.rotation_deg + 360 * np.arange(aperture.blades) / aperture.blades
    angle = np.radians(degrees)
    return side * radius_px * np.stack([np.sin(angle), -np.cos(angle)], axis=1)


def gauge_px(aperture, u, shift):
    """How large the shape must be to hold the offset u = (x, y): by the normals of its sides, and
    by bisection until the displaced disc holds it.
    """
    polygon = math.hypot(*u)
    if aperture.blades:
        half_side = math.pi / aperture.blades
        first = math.radians(aperture.rotation_deg) + half_side
        normals = [first + 2 * half_side * side for side in range(aperture.blades)]
        across = max(math.sin(a) * u[0] - math.cos(a) * u[1] for a in normals)
        polygon = across / math.cos(half_side)
    low, high = 0.0, 100.0
    for _ in range(50):
        size = (low + high) / 2
        inside = math.dist(u, (size * shift[0], size * shift[1])) <= size
        low, high = (low, size) if inside else (size, high)
    return max(polygon, high)


def loop_reference(image, radius_px, aperture, tile):
    """The scatter for one item, pixel by pixel."""
    _, height, width = image.shape
    light, weight = np.zeros((3, height, width)), np.zeros((height, width))
    corner_px = math.hypot(tile.height_px - 1, tile.width_px - 1) / 2
    for y in range(height):
        for x in range(width):
            r, side = abs(radius_px[y, x]), -1 if radius_px[y, x] > 0 else 1
            from_center_x = x + tile.left_px - (tile.width_px - 1) / 2
            from_center_y = y + tile.top_px - (tile.height_px - 1) / 2
            toward = -aperture.cat_eye / corner_px
            shift = toward * from_center_x, toward * from_center_y
            reach = int(r) + 1
            for ty in range(max(0, y - reach), min(height, y + reach + 1)):
                for tx in range(max(0, x - reach), min(width, x + reach + 1)):
                    gauge = gauge_px(aperture, (side * (tx - x), side * (ty - y)), shift)
                    w = (0.5 + 0.5 * math.tanh(4 * (r - gauge))) / (r * r + 0.2)
                    light[:, ty, tx] += w * image[:, y, x]
                    weight[ty, tx] += w
    return light / weight


# `layered` renders small radii by taps, exactly.
@pytest.mark.parametrize("method", ["exact", "layered"])
@pytest.mark.parametrize("aperture", SHAPES)
def test_taps_equal_the_plain_loop(method, aperture):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 7, 6, generator=generator, dtype=torch.float64)
    radius_px = 7.8 * torch.rand(1, 1, 7, 6, generator=generator, dtype=torch.float64) - 3.9
    tile = Tile(top_px=2, left_px=9, height_px=20, width_px=16)
    rendered = render_bokeh(image, radius_px, method, aperture=aperture, tile=tile)
    expected = loop_reference(image[0].numpy(), radius_px[0, 0].numpy(), aperture, tile)
    assert np.allclose(rendered[0].numpy(), expected, atol=1e-9)


def highlight(method, aperture, signed_radius_px, at_yx, size=(81, 71)):
    """Where a bright point's light lies, at half of its height, as a mask."""
    image = torch.zeros(1, 3, *size)
    image[..., at_yx[0], at_yx[1]] = 1
    radius_px = torch.full((1, 1, *size), float(signed_radius_px))
    light = render_bokeh(image, radius_px, method, aperture=aperture)[0, 0]
    y, x = at_yx
    return (light > light[y - 1 : y + 2, x - 1 : x + 2].mean() / 2).numpy().astype(np.uint8)


def agree_within_a_pixel(mask, reference):
    square = np.ones((3, 3), np.uint8)
    assert not (mask & ~cv2.dilate(reference, square) & 1).any()
    assert not (cv2.erode(reference, square) & ~mask & 1).any()


@pytest.mark.parametrize("method", ["exact", "layered", "occlusion"])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("blades", "rotation_deg"), [(3, 0), (5, 25), (8, 200)])
def test_a_highlight_is_a_filled_polygon_reflected_in_front(method, sign, blades, rotation_deg):
    aperture = Aperture(blades, rotation_deg)
    points = corners(aperture, 12, side=-sign) + np.array([35, 40])
    reference = np.zeros((81, 71), np.uint8)
    # fillPoly takes whole numbers, here of 1/256 px
    cv2.fillPoly(reference, [np.round(256 * points).astype(np.int32)], 1, shift=8)
    agree_within_a_pixel(highlight(method, aperture, sign * 12, (40, 35)), reference)


@pytest.mark.parametrize("method", ["exact", "layered", "occlusion"])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("at_yx", [(15, 17), (40, 55), (65, 17)])
def test_a_cat_s_eye_is_two_discs_displaced_along_the_radial_direction(method, sign, at_yx):
    aperture = Aperture(cat_eye=0.8)
    y, x = at_yx
    toward_center = 0.8 / math.hypot(40, 35) * np.array([35 - x, 40 - y])
    clip_x, clip_y = (x, y) - sign * 12 * toward_center
    rows, columns = np.mgrid[:81, :71]
    disc = np.hypot(rows - y, columns - x) <= 12
    clip = np.hypot(rows - clip_y, columns - clip_x) <= 12
    mask = highlight(method, aperture, sign * 12, at_yx)
    agree_within_a_pixel(mask, (disc & clip).astype(np.uint8))


SLOW = [pytest.param(each, marks=pytest.mark.slow) for each in (*SHAPES[:3], Aperture(8))]


@pytest.mark.parametrize("aperture", [BOTH, *SLOW])
def test_layers_equal_taps_to_55_db_on_a_photograph(aperture):
    image, disparity = photo_21((256, 256))
    image_linear, radius_px = display_to_linear(image, 2.2), 40 * (disparity - 0.5)
    layered, exact = (
        linear_to_display(render_bokeh(image_linear, radius_px, method, aperture=aperture), 2.2)
        for method in ("layered", "exact")
    )
    print(f"{psnr_db(layered, exact):.1f} dB")
    assert psnr_db(layered, exact) >= 55


@pytest.mark.parametrize("aperture", [PENTAGON, CAT_EYE])
@pytest.mark.parametrize("radius", [-12.0, -1.0, 5.0])
def test_occlusion_of_one_radius_is_the_yardstick_s_blur(aperture, radius):
    image, _ = photo_21((80, 100))
    radius_px = torch.full_like(image[:, :1], radius)
    occluded, exact = (
        render_bokeh(image, radius_px, method, aperture=aperture)
        for method in ("occlusion", "exact")
    )
    print(f"{psnr_db(occluded, exact):.1f} dB")
    assert psnr_db(occluded, exact) >= 55


@pytest.mark.parametrize("aperture", [PENTAGON, BOTH])
def test_occlusion_renders_a_slanted_plane_as_without_it(aperture):
    image, _ = photo_21((64, 64))
    radius_px = torch.linspace(-6, 6, 64)[:, None].expand(1, 1, 64, 64)
    occluded, exact = (
        render_bokeh(image, radius_px, method, aperture=aperture)
        for method in ("occlusion", "exact")
    )
    print(f"{psnr_db(occluded, exact):.1f} dB")
    assert psnr_db(occluded, exact) >= 47


@pytest.mark.parametrize("method", ["exact", "layered", "occlusion"])
@pytest.mark.parametrize("almost", [Aperture(blades=2000), Aperture(cat_eye=1e-4)])
def test_almost_round_is_almost_the_round_rendering(method, almost, scene):
    rendered, round_one = (
        render_bokeh(*scene, method, aperture=aperture) for aperture in (almost, Aperture())
    )
    assert psnr_db(rendered, round_one) >= 80


@pytest.mark.parametrize("method", ["exact", "layered", "occlusion"])
@pytest.mark.parametrize("aperture", [BOTH])
def test_a_flat_image_stays_flat_to_its_border(method, aperture, scene):
    flat = torch.full((1, 3, 48, 40), 0.3)
    for radius_px in (scene[1], -2 * scene[1]):
        rendered = render_bokeh(flat, radius_px, method, num_layers=9, aperture=aperture)
        assert torch.allclose(rendered, flat, atol=3e-6)


@pytest.mark.parametrize("aperture", [PENTAGON, BOTH])
def test_a_tile_is_a_part_of_its_photograph(aperture, scene):
    image, radius_px = scene
    whole = render_bokeh(image, radius_px, "exact", aperture=aperture)
    for method, atol in (("exact", 1e-6), ("layered", 0.01)):
        tile = Tile(top_px=11, left_px=5, height_px=48, width_px=40)
        part = (..., slice(11, 45), slice(5, 38))
        rendered = render_bokeh(image[part], radius_px[part], method, aperture=aperture, tile=tile)
        inside = (..., slice(20, 36), slice(14, 29))
        ours = rendered[..., 9:25, 9:24]
        assert torch.allclose(ours, whole[inside], atol=atol)


@pytest.mark.parametrize("method", ["exact", "layered", "occlusion"])
def test_a_batch_equals_its_items(method, scene):
    aperture = BOTH
    images = torch.cat([scene[0], scene[0].flip(-1)])
    radii_px = torch.cat([scene[1], -2 * scene[1]])
    batch = render_bokeh(images, radii_px, method, num_layers=9, aperture=aperture)
    for item in range(2):
        alone = [each[item : item + 1] for each in (images, radii_px)]
        expected = render_bokeh(*alone, method, num_layers=9, aperture=aperture)
        # The windows of a batch are those of its largest radius.
        assert psnr_db(batch[item : item + 1], expected) >= (60 if method == "occlusion" else 100)


@pytest.mark.parametrize("method", ["exact", "layered", "occlusion"])
@pytest.mark.parametrize("aperture", [PENTAGON, BOTH])
def test_gradients_equal_finite_differences(method, aperture):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 3, 4, generator=generator, dtype=torch.float64)
    radius_px = NEAR_PX + 0.1 + 3 * torch.rand(1, 1, 3, 4, generator=generator).double()
    radius_px[..., ::2] *= -1
    # Fixed pixels of the largest radii hold the layers still.
    ends_px = torch.tensor([-9.0, 9.0, 9.0], dtype=torch.float64).reshape(1, 1, 3, 1)

    def render(image, radius_px):
        wide = torch.cat([image, image[..., :1]], dim=-1)
        radius = torch.cat([radius_px, ends_px], dim=-1)
        return render_bokeh(wide, radius, method, num_layers=4, aperture=aperture)

    inputs = (image.requires_grad_(), radius_px.requires_grad_())
    assert torch.autograd.gradcheck(render, inputs, fast_mode=True)


@pytest.mark.parametrize("aperture", [PENTAGON, HEXAGON])
def test_shared_layers_equal_the_yardstick(aperture, scene):
    image, disparity = scene[0], (scene[1] + 5) / 12
    layers = DisparityLayers(image, disparity, aperture=aperture)
    for level, focus in ((2, 0.5), (8, 0.0), (12, 0.7)):
        radius_px = bokeh_radius_px(disparity, focus, level, 512)
        exact = render_bokeh(image, radius_px, "exact", aperture=aperture)
        assert psnr_db(layers.render(level, focus, width_px=512), exact) >= 60


def test_a_shape_that_a_renderer_does_not_have_is_refused_by_name(scene):
    with pytest.raises(ValueError, match="exact, layered and occlusion"):
        render_bokeh(*scene, "gather", aperture=PENTAGON)
    with pytest.raises(ValueError, match="render_bokeh"):
        DisparityLayers(*scene, aperture=CAT_EYE)
    with pytest.raises(ValueError, match="photograph"):
        render_bokeh(*scene, aperture=CAT_EYE, tile=Tile(1, 0, 48, 40))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("blades", 1),
        ("blades", 2),
        ("blades", -3),
        ("rotation_deg", math.inf),
        ("cat_eye", 1.0),
        ("cat_eye", -0.1),
        ("cat_eye", math.nan),
    ],
)
def test_an_aperture_that_cannot_be_is_rejected_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        Aperture(**{field: value})


@pytest.mark.parametrize(
    ("method", "device"),
    [
        ("exact", "meta"),
        ("exact", "fake"),
        ("layered", "meta"),
        ("layered", "fake"),
        ("occlusion", "meta"),
        pytest.param("occlusion", "fake", marks=pytest.mark.slow),
    ],
)
def test_without_values_shapes_are_right(method, device):
    with FakeTensorMode() if device == "fake" else torch.device("meta"):
        image = torch.empty(1, 3, 24, 20, requires_grad=True)
        rendered = render_bokeh(image, torch.empty(1, 1, 24, 20), method, aperture=BOTH)
        rendered.sum().backward()
    assert rendered.shape == image.shape == image.grad.shape
