"""Layered scenes: captions that are true, metric depth, lenses that blur enough, and sets that keep
apart.
"""

from __future__ import annotations

import io
import json
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dofsuite.data.module import ShardData
from dofsuite.data.synthetic import captioned_sets
from dofsuite.data.synthetic import defocus as photographed
from dofsuite.data.synthetic.captioned_sets import CAPTIONED_SETS, captioned_samples, exposed_scenes
from dofsuite.data.synthetic.captions import COLORS, SHAPES, SIDES, WALLS, WORDS
from dofsuite.data.synthetic.defocus import DEEP_F_NUMBERS, SHALLOW_F_NUMBERS, Exposure, photograph
from dofsuite.data.synthetic.layered_scenes import LayeredRecipe, LayeredScene, layered_scenes
from dofsuite.data.synthetic.sets import cache_folder, prepare, resolve
from dofsuite.data.synthetic.textures import THING_COLORS, THING_PHOTOGRAPHS, WALL_MATERIALS
from dofsuite.errors import UserError
from tests.data.synthetic.caption_grammar import parse_caption

NAMES = tuple(CAPTIONED_SETS)


@cache
def some(name: str, count: int = 100) -> list[tuple[LayeredScene, Exposure]]:
    return list(islice(exposed_scenes(name), count))


def disparity_as_drawn(scene: LayeredScene) -> np.ndarray:
    """Return the ground's disparity, found from the record alone: the lowest row is 1, rows fall
    evenly to 0.
    """
    column = scene.disparity.min(axis=1)
    horizon = int((column == 0).sum())
    return np.concatenate([np.zeros(horizon), np.arange(1, 64 - horizon + 1) / (64 - horizon)])


@pytest.mark.parametrize("name", NAMES)
def test_caption_names_what_the_picture_shows(name: str) -> None:
    for scene, _ in some(name):
        things, wall = parse_caption(scene.caption)
        assert wall in WALLS
        assert [tuple(thing) for thing in things] == [
            (t.color, t.shape, t.side) for t in scene.things
        ]
        assert set(scene.caption.replace(",", "").split()) <= set(WORDS)
        for thing in scene.things:
            pixels = scene.image_srgb[scene.disparity == thing.disparity]
            mean_color = pixels.astype(float).mean(0)
            distance = {
                color: np.abs(mean_color / mean_color.max() - THING_COLORS[color]).sum()
                for color in COLORS
            }
            assert min(distance, key=distance.get) == thing.color
            columns = np.nonzero((scene.disparity == thing.disparity).any(0))[0] / 64
            left, middle, right = (abs(columns.mean() - place) for place in (0.2, 0.5, 0.8))
            assert SIDES[int(np.argmin([left, middle, right]))] == thing.side


def test_every_word_is_used_and_things_differ() -> None:
    scenes = [scene for scene, _ in some("deep", 300)]
    assert {word for scene in scenes for word in scene.caption.replace(",", "").split()} == set(
        WORDS
    )
    assert {len(scene.things) for scene in scenes} == {1, 2, 3}
    assert {thing.shape for scene in scenes for thing in scene.things} == set(SHAPES)
    for scene in scenes:
        assert (
            len({thing.color for thing in scene.things})
            == len({t.side for t in scene.things})
            == len(scene.things)
        )


@pytest.mark.parametrize(
    "sentence", ["a red disc", "a pink disc on the left in front of grass", "a red disc, a box"]
)
def test_other_sentences_are_no_captions(sentence: str) -> None:
    with pytest.raises(ValueError, match="no caption of the layered scenes"):
        parse_caption(sentence)


