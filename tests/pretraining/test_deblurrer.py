"""The deblurrer: its inputs against SciPy's convolution, its tiles, its training from the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter
from scipy.optimize import minimize
from scipy.special import softmax
from torch import nn

from dofsuite.backbones import DeblurModel, SmallDeblur
from dofsuite.backbones.perception.inverse_discs import InverseDiscs, log_gradients
from dofsuite.backbones.perception.radius_choice import (
    CELL_EXPONENT,
    cell_probabilities,
    image_shares,
    mixture_weights,
)
from dofsuite.backbones.small.deblur import save_deblur
from dofsuite.data import RandomSceneData
from dofsuite.data.synthetic.photographs import photograph
from dofsuite.data.synthetic.scene_data import HELD_OUT
from dofsuite.errors import UserError
from dofsuite.fit import main as fit
from dofsuite.optics import linear_to_srgb, srgb_to_linear
from dofsuite.pretraining import Deblurring
from dofsuite.pretraining.deblurrer import radius_loss
from dofsuite.pretraining.defocused import (
    Defocus,
    defocused,
    draw_noise_std,
    draw_radius_px,
    photographed,
    softened,
    with_noise,
)
from tests.cpu_trainer import cpu_trainer

YAML = Path(__file__).parents[2] / "experiments" / "pretraining" / "small_deblur.yaml"
DEFOCUS = Defocus()


def disc(radius_px: float, samples: int = 15) -> np.ndarray:
    """A disc's kernel, the share of each pixel that lies in it."""
    reach = int(radius_px) + 1
    steps = (np.arange((2 * reach + 1) * samples) + 0.5) / samples - reach - 0.5
    inside = np.hypot(steps[:, None], steps[None, :]) <= radius_px
    kernel = inside.reshape(2 * reach + 1, samples, 2 * reach + 1, samples).mean((1, 3))
    return kernel / kernel.sum()


@pytest.fixture(scope="module")
def untrained() -> DeblurModel:
    """Weights that are not zero, so that every pixel depends on all that it can see."""
    model = small()
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.15
    return model


def small() -> DeblurModel:
    return SmallDeblur(
        weights=None, width=4, blocks=(1, 1), middle_blocks=1, radii=3, reach_px=16, choice_width=4
    ).load()


def test_a_new_network_returns_its_input_but_for_a_hundredth() -> None:
    image = torch.rand(1, 3, 21, 34)
    change = (SmallDeblur(weights=None).load()(image) - image).abs()
    assert change.mean() < 0.003
    # Without a doubt that it is sharp, to the rounding of the tone curve
    model = small()
    model.network.choice.last.bias.data[0] = 10
    torch.testing.assert_close(model(image), image, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(70, 131), (40, 40), (128, 64)])
