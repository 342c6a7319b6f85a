"""Each damaged sample is named; up to the limit it is skipped, one more ends the run."""

from __future__ import annotations

import itertools
import json
import logging
import os
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from dofsuite.data.damage import SKIPPED_FILE, Skipped
from dofsuite.data.manifest import sha256_of
from dofsuite.data.module import ShardData
from dofsuite.data.shards import ShardReader, index_of, write_shards
from dofsuite.errors import UserError

from .conftest import numbered_samples

EPOCH = 24  # batches of four in 23 samples


def data_of(folder: Path | str, **options: object) -> ShardData:
    given = {"batch_size": 4, "size_px": 16, "flip": 0.0, "seed": 1}
    return ShardData({"n": str(folder)}, **{**given, **options})


def keys_of(data: ShardData) -> list[str]:
    """Return the keys of an epoch's positions."""
    loader = data.train_dataloader()
    return [key for batch in itertools.islice(loader, EPOCH // 4) for key in batch.key]


def cut(folder: Path, back: int, of: int = 2) -> None:
    shard = folder / "shard-000001.tar"
    offset, size, _ = index_of(shard)[of][1]["depth.png"]
    os.truncate(shard, offset + (size // 2 if back < 0 else -back))


def zero(folder: Path) -> None:
    shard = folder / "shard-000001.tar"
    offset = index_of(shard)[2][1]["png"][0]
    with open(shard, "r+b") as file:
        file.seek(offset + 40)
        file.write(bytes(16))


def rewrite_key(folder: Path, key: str) -> None:
    """Give sample 7 another key, in an index that agrees with its manifest."""
    path, manifest = folder / "shard-000001.index.json", folder / "manifest.json"
    index = json.loads(path.read_bytes())
    index[2][0] = key
    path.write_text(json.dumps(index))
    stored = json.loads(manifest.read_bytes())
    stored["shards"][1]["index_sha256"] = sha256_of(path.read_bytes())
    manifest.write_text(json.dumps(stored))


def with_png(folder: Path, png: bytes) -> None:
    """Write the set anew; sample 7 has another picture."""
    samples = dict(numbered_samples(23, "n"))
    samples["n000007"]["png"] = png
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    facts = {"licence": "CC0", "split": "train", "depth_kind": "disparity"}
    facts |= {"depth_unit": "relative", "samples_per_shard": 5}
    write_shards(folder, samples.items(), source="n", **facts)


def large_png() -> bytes:
    """Return the header of 200 megapixels, and no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 10000, 1, 0, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b""), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


TAR = r"shard-000001\.tar"
# Name -> damage, the samples that cannot be read, what is said of each.
FAULTS: dict[str, tuple[Callable[[Path], object], list[int], str]] = {
    "cut between members": (
        lambda f: cut(f, 512),
        [7, 8, 9],
        rf"{TAR}: n00000\d\.\S+: it is trunc",
    ),
    "cut in a header": (lambda f: cut(f, 300), [7, 8, 9], rf"{TAR}: n00000\d\.\S+: it is trunc"),
    "cut in a member": (lambda f: cut(f, -1), [7, 8, 9], rf"{TAR}: n00000\d\.\S+: it is trunc"),
    "zeroed bytes": (zero, [7], rf"{TAR}: n000007\.png: it is truncated or altered"),
    "wrong magic": (
        lambda f: with_png(f, b"\0" * 300),
        [7],
        rf"{TAR}: n000007\.png: it is not a JPEG, PNG or WebP image",
    ),
    "missing shard": (
        lambda f: (f / "shard-000001.tar").unlink(),
        [5, 6, 7, 8, 9],
        rf"{TAR}: the shard cannot be opened",
    ),
    "empty shard": (
        lambda f: os.truncate(f / "shard-000001.tar", 0),
        [5, 6, 7, 8, 9],
        rf"{TAR}: n00000\d\.\S+: it is truncated",
    ),
    "missing index": (
        lambda f: (f / "shard-000001.index.json").unlink(),
        [5, 6, 7, 8, 9],
        r"shard-000001\.index\.json: this file is missing",
    ),
    "200 Mpx": (lambda f: with_png(f, large_png()), [7], "n000007.png: .* too many pixels"),
    "key outside": (
        lambda f: rewrite_key(f, "../../etc/n7"),
        [7],
        rf"{TAR}: '../../etc/n7': a sample's key must be a plain name",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_named_and_skipped_up_to_the_limit(
    shards: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = keys_of(data_of(shards))
    damage, lost, reason = FAULTS[fault]
    damage(shards)
    keys = {f"n{number:06d}" for number in lost}

    # At the limit: all others in their places, each damaged one counted, named and replaced
    data = data_of(shards, skip_damaged=len(lost))
    with caplog.at_level(logging.WARNING, "dofsuite"):
        found = keys_of(data)
    assert [key for key in found if key not in keys] == found
    kept = [(a, b) for a, b in zip(whole, found, strict=True) if a not in keys]
    assert len(kept) == EPOCH - sum(key in keys for key in whole)
    assert all(a == b for a, b in kept)
    assert sorted(skipped.number for skipped in data.damage.skipped.values()) == lost
    said = [r.message for r in caplog.records if r.message.startswith("skipped damaged sample")]
    assert len(said) == len(lost)
    assert all(re.search(reason, message) for message in said)

    # One too many; none allowed is the sentence alone
    fewer = data_of(shards, skip_damaged=len(lost) - 1, verify="size")
    fewer.prepare_data = lambda: None  # its check of the sizes would name the shard at once
    named = rf"^data\.skip_damaged: more than {len(lost) - 1} " if len(lost) > 1 else reason
    with pytest.raises(UserError, match=named) as caught:
        keys_of(fewer)
    assert re.search(reason, str(caught.value))


@pytest.mark.parametrize("workers", [0, 2])
def test_replacement_is_the_same_for_every_number_of_workers(shards: Path, workers: int) -> None:
    zero(shards)
    whole = keys_of(data_of(shards, skip_damaged=1, verify="size"))
    data = data_of(shards, skip_damaged=1, verify="size", num_workers=workers)
    assert keys_of(data) == whole
    place = ShardReader(shards)
    order = data.train_dataloader().dataset.orders[0]
    position = next(iter(data.damage.skipped.values())).position
    assert whole[position] == place.read(order[position + 1]).key


def test_what_was_skipped_is_in_the_run_folder_and_counts_after_a_resume(
    shards: Path, tmp_path: Path
) -> None:
    (shards / "shard-000001.tar").unlink()
    for resumed in (False, True):
        data = data_of(shards, skip_damaged=5)
        data.damage.open(tmp_path / "run", rank=0)
        assert len(data.damage.skipped) == 5 * resumed
        keys_of(data)
        rows = [json.loads(line) for line in open(tmp_path / "run" / SKIPPED_FILE)]
        assert sorted(row["number"] for row in rows) == [5, 6, 7, 8, 9]
        assert all(row["rank"] == 0 and "shard-000001.tar" in row["reason"] for row in rows)
    with pytest.raises(UserError, match=r"^data\.skip_damaged: more than 5"):
        data.damage.add(Skipped(0, 0, 22, "another"))


def test_pickles_are_named_and_never_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    samples = [
        (key, members | {"pyd": pickle.dumps(Payload())})
        for key, members in (numbered_samples(23, "n"))
    ]
    facts = {"licence": "CC0", "split": "train", "depth_kind": "disparity"}
    write_shards(tmp_path / "s", samples, source="n", depth_unit="relative", **facts)
    with caplog.at_level(logging.WARNING, "dofsuite"):
        assert len(set(keys_of(data_of(tmp_path / "s")))) == 23
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/s/shard-000000.tar: .pyd members are never opened."
    ]
    assert not (tmp_path / "executed").exists()


def test_damaged_held_out_sample_always_ends_the_run(shards: Path, two_sources: object) -> None:
    zero(shards)
    data = ShardData(
        {"n": two_sources["real"]}, str(shards), size_px=16, skip_damaged=5, verify="size"
    )
    with pytest.raises(UserError, match=r"n000007\.png: it is truncated or altered"):
        list(data.val_dataloader())


def test_run_folder_of_the_trainer_gets_the_record(shards: Path, tmp_path: Path) -> None:
    data = data_of(shards, skip_damaged=1)
    data.trainer = SimpleNamespace(
        default_root_dir=str(tmp_path),
        callbacks=[],
        global_rank=0,
        world_size=1,
        lightning_module=None,
        precision="32-true",
        accumulate_grad_batches=1,
    )
    zero(shards)
    data.prepare_data()
    data.setup("fit")
    keys_of(data)
    assert len((tmp_path / SKIPPED_FILE).read_text().splitlines()) == 1
