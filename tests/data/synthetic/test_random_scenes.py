"""Random scenes: reproducible, of any size, never from what is held out, with depth that fits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.ndimage import gaussian_gradient_magnitude

from dofsuite.data import RandomSceneData, SceneShares, random_scene
from dofsuite.data.synthetic import random_surfaces
from dofsuite.data.synthetic.given_depth import given_depth
from dofsuite.data.synthetic.random_scenes import KINDS
from dofsuite.data.synthetic.scene_data import HELD_OUT
from dofsuite.errors import UserError

MANIFEST = Path(__file__).parents[3] / "data_manifests" / "synthetic_photographs.yaml"
TRAINED_ON = {*random_surfaces.COLOR_PHOTOGRAPHS, *random_surfaces.GRAY_PHOTOGRAPHS}


def only(kind: str) -> SceneShares:
    return SceneShares(**{name: float(name == kind) for name in asdict(SceneShares())})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size_px", [48, 90])
def test_scenes_of_any_size_have_values_and_disparity_in_range(kind: str, size_px: int) -> None:
    for number in range(6):
        scene = random_scene(3, number, size_px, only(kind))
        assert scene.kind == kind
        assert scene.all_in_focus.shape == (3, size_px, size_px)
        assert scene.disparity.shape == scene.given_disparity.shape == (1, size_px, size_px)
        for values in scene[:3]:
            assert values.dtype == torch.float32
            assert 0 <= values.min()
            assert values.max() <= 1
        assert scene.disparity.amin() == 0
        assert scene.disparity.amax() == 1
        assert scene.all_in_focus.std() > 0.01


def test_a_scene_is_a_function_of_seed_and_number() -> None:
    torch.testing.assert_close(
        random_scene(1, 5, 64)[:3], random_scene(1, 5, 64)[:3], rtol=0, atol=0
    )
    assert not torch.equal(random_scene(1, 5, 64)[0], random_scene(1, 6, 64)[0])
    assert not torch.equal(random_scene(1, 5, 64)[0], random_scene(2, 5, 64)[0])


def test_no_scene_is_cut_from_a_held_out_photograph() -> None:
    files = yaml.safe_load(MANIFEST.read_text())
    assert set(files["random_scenes"]["from"]) == TRAINED_ON
    assert TRAINED_ON.isdisjoint(HELD_OUT)
    assert "motorcycle_right" not in TRAINED_ON
    assert all("licence" in files["files"][name] for name in TRAINED_ON)


def test_steps_of_disparity_lie_on_edges_of_the_image() -> None:
    on, off = [], []
    for number in range(8):
        scene = random_scene(7, number, 96, only("dead_leaves"))
        steps = gaussian_gradient_magnitude(scene.disparity[0].numpy(), 0.7) > 0.1
        change = gaussian_gradient_magnitude(scene.all_in_focus.mean(0).numpy(), 0.7)
        on.append(change[steps].mean())
        off.append(change[~steps].mean())
    assert np.mean(on) > 2 * np.mean(off)


def test_given_depth_is_exact_soft_or_wrong_and_stays_near() -> None:
    disparity = np.zeros((64, 64), dtype=np.float32)
    disparity[16:48, 20:40] = 1
    disparity[:, 50:] = 0.5
    errors, steps = [], []
    for number in range(60):
        given = given_depth(np.random.default_rng(number), disparity)
        assert given.shape == disparity.shape
        assert given.min() == 0
        assert given.max() == 1
        errors.append(float(np.abs(given - disparity).mean()))
        steps.append(float(np.abs(np.diff(given, axis=1)).max()))
    assert 0.1 < np.mean(np.array(errors) == 0) < 0.4
    assert np.mean(np.array(steps) < 0.7) > 0.4
    assert max(errors) < 0.2


def test_batches_go_on_where_a_run_stopped() -> None:
    data = RandomSceneData(batch_size=2, size_px=32)
    first, second, third = (
        batch for _, batch in zip(range(3), data.train_dataloader(), strict=False)
    )
    assert [*first.index, *second.index, *third.index] == list(range(6))
    again = RandomSceneData(batch_size=2, size_px=32)
    again.load_state_dict({"samples_seen": 4})
    batch = next(iter(again.train_dataloader()))
    torch.testing.assert_close(batch, third, rtol=0, atol=0)


def test_validation_has_the_held_out_photographs() -> None:
    batches = list(RandomSceneData(val_size_px=64).val_dataloader())
    assert [tuple(batch.all_in_focus.shape) for batch in batches] == [(1, 3, 64, 64)] * len(
        HELD_OUT
    )


def test_a_wrong_value_is_named() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size: it must be at least 1"):
        RandomSceneData(batch_size=0)
    with pytest.raises(ValueError, match="shares"):
        SceneShares(photographs=0, textures=0, dead_leaves=0)