def test_tiles_give_what_the_whole_gives(untrained: DeblurModel, height: int, width: int) -> None:
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    whole = untrained(image[None])[0].clamp(0, 1)
    done: list[tuple[int, int]] = []
    tiles = untrained.restore(image, tile_px=30, on_tile=lambda *count: done.append(count))
    assert (tiles - image).abs().max() > 0.05
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-4)
    assert len(done) == done[-1][0] == done[-1][1] == 2 * -(-height // 32) * -(-width // 32)


def test_nothing_is_seen_beyond_the_margin(untrained: DeblurModel) -> None:
    reach_px = untrained.network.choice_reach_px + untrained.network.reach_px
    image = torch.rand(1, 3, 32, 48 + reach_px + 64)
    changed = image.clone()
    changed[..., 48 + reach_px + 16 :] = 0
    # But for the shares of the whole image
    shares = torch.full((1, 4), 0.25)
    results = []
    for one in (image, changed):
        choice = untrained.network.chosen(one, 16)
        results.append(untrained.network.restored(one, choice, 16, shares).image)
    difference = (results[0] - results[1]).abs().amax((0, 1, 2))
    # What the transforms round
    assert difference[:48].max() < 1e-5
    assert difference[-8:].max() > 0.01


def test_one_disc_is_a_convolution_of_light() -> None:
    image = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    blurred = photographed(image, torch.full((1, 1, 48, 48), 4.0))
    light = srgb_to_linear(image[0]).numpy()
    expected = linear_to_srgb(torch.from_numpy(np.stack([convolve(x, disc(4)) for x in light])))
    inside = slice(6, -6)
    difference = (blurred[0] - expected)[..., inside, inside].abs()
    assert difference.max() < 0.02
    assert (blurred[0] - image[0])[..., inside, inside].abs().max() > 0.3


def test_radii_are_none_one_or_by_depth_in_the_shares_that_are_set() -> None:
    disparity = torch.linspace(0, 1, 16).expand(400, 1, 4, 16)
    radius_px = draw_radius_px(disparity, DEFOCUS, 0, range(400))
    largest = radius_px.abs().amax((1, 2, 3))
    is_one = radius_px.amax((1, 2, 3)) - radius_px.amin((1, 2, 3)) == 0
    assert abs(float((largest == 0).float().mean()) - DEFOCUS.sharp_share) < 0.05
    assert abs(float((is_one & (largest > 0)).float().mean()) - DEFOCUS.uniform_share) < 0.08
    low, high = DEFOCUS.radius_px
    assert low - 1e-4 <= largest[largest > 0].min() < 1
    assert 8 < largest.max() <= high + 1e-4
    # By depth it is affine in the disparity
    torch.testing.assert_close(
        radius_px.diff(n=2, dim=-1), torch.zeros(400, 1, 4, 14), atol=1e-5, rtol=0
    )
    assert torch.equal(draw_radius_px(disparity[5:6], DEFOCUS, 0, [5]), radius_px[5:6])


def test_noise_has_the_level_that_is_drawn_and_files_have_8_bits() -> None:
    std = draw_noise_std(DEFOCUS, 0, range(400))
    assert abs(float((std == 0).float().mean()) - DEFOCUS.clean_share) < 0.07
    assert 0.9 * DEFOCUS.noise_std < std.max() <= DEFOCUS.noise_std
    gray = torch.full((2, 3, 64, 64), 0.5)
    noisy = with_noise(gray, torch.tensor([0.0, 0.02]), 0, [0, 1])
    assert noisy[0].std() == 0
    assert abs(float(noisy[1].std()) - 0.02) < 0.001
    torch.testing.assert_close(noisy * 255, (noisy * 255).round(), rtol=0, atol=1e-4)


def test_soft_scenes_are_convolved_with_a_normal_distribution() -> None:
    image = torch.rand(40, 3, 20, 20, generator=torch.Generator().manual_seed(3))
    soft = softened(image, replace(DEFOCUS, soft_std_px=(0.7, 0.7)), 0, range(40))
    expected = gaussian_filter(image.numpy(), (0, 0, 0.7, 0.7), mode="nearest", radius=(0, 0, 3, 3))
    is_soft = (soft != image).flatten(1).any(1)
    assert abs(float(is_soft.float().mean()) - DEFOCUS.soft_share) < 0.15
    np.testing.assert_allclose(soft[is_soft], expected[is_soft], atol=1e-5)
    assert torch.equal(soft[~is_soft], image[~is_soft])


def test_what_no_inverse_undoes_stays_in_the_target() -> None:
    scenes = torch.rand(30, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    disparity = torch.linspace(0, 1, 32).expand(30, 1, 32, 32)
    beyond = replace(DEFOCUS, beyond_share=1.0, soft_share=0.0)
    blurred = defocused(scenes, disparity, beyond, 0, range(30))
    is_undone = blurred.radius_px.expand_as(scenes) > 0
    assert torch.equal(blurred.target[is_undone], scenes[is_undone])
    assert torch.equal(blurred.target[~is_undone], blurred.given[~is_undone])
    assert blurred.radius_px.max() <= DEFOCUS.radius_px[1]
    # All of the frame, what is near, and discs of which the smaller ones are undone
    change = (blurred.given - scenes).abs().amax((1, 2))
    is_normal = ~is_undone.flatten(1).any(1)
    far_stays = is_normal & (change[:, :16].amax(1) < 1e-5)
    assert 0 < far_stays.sum() < is_normal.sum() < 30
    assert change[:, 16:].amax(1).min() > 0.1
    # The share that is drawn
    usual = replace(DEFOCUS, soft_share=0.0)
    blurred = defocused(scenes, disparity, usual, 0, range(30))
    stays = (blurred.target - scenes).flatten(1).abs().amax(1) > 0
    assert 0 < stays.float().mean() < 2 * usual.beyond_share


def test_inverses_are_applied_as_scipy_convolves() -> None:
    light = torch.rand(1, 3, 40, 57, generator=torch.Generator().manual_seed(4))
    inverses = InverseDiscs([1.5, 3.0], 12)
    for number, filtered in enumerate(inverses.filtered(light, 12)):
        for level in range(2):
            kernel = inverses.kernels[number, level].numpy()
            for channel in range(3):
                expected = convolve(light[0, channel].numpy(), kernel, mode="nearest")
                np.testing.assert_allclose(filtered[0, level, channel], expected, atol=2e-5)


@pytest.mark.parametrize(("radius_px", "least_db"), [(2.0, 3.0), (4.0, 2.5)])
def test_the_inverse_of_the_right_radius_restores_and_that_of_a_wrong_one_does_not(
    radius_px: float, least_db: float
) -> None:
    values = np.asarray(photograph("coffee")).transpose(2, 0, 1)[:, 100:356, 100:356] / 255
    light = srgb_to_linear(torch.from_numpy(values)).numpy()
    blurred = np.stack([convolve(channel, disc(radius_px)) for channel in light])
    given = torch.from_numpy(np.round(blurred * 1023) / 1023)[None].float()
    gains = []
    for filtered in InverseDiscs([radius_px, 1.4 * radius_px], 48).filtered(given, 48):
        inside = (..., slice(16, -16), slice(16, -16))
        before = np.square(given[0].numpy() - light)[inside].mean()
        after = np.square(filtered[0, 0].numpy() - light)[inside].mean()
        gains.append(10 * np.log10(before / after))
    assert gains[0] > least_db
    assert gains[1] < 0


def test_gradients_of_a_cell_are_those_of_a_loop() -> None:
    light = np.random.default_rng(0).random((8, 16)).astype(np.float32)
    squares, sums = np.zeros(2), np.zeros(2)
    for y in range(8):
        for x in range(16):
            for step in (
                light[y, x + 1] - light[y, x] if x < 15 else 0.0,
                light[y + 1, x] - light[y, x] if y < 7 else 0.0,
            ):
                sums[x // 8] += abs(step)
                squares[x // 8] += step**2
    found = log_gradients(torch.from_numpy(light)[None, None], 8)[0, :, 0].numpy()
    expected = [np.log(sums / 64 + 1e-3), np.log(squares / 64 + 1e-6) / 2]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_loss_of_the_radius_is_a_cross_entropy_of_neighbors() -> None:
    radii_px = [1.0, 2.0, 4.0]
    logits = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(5))
    log_p = logits.log_softmax(1)[0]
    # A cell each: none, one of the bank, between two, half none and half above the largest
    radius_px = torch.zeros(1, 1, 4, 4)
    radius_px[..., :2, 2:] = 2.0
    radius_px[..., 2:, :2] = 2 * 2**0.25
    radius_px[..., 2:, 3] = 9.0
    of_cells = [
        -log_p[0, 0, 0],
        -log_p[2, 0, 1],
        -(0.75 * log_p[2, 1, 0] + 0.25 * log_p[3, 1, 0]),
        -(log_p[0, 1, 1] + log_p[3, 1, 1]) / 2,
    ]
    loss = radius_loss(logits, radius_px, radii_px)
    torch.testing.assert_close(loss, torch.stack(of_cells).mean())


def test_shares_of_the_radii_are_the_most_likely_ones() -> None:
    likelihoods = torch.rand(1, 4, 6, 8, generator=torch.Generator().manual_seed(8))
    likelihoods[:, 1, :4] += 6
    likelihoods[:, 3, 4:] += 6
    shares = image_shares(likelihoods)[0].double().numpy()
    flat = likelihoods[0].flatten(1).double().numpy() ** CELL_EXPONENT

    def loss(logits: np.ndarray) -> float:
        return -float(np.log(softmax(logits) @ flat).sum())

    best = softmax(minimize(loss, np.zeros(4)).x)
    np.testing.assert_allclose(shares, best, atol=0.02)
    assert shares[1] > shares[3] > 0.2
    # A cell takes what is there, by its own likelihood
    probabilities = cell_probabilities(likelihoods, torch.tensor([[0.5, 0.0, 0.0, 0.5]]))
    of_cell = likelihoods[0, :, 0, 0]
    assert probabilities[0, 0, 0, 0] == pytest.approx(float(of_cell[0] / (of_cell[0] + of_cell[3])))
    assert probabilities[0, 1].max() == 0
    # In doubt it stays sharp
    weights = mixture_weights(likelihoods, torch.tensor([[0.5, 0.0, 0.0, 0.5]]))[0, :, 0, 0]
    assert weights[0] / weights[3] == pytest.approx(10 * float(of_cell[0] / of_cell[3]))


def test_features_are_white_after_calibration() -> None:
    choice = small().network.choice
    mixed = torch.randn(14, 14, generator=torch.Generator().manual_seed(6))
    source = torch.randn(14, 3000, generator=torch.Generator().manual_seed(7))
    features = (mixed @ source + 3).reshape(1, 14, 30, 100)
    choice.calibrate(features)
    white = choice.whitening @ (features[0].flatten(1) - choice.mean[:, None])
    np.testing.assert_allclose(np.cov(white.numpy()), np.eye(14), atol=0.05)


def test_a_saved_network_is_the_same_to_16_bits(untrained: DeblurModel, tmp_path: Path) -> None:
    save_deblur(untrained, tmp_path)
    image = torch.rand(1, 3, 32, 32)
    again = SmallDeblur(weights=str(tmp_path)).load()
    before = untrained(image)
    assert (again(image) - before).abs().max() < 0.005 * before.abs().max()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="this is no deblurrer"):
        SmallDeblur(weights=str(tmp_path)).load()


def test_the_packaged_deblurrer_restores_photographs_that_it_was_not_trained_on() -> None:
    """Behind SciPy's disc, at the center of each, in dB; docs/photographs.md has the full size."""
    model, gains = SmallDeblur().load(), {}
    for name in HELD_OUT:
        values = np.asarray(photograph(name)).transpose(2, 0, 1)[:, 40:232, 100:292] / 255
        light = srgb_to_linear(torch.from_numpy(values)).numpy()
        inside = (..., slice(16, -16), slice(16, -16))
        for radius_px in (0.0, 2.0, 4.0, 8.0):
            blurred = light
            if radius_px:
                blurred = np.stack([convolve(channel, disc(radius_px)) for channel in light])
            given = linear_to_srgb(torch.from_numpy(blurred)).mul(255).round().div(255).float()
            after = np.square(model.restore(given).numpy() - values)[inside].mean()
            before = np.square(given.numpy() - values)[inside].mean()
            if radius_px:
                gains.setdefault(radius_px, []).append(10 * np.log10(before / after))
            else:
                assert -10 * np.log10(after) > 40
    means = {radius_px: np.mean(of_radius) for radius_px, of_radius in gains.items()}
    assert means[2.0] > 3
    assert means[4.0] > 2
    assert means[8.0] > 1


def test_three_steps_learn_validate_and_export(tmp_path: Path) -> None:
    backbone = SmallDeblur(
        weights=None, width=4, blocks=(1,), middle_blocks=1, radii=3, reach_px=16, choice_width=4
    )
    module = Deblurring(backbone=backbone, calibration_batches=2, radius_steps=1)
    data = RandomSceneData(batch_size=2, size_px=56, val_size_px=64)
    trainer = cpu_trainer(tmp_path, 3, [], limit_val_batches=1, val_check_interval=3)
    trainer.fit(module, datamodule=data)
    assert data.samples_seen == 6
    assert {"val/gain_r2_n0", "val/gain_r8_n2", "val/psnr_r0_n0"} <= set(trainer.logged_metrics)
    assert trainer.logged_metrics["val/psnr_r0_n0"] > 20
    module.export(tmp_path / "export")
    network = SmallDeblur(weights=str(tmp_path / "export")).load().network
    assert network.last.weight.abs().max() > 0
    # The features were whitened by those of the first scenes, once
    assert module.network.choice.mean.abs().max() > 0.1
    assert torch.equal(network.choice.whitening, module.network.choice.whitening)


@pytest.mark.slow
def test_the_experiment_trains_goes_on_and_exports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        *(str(YAML), "--trainer.default_root_dir", str(tmp_path)),
        *("--model.backbone.init_args.width=4", "--data.batch_size=2", "--data.size_px=56"),
        *("--model.backbone.init_args.radii=3", "--model.calibration_batches=2"),
        *("--model.radius_steps=1",),
        *("--data.val_size_px=64", "--trainer.enable_progress_bar=false"),
        *("--trainer.val_check_interval=3", "--checkpoint.every_n_train_steps=2"),
    ]
    assert fit([*command, "--trainer.max_steps=2"]) == 0
    assert fit([*command, "--trainer.max_steps=3"]) == 0
    assert "resuming from" in capsys.readouterr().out
    # Nothing in the record that another process would write otherwise
    assert "Unable to serialize" not in (tmp_path / "config.yaml").read_text()
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    gains = [line for line in logged if "val/gain_r4_n2" in line][-1]
    assert gains["step"] == 3
    assert gains["val/psnr_r0_n0"] > 20
    model = SmallDeblur(weights=str(tmp_path / "export")).load()
    assert isinstance(model.network, nn.Module)
    assert model.network.config.width == 4
