"""What tells one training's weights from another's: their content, so that a copy is the same and a retraining is not.

Of a large file the header and blocks all over it are read, because a full size SDXL is 5 GB and a
training moves all of
what it trains: 2 MiB take milliseconds.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

WHOLE_BYTES = 2**22
"""Files up to this size are read as a whole."""
BLOCKS, BLOCK_BYTES = 32, 2**16
"""Of a larger one, spread evenly from its first bytes to its last."""
LARGEST_HEADER_BYTES = 2**24
"""Of safetensors (names, types and shapes); a longer one is no header."""


def weights_in(folder: Path) -> list[str]:
    """Name the weight files below a folder with their sizes and digests: another training gives other ones."""
    files = sorted(folder.rglob("*.safetensors"))
    return [
        f"{file.relative_to(folder).as_posix()}:{file.stat().st_size}:{digest_of(file)[:16]}"
        for file in files
    ]


def digest_of(file: Path) -> str:
    """Return a digest of a weight file, read once in a process unless it changes."""
    found = file.stat()
    return _digest(file.resolve(), found.st_size, found.st_mtime_ns)


@cache
def _digest(file: Path, size: int, changed_ns: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    with open(file, "rb") as opened:
        if size <= WHOLE_BYTES:
            digest.update(opened.read())
            return digest.hexdigest()
        header_bytes = 8 + int.from_bytes(opened.read(8), "little")
        opened.seek(0)
        digest.update(opened.read(min(header_bytes, LARGEST_HEADER_BYTES)))
        for number in range(BLOCKS):
            opened.seek((size - BLOCK_BYTES) * number // (BLOCKS - 1))
            digest.update(opened.read(BLOCK_BYTES))
    return digest.hexdigest()