@pytest.mark.parametrize("name", NAMES)
def test_depth_is_metric_and_spans_the_whole_range(name: str) -> None:
    for scene, exposure in some(name):
        assert (scene.disparity.min(), scene.disparity.max()) == (0.0, 1.0)
        ground = disparity_as_drawn(scene)[:, None].repeat(64, 1)
        is_ground = np.isclose(scene.disparity, ground)
        planes = np.stack([np.full((64, 64), thing.disparity) for thing in scene.things])
        assert (is_ground | np.isclose(planes, scene.disparity).any(0)).all()
        nearest = max(thing.disparity for thing in scene.things)
        assert scene.things[0].disparity == nearest
        assert exposure.focus_m == pytest.approx(
            1 / (0.1 + 0.9 * nearest)
        )  # 10 m at 0, 1 m at 1, inverse affine
        assert all(
            a.disparity - b.disparity > 0.11
            for a, b in zip(scene.things, scene.things[1:], strict=False)
        )
        assert all((scene.disparity == thing.disparity).sum() > 25 for thing in scene.things)


def coc_diameter_px(scene: LayeredScene, exposure: Exposure, f_number: float) -> np.ndarray:
    """The thin lens written out in metres and millimetres: c = F^2 / (N (S1 - F)) |Z - S1| / Z,
    pixels of 36/64 mm.
    """
    depth_mm = 1000 / (0.1 + 0.9 * scene.disparity)
    focus_mm, focal_mm = 1000 * exposure.focus_m, exposure.focal_length_mm
    return (
        focal_mm**2
        / (f_number * (focus_mm - focal_mm))
        * np.abs(depth_mm - focus_mm)
        / depth_mm
        / (36 / 64)
    )


@pytest.mark.parametrize("name", NAMES)
def test_smallest_aperture_still_blurs_a_quarter_of_the_pixels(name: str) -> None:
    shares = [
        (coc_diameter_px(scene, exposure, 22.0) > 1).mean() for scene, exposure in some(name, 300)
    ]
    assert min(shares) >= 0.25
    largest = max(
        coc_diameter_px(scene, exposure, 1.8).max() for scene, exposure in some(name, 300)
    )
    assert largest < 40  # and the largest leaves a picture


def test_radius_is_the_thin_lens_written_out() -> None:
    exposed = some("shallow", 8)
    radius_px = photographed.exposure_radius_px(
        *(list(part) for part in zip(*exposed, strict=True))
    )
    expected = np.stack(
        [coc_diameter_px(scene, exposure, exposure.f_number) / 2 for scene, exposure in exposed]
    )
    np.testing.assert_allclose(radius_px.abs().numpy()[:, 0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "f_numbers"), [("deep", DEEP_F_NUMBERS), ("shallow", SHALLOW_F_NUMBERS)]
)
def test_exif_is_drawn_from_the_sets_own_apertures(name: str, f_numbers: tuple[float, ...]) -> None:
    exposures = [exposure for _, exposure in some(name)]
    assert {exposure.f_number for exposure in exposures} == set(f_numbers)
    assert len({exposure.focal_length_mm for exposure in exposures}) > 50
    assert (min(f_numbers) >= 10) if name == "deep" else (max(f_numbers) < 10)


def detail(picture: np.ndarray, where: np.ndarray) -> float:
    """Return the mean squared difference between rows, of the pixels `where` and their lower
    neighbours.
    """
    steps = np.diff(picture.astype(float).mean(-1), axis=0) ** 2
    return float(steps[where[1:] & where[:-1]].mean())


def test_photograph_is_sharp_at_the_nearest_thing_and_blurred_at_the_wall() -> None:
    exposed = [(scene, exposure._replace(f_number=1.8)) for scene, exposure in some("shallow", 12)]
    for (scene, _), picture in zip(exposed, photograph(exposed), strict=True):
        wall, thing = scene.disparity == 0, scene.disparity == scene.things[0].disparity
        assert detail(picture, wall) < 0.1 * detail(scene.image_srgb, wall)
        assert detail(picture, thing) > 0.8 * detail(scene.image_srgb, thing)


def test_lens_blurs_display_values_and_keeps_their_mean() -> None:
    """Gamma 1 keeps the mean of a wall's values; blurring linear light would raise it visibly on
    gravel.
    """
    for scene, exposure in some("shallow", 24):
        if " gravel" in scene.caption:
            picture = photograph([(scene, exposure._replace(f_number=1.8))])[0]
            assert abs(float(picture[2:16].mean()) - float(scene.image_srgb[:16].mean())) < 4


