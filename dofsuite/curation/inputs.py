"""Input shards: a tar is one, a folder's images in the order of their names are cut into some.

A tar may lie at an address (`dofsuite/data/remote.py`): it is copied whole into a bounded cache.

Which images lie in which input shard depends on names alone, so every process finds the same.
"""

import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from dofsuite.curation.header import HEADER_BYTES
from dofsuite.data.decode import DECODERS
from dofsuite.data.manifest import MAX_MEMBER_BYTES
from dofsuite.data.packing.match_files import CAPTION_EXTENSION, find_pairs
from dofsuite.data.remote import CacheWords, RemoteCache, is_remote
from dofsuite.data.shard_cache import CachedFile, ShardCache
from dofsuite.data.tar_index import DAMAGED_HEADER
from dofsuite.errors import UserError
from dofsuite.files import read_bytes
from dofsuite.images import IMAGE_EXTENSIONS

KEPT_EXTENSIONS = (*IMAGE_EXTENSIONS, CAPTION_EXTENSION, "json", *DECODERS)
TAR_BLOCK = 512
SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.IGNORECASE)


class TarCache(RemoteCache):
    """Where copies of tars at addresses are kept; here there are options and a list."""

    words = CacheWords("--cache-gb", more_tries="", checksum="the one given")


class Entry(NamedTuple):
    """An image: its name in reports and answers, and where its files lie.

    `files` maps an extension (`jpg`, `txt`, `json`, `depth.png`) to a path within the root, or to
    offset and size within the tar.
    """

    name: str
    image: str
    files: dict[str, Any]


class InputShard(NamedTuple):
    """A tar, or some of a folder's images."""

    source: str
    # The folder, or the tar's path or address.
    path: str
    # Of a folder: an entry an image. None: the tar's members tell.
    entries: list[list[Any]] | None = None
    # Of a tar at an address, where it is given.
    sha256: str | None = None

    @property
    def is_tar(self) -> bool:
        return self.entries is None

    @property
    def is_remote(self) -> bool:
        return self.is_tar and is_remote(self.path)


class Reader:
    """Reads an input shard's images and what belongs to them."""

    def __init__(
        self,
        shard: InputShard,
        cache: RemoteCache | None = None,
        release: Callable[[], object] = lambda: None,
    ) -> None:
        """Read a shard; one at an address through `cache`.

        Args:
            shard: The shard.
            cache: Where copies of tars at addresses are kept.
            release: Closes other readers of this process where the cache has no room.
        """
        self.shard, self._release = shard, release
        self._cache = cache or TarCache()
        # A tar that ends early: what is wrong with it, found by `entries`.
        self.damage: str | None = None
        self._copy: CachedFile | None = None

    @cached_property
    def path(self) -> Path:
        """The folder, or the tar; one at an address is copied now and kept until `close`.

        Raises:
            UserError: It cannot be copied.
        """
        if not self.shard.is_remote:
            return Path(self.shard.path)
        address, sha256 = self.shard.path, self.shard.sha256
        self._copy = ShardCache(self._cache).open(address, None, sha256, release=self._release)
        return self._copy.path

    @cached_property
    def entries(self) -> list[Entry]:
        """The images, in order."""
        if self.shard.entries is not None:
            return [Entry(*entry) for entry in self.shard.entries]
        return list(_entries_of(self._tar_members(), _prefix(self.shard)))

    def read(self, entry: Entry, extension: str | None = None, most_bytes: int = -1) -> bytes:
        """Return a file's bytes, the image's by default, or the first `most_bytes` of them.

        Raises:
            UserError: It cannot be read.
        """
        where = entry.files[extension or entry.image]
        try:
            if isinstance(where, str):
                with open(self.path / where, "rb") as file:
                    return file.read(most_bytes)
            offset, size = where
            self._file.seek(offset)
            return self._file.read(size if most_bytes < 0 else min(size, most_bytes))
        except OSError as error:
            raise UserError(f"{entry.name}: it cannot be read ({error.strerror}).") from error

    def read_header(self, entry: Entry) -> bytes:
        """Return a JPEG's first segments; all of another file, which may have EXIF at its end."""
        is_jpeg = entry.image in ("jpg", "jpeg")
        return self.read(entry, most_bytes=HEADER_BYTES if is_jpeg else -1)

    @cached_property
    def _file(self) -> BinaryIO:
        return open(self.path, "rb")

    # Python's tarfile takes a tar that ends between two members for a whole one.
    def _tar_members(self) -> Iterator[tuple[str, int, int]]:
        try:
            with tarfile.open(self.path, "r:") as tar:
                size = self.path.stat().st_size
                for member in tar:
                    if member.size < 0:  # tarfile would go back in the file
                        raise tarfile.ReadError(f"{member.name}: a size below 0")
                    end = member.offset_data + member.size
                    if member.isreg() and member.size <= MAX_MEMBER_BYTES and end <= size:
                        yield member.name, member.offset_data, member.size
                self._file.seek(tar.offset)
                if any(block := self._file.read(TAR_BLOCK)) or not block:
                    self.damage = "the tar has no end: it is truncated or damaged"
        except (tarfile.TarError, OSError, *DAMAGED_HEADER) as error:
            self.damage = f"the tar cannot be read to its end: {error}"

    def close(self) -> None:
        if "_file" in self.__dict__:
            self._file.close()
        if self._copy is not None:
            self._copy.close()

    # Readers that are dropped from a bounded store let go of their copies.
    def __del__(self) -> None:
        self.close()


