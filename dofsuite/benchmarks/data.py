"""Samples of shards a second, beside a bare tar read of the same shards in the same process."""

import tarfile
import time
from collections.abc import Callable, Iterator
from unittest import mock

from PIL import Image

from dofsuite.benchmarks.config import DataConfig as Config
from dofsuite.benchmarks.measurement import Measurement
from dofsuite.data.batch import decode_sample
from dofsuite.data.decode import DECODERS
from dofsuite.data.shards import ShardReader
from dofsuite.data.synthetic.sets import prepare


def measure(config: Config) -> Iterator[Measurement]:
    """Two lines: samples read and compared with their sha256, and samples decoded as well."""
    # Three ways to read the same samples
    folder = prepare(config.shards)
    reader = ShardReader(folder)
    number = len(reader)
    payload_bytes = sum(
        sum(map(len, reader.read(index).members.values())) for index in range(number)
    )

    def tar() -> None:
        for shard in reader.manifest.shards:
            with tarfile.open(folder / f"{shard.name}.tar") as file:
                for member in file:
                    stored = file.extractfile(member)
                    assert stored is not None  # shards hold files only
                    stored.read()

    def read() -> None:
        for index in range(number):
            reader.read(index)

    def decode() -> None:
        for index in range(number):
            decode_sample(reader.read(index), reader.manifest.depth_kind)

    decodes = _decodes_per_image_file(reader, decode)
    # In turns, so that a busy moment hits all of them
    passes: dict[str, Callable[[], None]] = {"tar": tar, "read": read, "decode": decode}
    best_s = dict.fromkeys(passes, float("inf"))
    for _ in range(config.runs):
        for name, call in passes.items():
            start = time.perf_counter()
            call()
            best_s[name] = min(best_s[name], time.perf_counter() - start)
    shard_bytes = sum(
        (folder / f"{each.name}.tar").stat().st_size for each in reader.manifest.shards
    )
    for name in ("read", "decode"):
        yield Measurement(
            what=f"data {name}",
            setting={"shards": config.shards, "samples": number, "floor": "tarfile, one pass"},
            time_ms=1e3 * best_s[name],
            floor_ms=1e3 * best_s["tar"],
            counted={
                "samples_per_s": number / best_s[name],
                "payload_bytes_per_sample": payload_bytes / number,
                "shard_bytes_per_sample": shard_bytes / number,
                "decodes_per_image_file": decodes if name == "decode" else 0,
            },
            machine={"device": "cpu"},
        )


# How often Pillow opens a file while all samples are decoded, over the number of image files.
def _decodes_per_image_file(reader: ShardReader, decode: Callable[[], None]) -> float:
    image_files = sum(
        extension in DECODERS and extension != "depth.npy"
        for number in range(len(reader))
        for extension in reader.read(number).members
    )
    with mock.patch.object(Image, "open", wraps=Image.open) as opened:
        decode()
    return opened.call_count / image_files
