"""Remote files are copied whole into a bounded folder, once a machine, or named and refused."""

from __future__ import annotations

import hashlib
import http.server
import logging
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dofsuite.data.buckets import Buckets, image_sizes
from dofsuite.data.module import ShardData
from dofsuite.data.remote import RemoteCache, is_remote, read_remote
from dofsuite.data.shard_cache import ShardCache
from dofsuite.data.shards import ShardReader
from dofsuite.errors import UserError

from .conftest import write_numbered

pytest.importorskip("aiohttp")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Server:
    """A web server of a dictionary of files; `cut[name]` answers stop in the middle."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(b"")

            def do_GET(self) -> None:
                name = self.path.strip("/")
                body = outer.files.get(name, b"")
                outer.sent[name] += name in outer.files
                if outer.cut[name] > 0:
                    outer.cut[name] -= 1
                    body = body[: len(body) // 2]
                self.answer(body)

            def answer(self, body: bytes) -> None:
                name = self.path.strip("/")
                self.send_response(200 if name in outer.files else 404)
                self.send_header("Content-Length", str(len(outer.files.get(name, b""))))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def cache_in(folder: Path, max_kb: float = 1000.0, **options: object) -> ShardCache:
    settings = RemoteCache(str(folder), max_gb=max_kb / 1e6, first_wait_s=0.01, **options)
    return ShardCache(settings)


def copies(folder: Path) -> list[str]:
    return sorted(path.name[25:] for path in folder.iterdir())


def test_file_is_copied_once_whole_and_under_its_sum(server: Server, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    server.files["a.tar"] = data
    cache = cache_in(tmp_path)
    for _ in range(3):
        with cache.open(f"{server.address}/a.tar", len(data), sha256(data)) as copy:
            assert copy.path.read_bytes() == os.pread(copy.descriptor, len(data), 0) == data
    assert server.sent["a.tar"] == 1
    assert copies(tmp_path) == ["a.tar"]


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_other_file_systems_of_fsspec_serve_as_well(protocol: str, tmp_path: Path) -> None:
    import fsspec

    (tmp_path / "far").mkdir()
    address = f"{protocol}://{tmp_path}/far/a.tar"
    with fsspec.open(address, "wb") as file:
        file.write(b"x" * 5000)
    cache = cache_in(tmp_path / "near")
    with cache.open(address, 5000, sha256(b"x" * 5000)) as copy:
        assert copy.path.read_bytes() == b"x" * 5000
    # Nothing said beforehand: the remote's own size
    with cache.open(address) as copy:
        assert copy.path.read_bytes() == b"x" * 5000


def test_remote_that_dies_in_the_middle_is_named_and_tried_again(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = os.urandom(200_000)
    server.files["a.tar"], server.cut["a.tar"] = data, 2
    with caplog.at_level(logging.WARNING):
        with cache_in(tmp_path).open(f"{server.address}/a.tar", len(data), sha256(data)) as copy:
            assert copy.path.read_bytes() == data
    assert [record.message.split(" failed")[0] for record in caplog.records] == [
        f"{server.address}/a.tar: try {number} of 5" for number in (1, 2)
    ]


@pytest.mark.parametrize("harm", ["cut", "altered", "longer", "missing"])
def test_after_all_tries_one_sentence_names_the_file_and_nothing_stays(
    server: Server, tmp_path: Path, harm: str
) -> None:
    data = os.urandom(100_000)
    server.files["a.tar"] = data + b"x" * (harm == "longer")
    server.cut["a.tar"] = 9 * (harm == "cut")
    if harm == "missing":
        server.files.clear()
    wanted = sha256(data if harm != "altered" else b"")
    with pytest.raises(UserError, match=rf"^{server.address}/a\.tar: ") as caught:
        cache_in(tmp_path, tries=3).open(f"{server.address}/a.tar", len(data), wanted)
    reason = {
        "cut": "in 3 tries",
        "altered": "in 3 tries: its sha256",
        "longer": "in 3 tries: more bytes came where 100000",
        "missing": "this file is missing",
    }
    assert reason[harm] in str(caught.value)
    assert server.sent["a.tar"] == (0 if harm == "missing" else 3)
    assert copies(tmp_path) == []


def test_oldest_copies_make_room_and_those_in_use_never(server: Server, tmp_path: Path) -> None:
    names = [f"{number}.tar" for number in range(5)]
    server.files = {name: name.encode() * 8000 for name in names}  # 40 kB each
    cache, release = cache_in(tmp_path, max_kb=100), []

    def use(name: str) -> None:
        data = server.files[name]
        file = cache.open(
            f"{server.address}/{name}",
            len(data),
            sha256(data),
            release=lambda: release.pop().close(),
        )
        release.append(file)

    use("0.tar")
    held = release.pop()  # in use, and the oldest
    for name in names[1:]:
        use(name)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100_000
        assert "0.tar" in copies(tmp_path)
    assert copies(tmp_path) == ["0.tar", "4.tar"]
    assert os.pread(held.descriptor, 5, 0) == b"0.tar"


def test_prefetch_deletes_nothing_that_is_needed_next(server: Server, tmp_path: Path) -> None:
    server.files = {name: b"x" * 40_000 for name in "abc"}
    cache = cache_in(tmp_path, max_kb=100)
    addresses = [f"{server.address}/{name}" for name in "abc"]
    keep = [cache.path_of(address, sha256(b"x" * 40_000)) for address in addresses]
    done = [cache.fetch(address, 40_000, sha256(b"x" * 40_000), keep) for address in addresses]
    assert done == [True, True, False]
    assert copies(tmp_path) == ["a", "b"]


def test_file_larger_than_the_cache_names_the_key(server: Server, tmp_path: Path) -> None:
    server.files["a.tar"] = b"x" * 2000
    with pytest.raises(UserError, match=r"^data\.remote\.max_gb: .*a\.tar has 2e-06 GB"):
        cache_in(tmp_path, max_kb=1).open(f"{server.address}/a.tar", 2000)


def _open_in_a_process(address: str, folder: Path, data: bytes) -> None:
    with cache_in(folder).open(address, len(data), sha256(data)) as copy:
        assert copy.path.read_bytes() == data


def test_processes_of_a_machine_copy_a_file_once(server: Server, tmp_path: Path) -> None:
    data = os.urandom(500_000)
    server.files["a.tar"] = data
    context = multiprocessing.get_context("fork")
    arguments = (f"{server.address}/a.tar", tmp_path, data)
    processes = [context.Process(target=_open_in_a_process, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert server.sent["a.tar"] == 1


def test_files_that_are_no_copies_stay_and_do_not_count(server: Server, tmp_path: Path) -> None:
    """`data.remote.folder` may be a folder with the user's own files."""
    server.files["a.tar"] = b"x" * 90_000
    own = [tmp_path / name for name in ("photo.tar", ".hidden", "0123-photo.tar", "notes.lock")]
    for path in own:
        path.write_bytes(b"y" * 90_000)
    (tmp_path / "folder").mkdir()
    with cache_in(tmp_path, max_kb=100).open(f"{server.address}/a.tar"):
        assert all(path.stat().st_size == 90_000 for path in own)
    assert "a.tar" in copies(tmp_path)


