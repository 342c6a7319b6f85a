"""Tone curves of color profiles against the sRGB formula, powers, and LittleCMS."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from dofsuite.optics import linear_to_srgb, srgb_to_linear
from dofsuite.photography.tone_curve import SRGB, tone_curves
from tests.photography.color_profiles import (
    P3,
    SRGB_CURVE,
    gamma_curve,
    parametric,
    rgb_profile,
    sampled,
)

VALUES = torch.linspace(0, 1, 256, dtype=torch.float64)


def test_the_srgb_curve_is_the_one_of_optics():
    torch.testing.assert_close(SRGB.to_linear(VALUES), srgb_to_linear(VALUES), atol=1e-7, rtol=0)
    torch.testing.assert_close(SRGB.from_linear(VALUES), linear_to_srgb(VALUES), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (gamma_curve(2.2), lambda v: v ** (round(256 * 2.2) / 256)),
        (b"curv" + bytes(8), lambda v: v),
        (parametric(0, 1.8), lambda v: v**1.8),
        (parametric(1, 2.0, 1.25, -0.25), lambda v: (1.25 * v - 0.25).clamp(min=0) ** 2),
        (
            parametric(2, 2.0, 0.75, -0.25, 0.125),
            lambda v: (0.75 * v - 0.25).clamp(min=0) ** 2 + 0.125,
        ),
        (SRGB_CURVE, srgb_to_linear),
        (
            parametric(4, 2.0, 0.9, 0.1, 0.5, 0.25, 0.0, 0.0),
            lambda v: torch.where(v >= 0.25, (0.9 * v + 0.1) ** 2, 0.5 * v),
        ),
        (sampled([0, 0.25, 0.5, 1]), lambda v: torch.where(v < 2 / 3, 0.75 * v, 1.5 * v - 0.5)),
    ],
    ids=["gamma", "identity", "type 0", "type 1", "type 2", "type 3", "type 4", "samples"],
)
def test_every_kind_of_curve_is_read_as_the_standard_says(curve, expected):
    curves = tone_curves(rgb_profile(curve=curve))
    assert curves is not None
    assert len(curves) == 3
    torch.testing.assert_close(curves[0].to_linear(VALUES), expected(VALUES), atol=4e-5, rtol=0)


@pytest.mark.parametrize(
    "curve", [gamma_curve(2.2), SRGB_CURVE, sampled((VALUES**2.2).tolist())], ids=[0, 1, 2]
)
def test_encoding_undoes_decoding(curve):
    (red, _, _) = tone_curves(rgb_profile(curve=curve))
    light = red.to_linear(VALUES)
    torch.testing.assert_close(red.to_linear(red.from_linear(light)), light, atol=1e-8, rtol=0)
    # 16 bits of light hold the darkest steps of a sampled curve as one.
    torch.testing.assert_close(red.from_linear(light)[8:], VALUES[8:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("damaged", [b"", bytes(200), rgb_profile()[:150]], ids=len)
def test_a_profile_without_curves_gives_none(damaged):
    assert tone_curves(damaged) is None


def test_light_agrees_with_littlecms():
    """Display P3 to sRGB through our light and the profile's primaries, against ImageCms."""
    red, green, blue = np.meshgrid(*[np.arange(64, 224, 32)] * 3)
    stored = np.stack([red, green, blue], -1).reshape(1, -1, 3).astype(np.uint8)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile()))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    converted = ImageCms.profileToProfile(Image.fromarray(stored), profile, srgb)
    # By hand: light in P3, to XYZ, to light in sRGB, to sRGB values
    curves = tone_curves(rgb_profile())
    light = curves[0].to_linear(torch.from_numpy(stored / 255.0)).numpy()
    to_xyz = np.array(P3).T
    from tests.photography.color_profiles import SRGB_PRIMARIES

    light_srgb = light @ (np.linalg.inv(np.array(SRGB_PRIMARIES).T) @ to_xyz).T
    inside = ((light_srgb > 0) & (light_srgb < 1)).all(-1)
    expected = 255 * linear_to_srgb(torch.from_numpy(light_srgb)).numpy()
    assert inside.sum() > 80
    assert np.abs(expected - np.asarray(converted))[inside].max() <= 1.0
