"""The pool: scenes by number, each pass over them in an order of its own, resumed anywhere."""

import pytest
import torch

from dofsuite.errors import UserError
from dofsuite.pretraining import ScenePool
from dofsuite.pretraining.scene_pool import drawn_scene


@pytest.fixture
def pool() -> ScenePool:
    data = ScenePool(scenes=10, batch_size=4, size_px=16)
    data.pool = torch.stack([torch.full((5, 16, 16), 20 * i, dtype=torch.uint8) for i in range(10)])
    data.pool[:, :, :, 0] += 5  # the left column, to see mirroring
    return data


def numbers(batches) -> list[int]:
    return [int(i) for b in batches for i in (b.image_srgb[:, 0, 0, 8] * 255 / 20).round()]


def test_a_pass_shows_each_scene_once_and_the_next_in_another_order_mirrored(pool):
    first = list(pool.train_dataloader())
    pool.samples_seen = 8
    second = list(pool.train_dataloader())
    assert len(first) == len(second) == 2
    assert len(set(numbers(first))) == len(set(numbers(second))) == 8
    assert numbers(first) != numbers(second)
    for batches, column in ((first, 0), (second, 15)):
        for batch in batches:
            brighter = batch.image_srgb[..., column] > batch.image_srgb[..., 8]
            assert brighter.all()


def test_it_resumes_in_the_middle_of_a_pass(pool):
    whole = list(pool.train_dataloader())
    pool.load_state_dict({"samples_seen": 4})
    resumed = next(iter(pool.train_dataloader()))
    assert torch.equal(resumed.image_srgb, whole[1].image_srgb)
    assert resumed.index.tolist() == [4, 5, 6, 7]


def test_a_scene_is_a_function_of_seed_and_number():
    scene = drawn_scene(0, 3, 32)
    assert scene.shape == (5, 32, 32)
    assert torch.equal(scene, drawn_scene(0, 3, 32))
    assert not torch.equal(scene, drawn_scene(0, 4, 32))
    assert scene[3].min() == 0  # far
    assert scene[3].max() > 240  # near


def test_a_pool_smaller_than_a_batch_is_one_sentence():
    with pytest.raises(UserError, match=r"^data\.scenes: 3"):
        ScenePool(scenes=3, batch_size=4)