def test_what_a_killed_process_left_is_deleted(server: Server, tmp_path: Path) -> None:
    server.files["a.tar"] = b"x" * 90_000
    cache = cache_in(tmp_path, max_kb=100)
    (tmp_path / ".1234-a.tar.tmp-99-abcd").write_bytes(b"y" * 90_000)
    with cache.open(f"{server.address}/a.tar"):
        assert copies(tmp_path) == ["a.tar"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("pipe:curl http://x/a.tar", "run commands and are never opened"),
        ("simplecache::s3://bucket/a", "sets are read from folders and from"),
        ("ftp://host/a", "sets are read from folders and from"),
        ("http://me:secret@host/a", "take the password out"),
    ],
)
def test_address_that_is_not_read_is_refused(address: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        is_remote(address)
    assert "secret" not in str(caught.value)


def test_missing_package_names_the_extra() -> None:
    pytest.importorskip("fsspec")
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r"needs s3fs: pip install 'dofsuite\[remote\]'"):
            read_remote("s3://bucket/manifest.json", RemoteCache())
    else:
        pytest.skip("s3fs is installed")


# --- sets at an address ----------------------------------------------------------------------


def serve(server: Server, folder: Path, under: str) -> str:
    for path in folder.iterdir():
        server.files[f"{under}/{path.name}"] = path.read_bytes()
    return f"{server.address}/{under}"


