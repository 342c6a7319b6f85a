"""The index of a tar: where each sample's files lie in it."""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path
from typing import Any

from dofsuite.data.manifest import MAX_MEMBER_BYTES, sha256_of
from dofsuite.errors import UserError
from dofsuite.files import readable

# What tarfile raises of damaged headers beside its own errors.
DAMAGED_HEADER = (EOFError, ValueError, OverflowError, MemoryError)


def index_of(path: Path) -> list[list[Any]]:
    """Index a tar: `[key, {extension: [offset, size, sha256]}]` of each sample, in order.

    Names are split as webdataset splits them: at the first dot after the last slash.

    Raises:
        UserError: It is no plain tar, is truncated (also between members, which tarfile and
            webdataset take for its end), or a member is no plain file or lies outside.
    """
    samples: dict[str, dict[str, list[Any]]] = {}
    # Each plain file, then the end marker, by which a tar cut between members is told
    try:
        with readable(path), tarfile.open(path, "r:") as tar, open(path, "rb") as file:
            for member in tar:
                if member.size < 0:  # tarfile would go back in the file
                    raise ValueError(f"{member.name}: a size below 0")
                name = re.fullmatch(r"((?:.*/)?[^./][^./]*)\.([^/]+)", member.name)
                if member.isdir() or name is None:
                    check_key(member.name, str(path))
                    continue
                key, extension = name[1], name[2].lower()
                start, size = member.offset_data, member.size
                check_key(key, str(path))
                if not member.isreg() or member.issparse() or size > MAX_MEMBER_BYTES:
                    raise UserError(
                        f"{path}: {member.name}: it is a link, or too large: leave it out."
                    )
                if extension in samples.setdefault(key, {}):
                    raise UserError(f"{path}: {member.name}: it is there twice: leave one out.")
                sha256 = sha256_of(os.pread(file.fileno(), size, start))
                samples[key][extension] = [start, size, sha256]
            is_whole = os.pread(file.fileno(), 1024, tar.offset) == bytes(1024)
    except (tarfile.TarError, *DAMAGED_HEADER) as error:
        raise UserError(
            f"{path}: it is no plain tar, or truncated ({error}): copy it again."
        ) from error
    if not is_whole:
        raise UserError(f"{path}: the shard is truncated: it has no end marker: copy it again.")
    return [[key, members] for key, members in samples.items()]


def check_key(key: object, path: str) -> None:
    """Check that a sample's key names nothing outside its folder, should it ever name a file.

    Raises:
        UserError: It is absolute, has a `..` part or a backslash, or is no text.
    """
    is_plain = isinstance(key, str) and key.isprintable() and not key.startswith("/")
    if not is_plain or "\\" in str(key) or ".." in str(key).split("/"):
        raise UserError(f"{path}: {key!r}: a sample's key must be a plain name, without ../.")