# Members of a tar to images: webdataset's keys end at the first dot of the last part of a name.
def _entries_of(members: Iterator[tuple[str, int, int]], prefix: str) -> Iterator[Entry]:
    files: dict[str, dict[str, Any]] = {}
    for name, offset, size in members:
        folder, _, last = name.rpartition("/")
        stem, _, extension = last.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if stem and extension.lower() in KEPT_EXTENSIONS:
            files.setdefault(key, {})[extension.lower()] = (offset, size)
    for key, found in files.items():
        image = next((each for each in IMAGE_EXTENSIONS if each in found), None)
        if image is not None:
            yield Entry(f"{prefix}/{key}", image, found)


def find_inputs(inputs: Sequence[str], images_per_shard: int) -> list[InputShard]:
    """Cut inputs into shards.

    Args:
        inputs: Each `[SOURCE=]PATH`: a folder of images, a folder of tars, a tar, or a text file
            that names some of these, one a line; or `[SOURCE=]ADDRESS [SHA256]` of a tar. The
            source is by default the folder's name.
        images_per_shard: Of a folder of images.

    Raises:
        UserError: One is missing or holds no image, an address is none that is read, or two would
            have the same names. Whether an address answers shows when it is copied.
    """
    shards = [shard for text in inputs for shard in _found(text, "", images_per_shard)]

    # Names are keys of answers and decisions
    tars = [(_prefix(shard), shard.path) for shard in shards if shard.is_tar]
    folders = {(_prefix(shard), shard.path) for shard in shards if not shard.is_tar}
    counted = Counter(prefix for prefix, _ in [*tars, *folders])
    twice = sorted(prefix for prefix, count in counted.items() if count > 1)
    if twice:
        raise UserError(
            f"{twice[0]}: two inputs would have this name; name their sources: SOURCE=PATH."
        )
    return shards


def _prefix(shard: InputShard) -> str:
    if not shard.is_tar:
        return shard.source
    name = _parts(shard.path)[-1] if shard.is_remote else Path(shard.path).name
    return f"{shard.source}/{Path(name).stem}"


# Host, folders and name of an address.
def _parts(address: str) -> list[str]:
    return re.split(r"[?#]", address.partition("://")[2])[0].split("/")


def _found(text: str, source: str, images_per_shard: int) -> list[InputShard]:
    # A source that is named here is nearer than the list's
    named, separator, rest = text.partition("=")
    if separator and "/" not in named and not Path(text).exists():
        source, text = named, rest
    if is_remote(text):
        return [_shard_at(text, source)]
    path = Path(text)
    if path.suffix != ".txt" or not path.is_file():
        return _shards_of(source, path, images_per_shard)

    # A list
    shards = []
    lines = read_bytes(path, "input").decode("utf-8", errors="replace").splitlines()
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            try:
                shards += _found(line, source, images_per_shard)
            except UserError as error:
                raise UserError(f"{path}: line {number}: {error}") from error
    if not shards:
        raise UserError(f"{path}: it names no input; give one a line.")
    return shards


def _shard_at(text: str, source: str) -> InputShard:
    address, *sums = text.split()
    parts = _parts(address)
    if not parts[-1].endswith(".tar"):
        raise UserError(
            f"{address}: an address is of a tar; give each its own, by a text file that lists them."
        )
    found = [SHA256.fullmatch(each) for each in sums]
    if len(sums) > 1 or None in found:
        raise UserError(
            f"{text}: after an address only its sha256 may stand, 64 hexadecimal digits."
        )
    digests = [match[1].lower() for match in found if match is not None]
    return InputShard(source or parts[-2], address, None, *digests)


def _shards_of(source: str, path: Path, images_per_shard: int) -> list[InputShard]:
    # A tar, or a folder of them
    if path.is_file():
        if path.suffix != ".tar":
            raise UserError(f"{path}: an input is a folder, a tar, or a text file that names some.")
        return [InputShard(source or path.resolve().parent.name, str(path))]
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder or tar.")
    source = source or path.resolve().name
    tars = sorted(each for each in path.rglob("*.tar") if not each.name.startswith("."))
    if tars:
        return [InputShard(source, str(tar)) for tar in tars]

    # A folder of images
    pairs, _, faults = find_pairs(path)
    if faults:
        raise UserError(f"{faults[0]}: rename or remove one of them.")
    if not pairs:
        raise UserError(f"{path}: there is no tar and no JPEG, PNG or WebP image in it.")
    entries: list[list[Any]] = []
    for pair in pairs:
        image = pair.image.suffix[1:].lower()
        files = {image: pair.image.relative_to(path).as_posix()}
        if pair.caption is not None:
            files[CAPTION_EXTENSION] = pair.caption.relative_to(path).as_posix()
        if pair.depth is not None:
            depth = f"depth.{pair.depth.suffix[1:].lower()}"
            files[depth] = pair.depth.relative_to(path).as_posix()
        entries.append([f"{source}/{files[image]}", image, files])
    starts = range(0, len(entries), images_per_shard)
    return [InputShard(source, str(path), entries[k : k + images_per_shard]) for k in starts]
