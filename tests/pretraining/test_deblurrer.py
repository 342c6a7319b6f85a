"""The deblurrer: its inputs against SciPy's convolution, its tiles, its training from the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from torch import nn

from dofsuite.backbones import DeblurModel, SmallDeblur
from dofsuite.backbones.small.deblur import save_deblur
from dofsuite.data import RandomSceneData
from dofsuite.errors import UserError
from dofsuite.fit import main as fit
from dofsuite.optics import linear_to_srgb, srgb_to_linear
from dofsuite.pretraining import Deblurring
from dofsuite.pretraining.defocused import (
    Defocus,
    draw_noise_std,
    draw_radius_px,
    photographed,
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
    model = SmallDeblur(weights=None, width=4, blocks=(1, 1), middle_blocks=1).load()
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.15
    return model


def test_a_new_network_returns_its_input() -> None:
    image = torch.rand(1, 3, 21, 34)
    assert torch.equal(SmallDeblur(weights=None).load()(image), image)


@pytest.mark.parametrize(("height", "width"), [(70, 131), (40, 40), (128, 64)])
def test_tiles_give_what_the_whole_gives(untrained: DeblurModel, height: int, width: int) -> None:
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    whole = untrained(image[None])[0].clamp(0, 1)
    done: list[tuple[int, int]] = []
    tiles = untrained.restore(image, tile_px=30, on_tile=lambda *count: done.append(count))
    assert (tiles - image).abs().max() > 0.05
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)
    assert len(done) == done[-1][0] == done[-1][1] == -(-height // 32) * -(-width // 32)


def test_nothing_is_seen_beyond_the_margin(untrained: DeblurModel) -> None:
    image = torch.rand(1, 3, 32, 160)
    changed = image.clone()
    changed[..., 48 + untrained.network.reach_px + 8 :] = 0
    difference = (untrained(image) - untrained(changed)).abs().amax((0, 1, 2))
    assert difference[:48].max() < 1e-6
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


def test_a_saved_network_is_the_same_to_16_bits(untrained: DeblurModel, tmp_path: Path) -> None:
    save_deblur(untrained, tmp_path)
    image = torch.rand(1, 3, 32, 32)
    again = SmallDeblur(weights=str(tmp_path)).load()
    before = untrained(image)
    assert (again(image) - before).abs().max() < 0.005 * before.abs().max()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="this is no deblurrer"):
        SmallDeblur(weights=str(tmp_path)).load()


def test_three_steps_learn_validate_and_export(tmp_path: Path) -> None:
    module = Deblurring(backbone=SmallDeblur(weights=None, width=4, blocks=(1,), middle_blocks=1))
    data = RandomSceneData(batch_size=2, size_px=56, val_size_px=64)
    trainer = cpu_trainer(tmp_path, 3, [], limit_val_batches=1, val_check_interval=3)
    trainer.fit(module, datamodule=data)
    assert data.samples_seen == 6
    assert {"val/gain_r2_n0", "val/gain_r8_n2", "val/psnr_r0_n0"} <= set(trainer.logged_metrics)
    assert trainer.logged_metrics["val/psnr_r0_n0"] > 20
    module.export(tmp_path / "export")
    network = SmallDeblur(weights=str(tmp_path / "export")).load().network
    assert network.last.weight.abs().max() > 0


@pytest.mark.slow
def test_the_experiment_trains_goes_on_and_exports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        *(str(YAML), "--trainer.default_root_dir", str(tmp_path)),
        *("--model.backbone.init_args.width=4", "--data.batch_size=2", "--data.size_px=56"),
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
