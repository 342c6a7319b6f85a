"""Prompts, of a text file or a set's captions."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dofsuite.data import ShardReader
from dofsuite.data.sample_record import read_record
from dofsuite.data.synthetic.names import is_synthetic
from dofsuite.data.synthetic.sets import prepare
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import config_hash

# For prompts without EXIF (*ours*).
FOCAL_LENGTH_MM = 50.0


class Prompt(NamedTuple):
    # Its number and, of a set, the sample's key.
    key: str
    text: str
    focal_length_mm: float

    @property
    def row(self) -> str:
        # Of its row and images; depends on text, camera and number (which gives the seed)
        return f"{self.key}-{config_hash(self._asdict())}"


def read_prompts(
    source: str, count: int | None = None, focal_length_mm: float | None = None
) -> list[Prompt]:
    """Read the first `count` prompts.

    Args:
        source: A text file, one prompt a line (empty lines and those that begin with # are left
            out); or a folder of shards or `synthetic:NAME`, whose captions are the prompts.
        count: How many; None for all.
        focal_length_mm: On 36 mm of sensor, for all; None for the equivalent of each
            sample's EXIF, and 50 where there is none.

    Raises:
        UserError: There is nothing of that name, or no prompt in it.
    """
    is_file = not is_synthetic(source) and Path(source).is_file()
    found = list(_of_file(Path(source)) if is_file else _of_set(source))
    if not found:
        raise UserError(f"{source}: --prompts: there is no prompt in it; name another file or set.")

    # Focal length: as given, of the EXIF (NaN where there is none, and NaN > 0 is false), or 50 mm
    prompts = []
    for number, (key, text, exif_mm) in enumerate(found[:count]):
        focal_mm = focal_length_mm or (exif_mm if exif_mm > 0 else FOCAL_LENGTH_MM)
        prompts.append(Prompt(f"{number:04d}{key and '-'}{key}", text, focal_mm))
    return prompts


def _of_file(file: Path) -> Iterator[tuple[str, str, float]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file}: --prompts: it cannot be read as text; name a text file in UTF-8."
        ) from error
    texts = map(str.strip, lines)
    return (("", text, 0.0) for text in texts if text and not text.startswith("#"))


def _of_set(source: str) -> Iterator[tuple[str, str, float]]:
    reader = open_set(
        source, "--prompts: no such file or set; name a text file, or a folder of shards."
    )
    for number in range(len(reader)):
        sample = reader.read(number)
        record = read_record(sample.members, f"{sample.shard}: {sample.key}")
        if record.caption:
            yield sample.key, record.caption, record.equivalent_mm


def open_set(source: str, error: str) -> ShardReader:
    if not is_synthetic(source) and not Path(source).is_dir():
        raise UserError(f"{source}: {error}")
    return ShardReader(prepare(source))
