"""Smartphones, by the make and model that EXIF names."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from dofsuite.errors import UserError
from dofsuite.files import read_bytes


class Phone(NamedTuple):
    """Shell patterns of a make and of its models, in lower case."""

    make: str
    model: str


def read_phones(extra: Path | None = None) -> list[Phone]:
    """Read the list that comes with the package, and the lines of a file of the user's.

    Raises:
        UserError: The file cannot be read, or a line is not MAKE | MODEL.
    """
    packaged = files("dofsuite.curation").joinpath("phones.txt").read_text()
    phones = _parsed(packaged.splitlines(), "phones.txt")
    if extra is not None:
        text = read_bytes(extra, "--phones").decode("utf-8", errors="replace")
        phones += _parsed(text.splitlines(), f"{extra}: --phones")
    return phones


def _parsed(lines: Iterable[str], name: str) -> list[Phone]:
    phones = []
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].strip().lower()
        if not text:
            continue
        parts = [part.strip() for part in text.split("|")]
        if len(parts) != 2 or not all(parts):
            raise UserError(f"{name}: line {number}: {line!r} is not MAKE | MODEL.")
        phones.append(Phone(*parts))
    return phones


def is_phone(make: str, model: str, phones: Iterable[Phone]) -> bool:
    """Whether a make and model are of a smartphone.

    >>> is_phone("samsung", "SM-S918B", read_phones()), is_phone("SAMSUNG", "NX500", read_phones())
    (True, False)
    """
    make, model = make.strip().lower(), model.strip().lower()
    return any(fnmatchcase(make, each.make) and fnmatchcase(model, each.model) for each in phones)
