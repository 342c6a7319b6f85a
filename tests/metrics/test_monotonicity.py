import cv2
import numpy as np
import pytest
import skimage.data
import torch

from dofsuite.metrics import BlurMonotonicity, blur_energy, blur_monotonicity
from dofsuite.optics import display_to_linear, linear_to_display, render_bokeh

F_NUMBERS = [1.8, 2.8, 4, 5.6, 8, 11, 16, 22]
MODES = ["paper", "ac", "high_band", "laplacian"]


def photograph(name, size=96):
    image = cv2.resize(getattr(skimage.data, name)(), (size, size), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def perfect_lens(gamma, names=("astronaut", "coffee", "chelsea", "rocket")):
    """Photographs, each focused on three planes of a ramp at eight f-numbers, blurred as light:
    [12, 8, 3, h, w].
    """
    disparity = torch.linspace(0, 1, 96)[:, None].expand(1, 1, 96, 96)
    sweeps = []
    for name in names:
        light = display_to_linear(photograph(name), gamma)
        for focus in (0.2, 0.5, 0.8):
            radii = [14 * F_NUMBERS[0] / f_number * (disparity - focus) for f_number in F_NUMBERS]
            sweeps.append(
                linear_to_display(
                    torch.cat([render_bokeh(light, radius) for radius in radii]), gamma
                )
            )
    return torch.stack(sweeps)


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 5), (64, 63)])
def test_energies_are_those_of_the_whole_spectrum(size):
    images = torch.rand(
        2, 3, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    spectrum = np.abs(np.fft.fft2(images.numpy())) ** 2
    assert blur_energy(images).numpy() == pytest.approx(spectrum.sum((-3, -2, -1)), rel=1e-12)
    without_mean = spectrum.sum((-3, -2, -1)) - spectrum[..., 0, 0].sum(-1)
    assert blur_energy(images, "ac").numpy() == pytest.approx(without_mean, rel=1e-12)
    radius = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1]))
    band = (spectrum * (radius >= 0.25)).sum((-3, -2, -1))
    assert blur_energy(images, "high_band").numpy() == pytest.approx(band, rel=1e-12)


def test_the_energy_of_torch_s_own_fft_agrees_to_rounding():
    image = photograph("astronaut").double()
    spectrum = torch.fft.fft2(image)
    assert blur_energy(image).item() == pytest.approx(
        spectrum.abs().square().sum().item(), rel=1e-13
    )


def test_laplacian_energy_is_opencv_s_variance():
    gray = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    image = torch.from_numpy(gray).float().expand(3, 20, 30) / 255
    assert blur_energy(image, "laplacian").item() == pytest.approx(
        cv2.Laplacian(gray, cv2.CV_64F).var(), rel=1e-12
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pairs", ["adjacent", "all"])
def test_it_is_the_share_counted_in_a_loop(mode, pairs):
    sweep = torch.rand(5, 4, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    rises = count = 0
    for scene in sweep:
        energy = [blur_energy(image, mode).item() for image in scene]
        for i in range(4):
            for j in range(i + 1, 4):
                if pairs == "all" or j == i + 1:
                    rises, count = rises + (energy[j] > energy[i]), count + 1
    assert blur_monotonicity(sweep, mode, pairs).item() == pytest.approx(rises / count, rel=1e-12)
    assert 0 < rises < count


def test_a_lens_that_blurs_display_values_is_perfect_in_every_mode():
    sweep = perfect_lens(gamma=1)
    assert {mode: blur_monotonicity(sweep, mode, "all").item() for mode in MODES} == dict.fromkeys(
        MODES, 1.0
    )


def test_a_lens_that_blurs_light_fails_by_the_papers_energy_and_is_perfect_without_the_mean():
    sweep = perfect_lens(gamma=2.2)
    score = blur_monotonicity(sweep).item()
    print(f"paper mode, linear light at gamma 2.2: {score:.3f}")
    assert score <= 0.12
    without_mean = [mode for mode in MODES if mode != "paper"]
    scores = {mode: blur_monotonicity(sweep, mode, "all").item() for mode in without_mean}
    assert scores == dict.fromkeys(without_mean, 1.0)


def test_where_small_lights_grow_only_fine_detail_tells():
    # a rocket's flame and a dark sky at gamma 4: opening the lens makes the flame large, and the
    # image's variance too
    sweep = perfect_lens(gamma=4, names=["rocket"])
    assert blur_monotonicity(sweep, "paper") == 0
    assert blur_monotonicity(sweep, "ac") < 0.5
    assert blur_monotonicity(sweep, "high_band") == blur_monotonicity(sweep, "laplacian") == 1


def test_one_percent_of_brightness_turns_the_papers_order_and_no_other():
    sharp = photograph("astronaut")
    blurred = render_bokeh(sharp, torch.full((1, 1, 96, 96), 0.8)) * 1.01
    sweep = torch.stack([blurred, sharp], dim=1)
    assert {mode: blur_monotonicity(sweep, mode).item() for mode in MODES} == {
        "paper": 0.0
    } | dict.fromkeys(MODES[1:], 1.0)


@pytest.mark.parametrize("mode", MODES)
def test_ties_fail_and_their_share_is_told(mode):
    scene = torch.rand(1, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    contrast = torch.tensor([0.2, 0.2, 1.0]).reshape(1, 3, 1, 1, 1)
    metric = BlurMonotonicity([4, 8, 16], mode)
    metric.update(scene[:, None] * contrast)
    with pytest.warns(UserWarning, match=r"50\.0% of the pairs are ties"):
        assert metric.compute() == 0.5
    assert metric.ties() == 0.5
    with pytest.warns(UserWarning, match="ties"):
        assert blur_monotonicity(scene[:, None] * contrast, mode) == 0.5


@pytest.mark.parametrize("mode", ["ac", "high_band", "laplacian"])
def test_flat_images_of_any_brightness_are_ties(mode):
    flat = (
        torch.linspace(0, 1, 7, dtype=torch.float64).reshape(1, 7, 1, 1, 1).expand(1, 7, 3, 31, 33)
    )
    metric = BlurMonotonicity(mode=mode)
    metric.update(flat)
    assert metric.ties() == 1


def test_the_same_pixels_in_another_order_tie_by_the_papers_energy():
    image = torch.rand(1, 3, 97, 89, generator=torch.Generator().manual_seed(0))
    metric = BlurMonotonicity()
    metric.update(
        torch.stack([image, image.flip(-1), image.transpose(1, 2).reshape(1, 3, 97, 89)], dim=1)
    )
    assert metric.ties() == 1


@pytest.mark.usefixtures("as_users_run_it")
def test_mistakes_are_rejected_by_name():
    sweep = torch.rand(2, 3, 3, 9, 8)
    with pytest.raises(
        ValueError, match=r"preds must be \[batch, settings, 3, h, w\] with at least two"
    ):
        BlurMonotonicity().update(sweep[:, :1])
    with pytest.raises(ValueError, match="2 settings"):
        BlurMonotonicity([2, 4]).update(sweep)
    with pytest.raises(ValueError, match="f_numbers"):
        BlurMonotonicity([4, 2, 8])
    with pytest.raises(ValueError, match="mode must be one of paper, ac"):
        BlurMonotonicity(mode="fft")
    with pytest.raises(ValueError, match="pairs must be one of adjacent, all"):
        BlurMonotonicity(pairs="first")
    with pytest.raises(ValueError, match="pairs must be one of"):
        blur_monotonicity(sweep, pairs="last")
    with pytest.raises(ValueError, match="preds must be finite"):
        BlurMonotonicity().update(sweep.masked_fill(sweep > 0.99, torch.nan))
