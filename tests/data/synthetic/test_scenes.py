"""Synthetic scenes: exact disparity, layers one can see, and no photograph in both training and
validation.
"""

from __future__ import annotations

import io
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dofsuite.data.manifest import read_manifest
from dofsuite.data.module import ShardData
from dofsuite.data.shards import ShardReader
from dofsuite.data.synthetic.photo_scenes import MIN_VISIBLE_SHARE, Layer, SceneRecipe, scenes
from dofsuite.data.synthetic.photographs import PHOTOGRAPHS, photograph
from dofsuite.data.synthetic.sets import RECIPES, prepare, resolve
from dofsuite.errors import UserError


def some(name: str, count: int = 40) -> list:
    recipe = RECIPES[name]
    return list(
        scenes(
            SceneRecipe(
                recipe.photographs, recipe.textures, recipe.texture_share, count, recipe.seed
            )
        )
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_pixel_has_the_disparity_of_a_recorded_layer(name: str) -> None:
    for scene in some(name):
        planes = np.stack([layer.disparity() for layer in scene.layers])
        assert np.abs(planes - scene.disparity).min(axis=0).max() < 1e-12
        assert scene.disparity.min() == 0.0
        assert scene.disparity.max() == 1.0


@pytest.mark.parametrize("name", RECIPES)
def test_two_to_six_layers_can_be_seen(name: str) -> None:
    drawn = some(name)
    assert {len(scene.layers) for scene in drawn} == {2, 3, 4, 5, 6}
    for scene in drawn:
        planes = np.stack([layer.disparity() for layer in scene.layers])
        owner = np.abs(planes - scene.disparity).argmin(axis=0)
        shares = np.bincount(owner.ravel(), minlength=len(planes)) / owner.size
        assert shares.min() >= MIN_VISIBLE_SHARE


def test_layers_lie_apart_and_some_backgrounds_are_slanted() -> None:
    slanted = 0
    for scene in some("photo"):
        background, *foreground = (layer.disparity() for layer in scene.layers)
        nearest_behind = background.max()
        for plane in foreground:
            assert plane.min() - nearest_behind > 0.05
            nearest_behind = plane.max()
        slanted += float(np.ptp(background)) > 0
    assert 5 <= slanted <= 30


def test_scene_depends_on_seed_and_number_alone() -> None:
    first, again = some("texture", 6), some("texture", 6)[5]
    np.testing.assert_array_equal(first[5].image_srgb, again.image_srgb)
    assert first[5].layers == again.layers


def test_no_validation_photograph_is_in_training() -> None:
    train = {
        layer.photograph
        for name in ("photo", "texture")
        for scene in some(name, 60)
        for layer in scene.layers
    }
    val = {layer.photograph for scene in some("val", 64) for layer in scene.layers}
    assert val == {"coffee"}
    assert train == set(RECIPES["photo"].photographs) | set(RECIPES["texture"].textures)
    assert not train & val


def test_each_held_out_scene_is_of_one_photograph() -> None:
    recipe = replace(RECIPES["held_out"], scenes=6)
    names = [{layer.photograph for layer in scene.layers} for scene in scenes(recipe)]
    assert names == [{name} for name in (*recipe.photographs, *recipe.photographs)]


def test_training_on_held_out_sets_is_refused(
    synthetic_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOFSUITE_CACHE", str(synthetic_cache))
    for name, split in (("val", "val"), ("motorcycle", "test")):
        with pytest.raises(UserError, match=rf"^data\.train\.x: synthetic:{name} is a {split} set"):
            ShardData({"x": f"synthetic:{name}"}).setup()


def test_shards_hold_the_scenes_and_their_records(
    synthetic_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOFSUITE_CACHE", str(synthetic_cache))
    reader = ShardReader(resolve("synthetic:val"))
    assert len(reader) == 64
    assert (reader.manifest.depth_kind, reader.manifest.depth_unit) == ("disparity", "relative")
    for number, scene in enumerate(some("val", 5)):
        members = reader.read(number).members
        record = json.loads(members["json"])
        stored = np.asarray(Image.open(io.BytesIO(members["depth.png"]))) / 65535.0
        assert np.abs(stored - scene.disparity).max() <= 0.5 / 65535 + 1e-12
        assert [Layer(**layer) for layer in record["layers"]] == scene.layers
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(members["png"]))), scene.image_srgb
        )
        planes = np.stack([Layer(**layer).disparity() for layer in record["layers"]])
        assert np.abs(planes - stored).min(axis=0).max() <= 0.5 / 65535 + 1e-12


def test_batches_of_scenes_carry_their_disparity(
    synthetic_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOFSUITE_CACHE", str(synthetic_cache))
    data = ShardData({"x": "synthetic:val"}, "synthetic:val", val_batch_size=3, size_px=128)
    monkeypatch.setattr(data, "train", {})
    batch = next(iter(data.val_dataloader()))
    for number, scene in enumerate(some("val", 3)):
        assert np.abs(batch.disparity[number, 0].numpy() - scene.disparity).max() <= 1e-5
        np.testing.assert_allclose(
            batch.image_srgb[number].permute(1, 2, 0).numpy() * 255, scene.image_srgb, atol=1e-4
        )


def test_scenes_are_sharp() -> None:
    """Half of a scene's detail is gone after the smallest blur: the photographs were reduced, not
    enlarged.
    """
    for scene in some("photo", 12):
        grey = scene.image_srgb.mean(-1)
        blurred = (grey[:-1, :-1] + grey[1:, :-1] + grey[:-1, 1:] + grey[1:, 1:]) / 4

        def detail(values: np.ndarray) -> float:
            inner = (
                values[1:-1, 1:-1] * 4
                - values[:-2, 1:-1]
                - values[2:, 1:-1]
                - values[1:-1, :-2]
                - values[1:-1, 2:]
            )
            return float(inner.var())

        assert detail(blurred) < 0.5 * detail(grey)


def test_the_old_prefix_is_refused_with_the_new_name() -> None:
    sentence = (
        r"^embedded:photo: the embedded sets are called synthetic now: write synthetic:photo\."
    )
    with pytest.raises(UserError, match=sentence):
        ShardData({"x": "embedded:photo"})


def test_unknown_synthetic_set_is_named() -> None:
    with pytest.raises(
        UserError,
        match=r"^synthetic:phot: there is no such synthetic set: choose one of synthetic:photo",
    ):
        prepare("synthetic:phot")


def test_missing_scikit_image_says_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("DOFSUITE_CACHE", str(tmp_path))
    photograph.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'dofsuite\[demo\]'"):
        prepare("synthetic:val")
    assert list(tmp_path.iterdir()) == []


def test_another_photograph_under_the_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PHOTOGRAPHS, "coffee", ("astronaut.png", PHOTOGRAPHS["coffee"][1]))
    photograph.cache_clear()
    with pytest.raises(UserError, match=r"astronaut\.png: its sha256"):
        photograph("coffee")


def test_two_processes_that_start_together_write_one_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOFSUITE_CACHE", str(tmp_path))
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=prepare, args=("synthetic:val",)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert [path.name for path in resolve("synthetic:val").parent.iterdir()] == ["val"]
    assert read_manifest(resolve("synthetic:val")).samples == 64
