"""Hashes by which cached results know what they were computed from.

Weights are known by their content, so that a copy is the same and a retraining is not. Of a large
file only the header and blocks spread over it are read: a full-size SDXL has 5 GB, training changes
all of its weights, and 2 MiB take milliseconds.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from dofsuite.diffusion import draw_integer
from dofsuite.files import readable

# Weight files up to this size are read completely.
FULL_BYTES = 2**22
# Of a larger one, spread evenly from its first bytes to its last.
BLOCKS, BLOCK_BYTES = 32, 2**16
# Of safetensors (names, types and shapes); a longer one is no header.
MAX_HEADER_BYTES = 2**24


def config_hash(settings: dict[str, Any]) -> str:
    # Eight digits
    return f"{draw_integer(0, 0, json.dumps(settings, sort_keys=True)):016x}"[:8]


def hash_file(file: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        UserError: It cannot be read.
    """
    with readable(file), open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def hash_named_files(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(name.encode() + bytes.fromhex(hash_file(file)))
    return digest.hexdigest()


def hash_files(folder: Path, files: Iterable[Path]) -> str:
    return hash_named_files((str(file.relative_to(folder)), file) for file in sorted(files))


def weight_hashes(folder: Path) -> list[str]:
    return [
        f"{file.relative_to(folder).as_posix()}:{file.stat().st_size}:{hash_weights(file)[:16]}"
        for file in sorted(folder.rglob("*.safetensors"))
    ]


def hash_weights(file: Path) -> str:
    # Computed once in a process unless the file changes
    stat = file.stat()
    return _hash_weights(file.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _hash_weights(file: Path, size: int, changed_ns: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    with open(file, "rb") as opened:
        # Small files completely
        if size <= FULL_BYTES:
            digest.update(opened.read())
            return digest.hexdigest()

        # Large ones: the safetensors header, then evenly spread blocks
        header_bytes = 8 + int.from_bytes(opened.read(8), "little")
        opened.seek(0)
        digest.update(opened.read(min(header_bytes, MAX_HEADER_BYTES)))
        for block in range(BLOCKS):
            opened.seek((size - BLOCK_BYTES) * block // (BLOCKS - 1))
            digest.update(opened.read(BLOCK_BYTES))
    return digest.hexdigest()
