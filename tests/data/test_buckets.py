"""Batches of one shape each, in an order that is a function of seed and position alone."""

from __future__ import annotations

import io
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.data.batch import resize_and_crop
from dofsuite.data.buckets import BucketOrder, Buckets, image_sizes, nearest_shape, sizes_file
from dofsuite.data.dataset import Rows, TrainSamples
from dofsuite.data.module import ShardData
from dofsuite.data.shards import ShardReader, write_shards
from dofsuite.errors import UserError

from .test_resume import run_ranks, tiny  # noqa: F401
from .tiny_run import BUCKETS, SOURCE_MIX

SIZES = [(32, 16), (16, 16), (16, 32), (16, 30)]  # (h, w), in turns
SHAPES_PX = [(24, 8), (16, 16), (8, 24)]


def photo(height: int, width: int, number: int, orientation: int | None = None) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(np.full((height, width, 3), number, dtype=np.uint8))
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


def write_shapes(folder: Path, count: int, tag: str) -> str:
    samples = [
        (f"{tag}{number:04d}", {"jpg": photo(*SIZES[number % 4], number), "json": b"{}"})
        for number in range(count)
    ]
    facts = {"licence": "CC0", "split": "train", "depth_kind": None, "depth_unit": None}
    write_shards(folder, samples, source=tag, samples_per_shard=5, **facts)
    return str(folder)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("shapes")
    return {
        "real": write_shapes(folder / "real", 26, "real"),
        "made": write_shapes(folder / "made", 15, "made"),
    }


def data_of(sources: dict[str, str], **options: object) -> ShardData:
    given = {"batch_size": 2, "size_px": 16, "flip": 0.0, "seed": 5, "source_mix": SOURCE_MIX}
    given |= {"require_depth": False, "buckets": BUCKETS, "verify": "size"}
    return ShardData(sources, **{**given, **options})


@pytest.fixture(scope="module")
def expected(sources: dict[str, str]) -> list[tuple[int, str]]:
    """The order as the closed forms have it: (position, key)."""
    readers = [ShardReader(Path(folder)) for folder in sources.values()]
    rows = Rows(SHAPES_PX, 4, [image_sizes(reader) for reader in readers])
    samples = TrainSamples(readers, SOURCE_MIX.in_rows_of(4), 5, 16, 0.0, rows=rows)
    located = [(position, *samples.locate(position)) for position in range(160)]
    return [(position, readers[source].read(number).key) for position, source, number in located]


def test_shapes_are_near_the_square_s_area_and_known_beforehand() -> None:
    shapes = Buckets().shapes_px(1024)
    assert shapes[:4] == [(1344, 768), (1280, 832), (1152, 896), (1024, 1024)]
    assert shapes[4:] == [(width, height) for height, width in shapes[2::-1]]
    assert all(abs(h * w / 1024**2 - 1) < 0.05 for h, w in shapes)
    assert data_of({"a": "a"}).shapes_px == SHAPES_PX
    assert data_of({"a": "a"}, buckets=None).shapes_px == [(16, 16)]


def test_image_goes_to_the_shape_of_nearest_ratio() -> None:
    sizes = np.array([[100, 100], [100, 199], [100, 139], [100, 143], [300, 100], [0, 0]])
    assert nearest_shape(sizes, [(2, 1), (1, 1), (1, 2)]).tolist() == [1, 2, 1, 2, 0, 1]


def test_sizes_are_of_the_upright_images_and_read_once(tmp_path: Path) -> None:
    samples = [
        ("a", {"jpg": photo(16, 40, 1)}),
        ("b", {"jpg": photo(16, 40, 1, orientation=6)}),
        ("c", {"jpg": b"damaged"}),
    ]
    facts = {"licence": "CC0", "split": "train", "depth_kind": None, "depth_unit": None}
    write_shards(tmp_path / "s", samples, source="s", **facts)
    reader = ShardReader(tmp_path / "s")
    assert image_sizes(reader).tolist() == [[16, 40], [40, 16], [0, 0]]
    # From the file from now on
    path = tmp_path / "s" / sizes_file(reader.manifest)
    np.save(path, np.array([[1, 2], [3, 4], [5, 6]], dtype=np.uint16))
    assert image_sizes(reader).tolist() == [[1, 2], [3, 4], [5, 6]]
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="no sizes of 3 images"):
        image_sizes(reader)