def remote_data(address: str, cache: Path, **options: object) -> ShardData:
    settings = RemoteCache(str(cache), max_gb=1e-3, tries=2, first_wait_s=0.01)
    given = {"batch_size": 4, "size_px": 16, "flip": 0.0, "remote": settings}
    return ShardData({"n": address}, **{**given, **options})


def epoch_of(data: ShardData) -> list[str]:
    return [key for batch in data.train_dataloader() for key in batch.key]


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_set_trains_as_the_folder_does(
    server: Server, shards: Path, tmp_path: Path, workers: int
) -> None:
    address = serve(server, shards, "set")
    data = remote_data(address, tmp_path / "cache", num_workers=workers)
    local = ShardData({"n": str(shards)}, batch_size=4, size_px=16, flip=0.0)
    assert epoch_of(data) == epoch_of(local)
    # Every shard and index once, whatever the number of processes
    tars = [f"set/{path.name}" for path in shards.glob("shard-*")]
    assert {name: server.sent[name] for name in tars} == dict.fromkeys(tars, 1)


def test_cache_of_less_than_the_set_gives_the_same_samples(server: Server, tmp_path: Path) -> None:
    """23 samples in shards of one: groups of eight, in a cache of about twelve."""
    folder = write_numbered(tmp_path / "many", 23, samples_per_shard=1)
    address, room = serve(server, folder, "set"), 12 * 11_000
    settings = RemoteCache(str(tmp_path / "cache"), max_gb=room / 1e9)
    data = remote_data(address, tmp_path, remote=settings)
    local = ShardData({"n": str(folder)}, batch_size=4, size_px=16, flip=0.0)
    assert epoch_of(data) == epoch_of(local)
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= room


def test_next_shards_are_copied_before_they_are_read(server: Server, tmp_path: Path) -> None:
    folder = write_numbered(tmp_path / "many", 30, samples_per_shard=1)
    data = remote_data(serve(server, folder, "set"), tmp_path / "cache")
    samples = data.train_dataloader().dataset
    samples[0]
    deadline = time.monotonic() + 20
    while len(list((tmp_path / "cache").glob("*.tar"))) < 16 and time.monotonic() < deadline:
        time.sleep(0.01)
    wanted = {f"shard-{shard:06d}.tar" for shard in samples.orders[0].shards_ahead(0)}
    assert {path.name[25:] for path in (tmp_path / "cache").glob("*.tar")} == wanted
    assert len(wanted) == 16


def test_remote_shard_that_dies_is_skipped_up_to_the_limit(
    server: Server, shards: Path, tmp_path: Path
) -> None:
    address = serve(server, shards, "set")
    server.cut["set/shard-000002.tar"] = 99
    data = remote_data(address, tmp_path / "cache", skip_damaged=5)
    assert len(set(epoch_of(data))) == 18
    assert sorted(each.number for each in data.damage.skipped.values()) == [10, 11, 12, 13, 14]
    reasons = {each.reason.split(" tries")[0] for each in data.damage.skipped.values()}
    assert reasons == {f"{address}/shard-000002.tar: it could not be copied in 2"}
    with pytest.raises(UserError, match=r"^data\.skip_damaged: more than 4 .* could not be copied"):
        epoch_of(remote_data(address, tmp_path / "cache", skip_damaged=4))


def test_missing_manifest_and_wrong_addresses_end_the_run_at_once(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"nothing/manifest\.json: this file is missing"):
        remote_data(f"{server.address}/nothing", tmp_path).setup()
    with pytest.raises(UserError, match="run commands and are never opened"):
        remote_data("pipe:cat a.tar", tmp_path)


def test_buckets_of_a_remote_set_need_its_sizes(
    server: Server, shards: Path, tmp_path: Path
) -> None:
    options = {"buckets": Buckets(("1:1",), multiple_px=8)}
    with pytest.raises(UserError, match=r"^data\.buckets: .*data index FOLDER before"):
        epoch_of(remote_data(serve(server, shards, "set"), tmp_path / "cache", **options))
    image_sizes(ShardReader(shards))
    address = serve(server, shards, "set")
    assert len(epoch_of(remote_data(address, tmp_path / "cache", **options))) == 24