def test_batches_of_mixed_lenses_are_the_photographs_taken_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(photographed, "BATCH_SIZE", 5)
    exposed = some("shallow", 7)
    together = [scene.image_srgb for scene, _ in photographed.photographed(exposed)]
    for one, picture in zip(exposed, together, strict=True):
        assert np.abs(picture.astype(int) - photograph([one])[0]).max() <= 1


def test_no_training_scene_has_a_held_out_caption() -> None:
    prompts = {scene.caption for scene, _ in some("prompts", 25)}
    assert len(prompts) == 25
    swapped = str.maketrans({"<": "right", ">": "left"})
    mirrored = {p.replace("left", "<").replace("right", ">").translate(swapped) for p in prompts}
    recipe = LayeredRecipe(scenes=300, seed=CAPTIONED_SETS["deep"].recipe.seed)
    assert any(
        scene.caption in prompts for scene in layered_scenes(recipe)
    )  # drawn freely, one would come up
    assert not any(scene.caption in prompts | mirrored for scene, _ in some("deep", 300))


def test_sets_are_other_scenes_and_a_scene_depends_on_seed_and_number_alone() -> None:
    first = {name: [scene.image_srgb.tobytes() for scene, _ in some(name, 20)] for name in NAMES}
    assert len({picture for pictures in first.values() for picture in pictures}) == 80
    assert [scene.image_srgb.tobytes() for scene, _ in some("deep", 21)][:20] == first["deep"]


def test_surfaces_are_of_training_photographs_and_the_sets_are_the_ones_stated() -> None:
    path = Path(__file__).parents[3] / "data_manifests" / "synthetic_photographs.yaml"
    manifest = yaml.safe_load(path.read_text())
    used = {name for name, *_ in WALL_MATERIALS.values()} | set(THING_PHOTOGRAPHS)
    stated = manifest["captioned_sets"]
    for name, described in CAPTIONED_SETS.items():
        assert stated[name]["scenes"] == described.recipe.scenes
        assert stated[name]["split"] == described.split
        assert set(stated[name]["from"]) == used
    assert all(manifest["files"][name]["split"] == "train" for name in used)


def test_prompts_are_written_and_read_as_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOFSUITE_CACHE", str(tmp_path))
    prepare("synthetic:prompts")
    assert resolve("synthetic:prompts").parent != resolve("synthetic:val").parent
    assert resolve("synthetic:prompts").is_relative_to(cache_folder())
    data = ShardData({"x": "synthetic:prompts"}, "synthetic:prompts", val_batch_size=25, size_px=64)
    with pytest.raises(
        UserError, match=r"synthetic:prompts is a val set and must not be trained on"
    ):
        data.setup()
    monkeypatch.setattr(data, "train", {})
    data.required |= {"require_captions": True, "require_exif": True}
    data.setup()
    batch = next(iter(data.val_dataloader()))
    scenes = some("prompts", 25)
    assert batch.caption == [scene.caption for scene, _ in scenes]
    assert batch.f_number.tolist() == [exposure.f_number for _, exposure in scenes]
    torch.testing.assert_close(
        batch.focal_length_mm, torch.tensor([e.focal_length_mm for _, e in scenes])
    )
    expected = np.stack([scene.disparity for scene, _ in scenes])
    assert np.abs(batch.disparity[:, 0].numpy() - expected).max() < 1e-5


def test_shallow_samples_record_the_lens_that_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographed, "BATCH_SIZE", 4)
    samples = list(islice(captioned_samples("shallow_val", "CC0"), 4))
    exposed = some("shallow_val", 4)
    for (key, members), (scene, exposure) in zip(samples, exposed, strict=True):
        record = json.loads(members["json"])
        assert key.startswith("shallow_val")
        assert record["exif"]["f_number"] == exposure.f_number
        assert record["lens"] == {"method": "occlusion", "gamma": 1.0, "sensor_width_mm": 36.0}
        assert record["caption"] == scene.caption
        picture = np.asarray(Image.open(io.BytesIO(members["png"])))
        assert not np.array_equal(picture, scene.image_srgb)
    assert captioned_sets.CAPTIONED_VERSION != "embedded-1"