@pytest.mark.parametrize("counts", [(40, 100, 60), (3, 0, 97), (1, 1, 1), (500, 7, 11)])
def test_every_sample_comes_equally_often(counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    buckets = rng.permutation(np.repeat(np.arange(3), counts)).astype(np.uint8)
    total, row = sum(counts), 4
    order = BucketOrder([total - total // 2, total // 2], buckets, seed=3, source=0, row=row)
    draws = 64 * row * 3
    numbers = [order[draw] for draw in range(draws)]
    # Rows are of one bucket, which every bucket gets by its share
    drawn = buckets[numbers].reshape(-1, row)
    assert (drawn == drawn[:, :1]).all()
    for bucket, count in enumerate(counts):
        assert abs((drawn[:, 0] == bucket).sum() - count / total * 192) < 3
        times = Counter(n for n in numbers if buckets[n] == bucket)
        if count:
            assert len(times) == min(count, len(times) if draws < total else count)
            assert max(times.values()) - min(times.values()) <= 1


def test_buckets_do_not_come_in_a_cycle() -> None:
    """Else one kind of step of alternating training would see one shape only."""
    order = BucketOrder([100], np.repeat([0, 1], 50).astype(np.uint8), 0, 0, row=1)
    drawn = np.array([order.bucket(draw) for draw in range(1200)])
    for period in (2, 3, 5, 6):
        for phase in range(period):
            assert 0.3 < drawn[phase::period].mean() < 0.7


def keys_by_position(
    sources: dict[str, str], ranks: int, workers: int, batch_size: int, samples_seen: int, upto: int
) -> list[tuple[int, str]]:
    found = {}
    for rank in range(ranks):
        data = data_of(sources, batch_size=batch_size, num_workers=workers)
        data.setup()
        data.load_state_dict({"samples_seen": samples_seen, "samples_in_row": 4})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ShardData, "world", (rank, ranks))
            loader = data.train_dataloader()
        for batch in itertools.islice(loader, (upto - samples_seen) // (batch_size * ranks)):
            assert tuple(batch.image_srgb.shape[2:]) in SHAPES_PX  # one shape: they are stacked
            found |= dict(zip(batch.index.tolist(), batch.key, strict=True))
    return sorted(found.items())


@pytest.mark.parametrize(
    ("ranks", "workers", "batch_size", "start"),
    [(1, 0, 4, 0), (1, 3, 4, 0), (2, 2, 2, 0), (2, 0, 2, 28), (1, 1, 4, 12)],
)
def test_order_is_the_same_for_every_shape_and_from_every_stop(
    sources: dict[str, str],
    expected: list[tuple[int, str]],
    ranks: int,
    workers: int,
    batch_size: int,
    start: int,
) -> None:
    found = keys_by_position(sources, ranks, workers, batch_size, start, upto=40)
    assert found == expected[start:40]


def test_resumed_run_with_buckets_continues_at_the_next_sample(
    sources: dict[str, str],
    tiny: object,  # noqa: F811
    expected: list[tuple[int, str]],
    tmp_path: Path,
) -> None:
    given = {"buckets": True, "require_depth": False}
    tiny.train(sources, tmp_path / "a", steps=5, **given)
    resume = tmp_path / "a" / "step=3.ckpt"
    stored = torch.load(resume, weights_only=True)["ShardData"]
    assert stored == {"samples_seen": 12, "samples_in_row": 4}
    second = tiny.train(sources, tmp_path / "b", steps=16, workers=1, resume=resume, **given)
    assert second.trained == expected[12:64]


@pytest.mark.slow  # a minute on a busy machine
def test_two_ranks_of_two_workers_train_on_the_order_of_one(
    sources: dict[str, str],
    tiny: object,  # noqa: F811
    expected: list[tuple[int, str]],
    tmp_path: Path,
) -> None:
    given = {"buckets": True, "require_depth": False}
    two = run_ranks(
        sources, tmp_path / "2x2", ranks=2, workers=2, steps=9, resume=None, batch_size=2, **given
    )
    assert [tuple(each) for each in two] == expected[:36]
    resume = tmp_path / "2x2" / "step=5.ckpt"
    one = tiny.train(sources, tmp_path / "1x3", steps=12, workers=3, resume=resume, **given)
    assert one.trained == expected[20:48]


@pytest.mark.parametrize(
    ("options", "state", "named"),
    [
        ({"batch_size": 3}, {}, r"^data\.buckets\.samples_in_row: 4 must be a multiple"),
        ({"batch_size": 2}, {}, r"^data\.buckets\.samples_in_row: 4 must .* divide the samples"),
        ({}, {"samples_in_row": 8}, "this run was begun with 8"),
        ({"size_px": None}, {}, r"^data\.size_px"),
    ],
)
def test_sizes_that_do_not_fit_are_named(
    sources: dict[str, str], options: dict[str, object], state: dict[str, int], named: str
) -> None:
    def start() -> None:
        data = data_of(sources, **{"batch_size": 4, **options})
        data.load_state_dict({"samples_seen": 0, **state})
        data.train_dataloader()

    with pytest.raises(UserError, match=named):
        start()


def test_stop_within_a_batch_s_length_is_named(sources: dict[str, str]) -> None:
    data = data_of(sources, batch_size=4)
    data.load_state_dict({"samples_seen": 6})
    with pytest.raises(UserError, match=r"^data\.batch_size: 4 does not divide the 6 samples"):
        next(iter(data.train_dataloader()))


@pytest.mark.parametrize("wrong", ["3/2", "0:1", "1:2:3", "a:b"])
def test_ratio_that_is_none_is_named(wrong: str) -> None:
    with pytest.raises(UserError, match=r"^data\.buckets\.ratios: width:height"):
        Buckets((wrong,))


# --- crops -----------------------------------------------------------------------------------


def ramps(height: int, width: int) -> dict[str, object]:
    """Red rises downward and green to the right; the disparity is the green."""
    rows, columns = torch.meshgrid(
        torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
    )
    image = torch.stack([rows, columns, torch.zeros_like(rows)])
    valid = torch.ones(1, height, width, dtype=torch.bool)
    return {"image": image, "disparity": columns[None].clone(), "valid": valid}


def test_crop_lies_at_its_place_and_depth_with_it() -> None:
    item = resize_and_crop(ramps(40, 100), (20, 20), (0.0, 0.99))
    # The right end: columns 30 to 49 of 50
    assert item["width_px"] == 50
    assert item["image"][1, 10, 0] == pytest.approx(30.5 / 50, abs=0.02)
    assert item["image"][1, 10, -1] == pytest.approx(1, abs=0.02)
    green = item["image"][1]
    spread = (green - green.min()) / (green.max() - green.min())
    assert torch.allclose(item["disparity"][0], spread, atol=0.03)


def test_blur_follows_the_resize_and_not_the_crop() -> None:
    square = resize_and_crop(ramps(40, 100), 20)
    wide = resize_and_crop(ramps(40, 100), (20, 30))
    moved = resize_and_crop(ramps(40, 100), (20, 30), (0.3, 0.1))
    double = resize_and_crop(ramps(40, 100), (40, 60))
    assert [item["width_px"] for item in (square, wide, moved, double)] == [50, 50, 50, 100]
    assert wide["image"].shape == moved["image"].shape == (3, 20, 30)


def test_random_crops_are_of_the_position_and_reach_both_ends(tmp_path: Path) -> None:
    picture = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None], 16, axis=0)
    file = io.BytesIO()
    Image.fromarray(np.stack([picture] * 3, axis=-1)).save(file, "PNG")
    facts = {"licence": "CC0", "split": "train", "depth_kind": None, "depth_unit": None}
    samples = [("a", {"png": file.getvalue(), "json": json.dumps({}).encode()})]
    write_shards(tmp_path / "s", samples, source="s", **facts)

    def left_edges(workers: int, seed: int) -> list[float]:
        data = data_of(
            {"s": str(tmp_path / "s")},
            crop="random",
            buckets=None,
            source_mix=None,
            batch_size=40,
            num_workers=workers,
            seed=seed,
        )
        return next(iter(data.train_dataloader())).image_srgb[:, 0, 0, 0].tolist()

    edges = left_edges(0, seed=1)
    assert left_edges(1, seed=1) == edges != left_edges(0, seed=2)
    # 49 places, from the first column to the last square's
    assert min(edges) < 0.1
    assert max(edges) > 0.65
    assert len(set(edges)) > 15
