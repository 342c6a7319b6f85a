"""`synthetic:NAME`, which names a synthetic set wherever a folder of shards is expected."""

import os

from dofsuite.errors import UserError

PREFIX = "synthetic:"
# Of older versions; it stays in the samples' JSON, whose checksums must not change.
OLD_PREFIX = "embedded:"


def is_synthetic(folder: str | os.PathLike[str]) -> bool:
    """Whether this names a synthetic set rather than a folder.

    Raises:
        UserError: It has the prefix of older versions.
    """
    text = os.fspath(folder)
    if text.startswith(OLD_PREFIX):
        raise UserError(
            f"{text}: the embedded sets are called synthetic now: write "
            f"{PREFIX}{text.removeprefix(OLD_PREFIX)}."
        )
    return text.startswith(PREFIX)
