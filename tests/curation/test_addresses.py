"""Tars at addresses: the sets that the same tars on a disk give, and each fault named."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import tarfile

import pytest

from dofsuite.curation.inputs import InputShard, Reader, TarCache, find_inputs
from dofsuite.errors import UserError
from tests.curation.conftest import OPTIONS, curate, results
from tests.curation.photographs import DEEP, SHALLOW, jpeg
from tests.data.test_remote import Server, server

__all__ = ["server"]
WORDS = ("--without", "blur", "photograph", "--captioner", "none", *OPTIONS, "--test-share", 0.2)


def tar_of(first: int, count: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number in range(first, first + count):
            data = jpeg(number, (SHALLOW, DEEP, None)[number % 3])
            info = tarfile.TarInfo(f"{number:04d}.jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture(scope="module")
def near(tmp_path_factory):
    """Three tars in a folder `near`, and what they give."""
    folder = tmp_path_factory.mktemp("tars")
    (folder / "near").mkdir()
    for number in range(3):
        (folder / f"near/{number:03d}.tar").write_bytes(tar_of(12 * number, 12))
    assert curate(folder / "near", "-o", folder / "out", *WORDS) == 0
    return folder


def sets(folder):
    """Shards and manifests."""
    return {n: d for n, d in results(folder).items() if n.startswith(("deep/", "shallow/"))}


def test_a_list_of_addresses_gives_the_sets_of_the_tars(near, server: Server, tmp_path):
    # Two of the three with their checksums
    root, lines = server.address, ["# shards"]
    for path in sorted(near.glob("near/*.tar")):
        server.files[f"near/{path.name}"] = data = path.read_bytes()
        given = hashlib.sha256(data).hexdigest() if path.name != "001.tar" else ""
        lines.append(f"{root}/near/{path.name} {given}")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    words = ("--cache", tmp_path / "cache")
    assert curate(tmp_path / "list.txt", "-o", tmp_path / "out", *WORDS, *words) == 0
    assert sets(tmp_path / "out") == sets(near / "out")
    assert server.sent == dict.fromkeys(server.files, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "held"), [(1, 1.5), (2, 3.5)])
def test_a_cache_that_holds_few_tars_serves_file_addresses(near, tmp_path, workers, held):
    paths = sorted(near.glob("near/*.tar"))
    largest = max(path.stat().st_size for path in paths)
    words = (*WORDS, "--cache", tmp_path / "cache", "--cache-gb", held * largest / 1e9)
    addresses = [f"file://{path}" for path in paths]
    assert curate(*addresses, "-o", tmp_path / "out", *words, "--workers", workers) == 0
    assert sets(tmp_path / "out") == sets(near / "out")
    assert len(list((tmp_path / "cache").glob("*.tar"))) == int(held)


def test_what_an_address_or_a_list_gets_wrong_is_named(near, tmp_path):
    path = tmp_path / "list.txt"
    for line, reason in {
        "https://host/photos": "an address is of a tar",
        "https://host/a.tar 1234": "only its sha256 may stand",
        f"https://host/a.tar {'0' * 64} x": "only its sha256 may stand",
        "ftp://host/a.tar": "sets are read from folders and from http://",
        "pipe:curl host/a.tar": "pipe: addresses run commands",
        "https://me:word@host/a.tar": "take the password out",
        "nowhere": "there is no such folder or tar",
    }.items():
        path.write_text(f"{near}/near\n{line}\n")
        with pytest.raises(UserError, match=f"list.txt: line 2: .*{reason}"):
            find_inputs([str(path)], 10)
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match=r"list.txt: it names no input"):
        find_inputs([str(path)], 10)
    # Names: the folder's by default, the host's without one, the list's, the line's
    path.write_text(
        f"https://a/b/c.tar?x=1 sha256:{'A' * 64}\nhttps://a/c.tar\nown=https://a/c.tar"
    )
    found = find_inputs([str(path)], 10)
    assert [shard.source for shard in found] == ["b", "a", "own"]
    assert [shard.sha256 for shard in found] == ["a" * 64, None, None]
    path.write_text("https://a/b/c.tar\nown=https://a/b/c.tar\n")
    assert [shard.source for shard in find_inputs([f"all={path}"], 10)] == ["all", "own"]
    with pytest.raises(UserError, match="b/c: two inputs would have this name"):
        find_inputs(["https://a/b/c.tar", "https://z/b/c.tar"], 10)
    with pytest.raises(UserError, match="b/c: two inputs would have this name"):
        find_inputs(["https://a/b/c.tar"] * 2, 10)


def test_a_copy_that_fails_ends_with_its_address_and_reason(server: Server, tmp_path, capsys):
    server.files["a/b.tar"] = data = tar_of(0, 2)
    address = f"{server.address}/a/b.tar"
    cache = TarCache(str(tmp_path), first_wait_s=0.01, tries=3)
    names = ["a/b/0000", "a/b/0001"]
    # Dies in the middle: again; always: named
    server.cut["a/b.tar"] = 2
    reader = Reader(InputShard("a", address), cache)
    assert [entry.name for entry in reader.entries] == names
    reader.close()
    server.files["a/b.tar"] = data + bytes(512)
    server.cut["a/b.tar"] = 99
    with pytest.raises(
        UserError, match=r"a/b.tar: it could not be copied in 3 tries: .*address\.$"
    ):
        _ = Reader(InputShard("a", address, None, "1" * 64), cache).entries
    # Another content than the list says
    server.cut["a/b.tar"] = 0
    with pytest.raises(UserError, match=r"b.tar: .*its sha256 is not the one given"):
        _ = Reader(InputShard("a", address, None, "0" * 64), cache).entries
    # Missing, and larger than the cache: through the command
    words = (*WORDS, "--cache", tmp_path / "near")
    assert curate(f"{server.address}/a/c.tar", "-o", tmp_path / "c", *words) == 2
    assert "a/c.tar: this file is missing" in capsys.readouterr().err
    assert curate(address, "-o", tmp_path / "b", *words, "--cache-gb", 1e-6) == 2
    assert "--cache-gb: http://" in capsys.readouterr().err
    assert curate(address, "-o", tmp_path / "b", *words) == 0


@pytest.mark.skipif(bool(importlib.util.find_spec("ray")), reason="Ray is installed")
def test_ray_that_is_not_installed_is_named(near, tmp_path, capsys):
    assert curate(near / "near", "-o", tmp_path / "out", *WORDS, "--ray") == 2
    assert "--ray: No module named 'ray': pip install 'dofsuite[scale]'" in capsys.readouterr().err
    assert curate(near / "near", "-o", tmp_path / "out", *WORDS, "--workers", 2, "--ray") == 2
    assert "--ray: Ray itself spreads the work" in capsys.readouterr().err
