"""What determines a curation's result, and the folder that all its processes share.

curation.json    settings, and the input shards' checksum     inputs.jsonl    the input shards
verdicts/        one file an input shard, a row an image      plan.json, plan/   what merge planned
done/            one file an output shard                     SET/SPLIT/      the shards
report.html      and, for refocus, contact_sheet.html with decisions.csv
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dofsuite.curation.answers import Answers, read_answers
from dofsuite.curation.choice import Choice
from dofsuite.curation.inputs import InputShard, Reader
from dofsuite.curation.phones import Phone, read_phones
from dofsuite.curation.rules import Limits, Purpose, Rule, Thresholds, rules_of
from dofsuite.data.manifest import sha256_of
from dofsuite.data.remote import RemoteCache
from dofsuite.errors import UserError
from dofsuite.files import make_folder, parse_json, write_json, write_text

SETTINGS_FILE, INPUTS_FILE = "curation.json", "inputs.jsonl"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the verdicts follow from, beside the input shards: plain data."""

    purpose: Purpose
    inputs: tuple[str, ...]
    without: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    sharpness: dict[str, float] = field(default_factory=dict)
    networks: Choice = field(default_factory=Choice)
    answers: str | None = None
    answers_sha256: str | None = None
    phones: str | None = None
    phones_sha256: str | None = None
    images_per_shard: int = 1000

    @property
    def rules(self) -> tuple[Rule, ...]:
        return rules_of(self.purpose, self.without)

    def limits(self) -> Limits:
        phones: tuple[Phone, ...] = ()
        if any(rule.name == "device" for rule in self.rules):
            phones = tuple(read_phones(Path(self.phones) if self.phones else None))
        return Limits(self.thresholds, phones, self.sharpness)

    def recorded(self) -> Answers:
        return read_answers(Path(self.answers)) if self.answers else {}


def as_data(settings: Settings) -> dict[str, Any]:
    data = asdict(settings) | {"networks": settings.networks._asdict()}
    return dict(json.loads(json.dumps(data)))


def settings_from(data: dict[str, Any]) -> Settings:
    return Settings(
        **{
            **data,
            "inputs": tuple(data["inputs"]),
            "without": tuple(data["without"]),
            "thresholds": Thresholds(**data["thresholds"]),
            "networks": Choice(**data["networks"]),
        }
    )


def fingerprint(data: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits that differ where plain data differ."""
    return sha256_of(json.dumps(data, sort_keys=True).encode())[:16]


def begin(folder: Path, settings: Settings, shards: list[InputShard] | None) -> None:
    """Write the settings and input shards into a folder, or check that they are those there.

    Args:
        folder: Of this curation.
        settings: Of this start.
        shards: What to write where the folder is new.

    Raises:
        UserError: The folder holds another curation, or something else.
    """
    data, path = as_data(settings), folder / SETTINGS_FILE
    if path.is_file():
        stored = read_settings_file(folder)["settings"]
        differing = [key for key in data if stored.get(key) != data[key]]
        if differing:
            raise UserError(
                f"{folder}: it holds a curation with another {differing[0].replace('_', ' ')} "
                f"({stored.get(differing[0])!r}, now {data[differing[0]]!r}): choose another "
                "folder, or remove this one."
            )
        return
    there = {each.name for each in folder.iterdir()} if folder.is_dir() else set()
    if any(not name.startswith(".") for name in there - {INPUTS_FILE}):
        raise UserError(f"{folder}: it holds something else: choose a new folder.")

    # The input shards first: a folder that has its settings has them
    assert shards is not None
    text = "".join(json.dumps(each._asdict(), separators=(",", ":")) + "\n" for each in shards)
    write_text(make_folder(folder) / INPUTS_FILE, text)
    digest = sha256_of(text.encode())
    write_json(path, {"settings": data, "input_shards": len(shards), "inputs_sha256": digest})


def read_settings_file(folder: Path) -> dict[str, Any]:
    """Read `curation.json`.

    Raises:
        UserError: It is missing or damaged.
    """
    path = folder / SETTINGS_FILE
    try:
        return dict(parse_json(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: there is no curation here; begin with --stage map.") from error


class Curation:
    """A curation's folder, as every process opens it."""

    def __init__(self, folder: Path, cache: RemoteCache | None = None) -> None:
        """Read settings and input shards.

        Args:
            folder: Of this curation.
            cache: Where this machine keeps copies of input shards at addresses.

        Raises:
            UserError: They are missing or damaged, or a file that they name has changed.
        """
        stored = read_settings_file(folder)
        self.cache = cache
        self.folder, self.settings = folder, settings_from(stored["settings"])
        text = (folder / INPUTS_FILE).read_bytes()
        if sha256_of(text) != stored["inputs_sha256"]:
            raise UserError(f"{folder / INPUTS_FILE}: the file was altered: begin anew.")
        self._lines = text.splitlines()
        self.fingerprint = fingerprint(stored)

    @property
    def input_count(self) -> int:
        return len(self._lines)

    def input_shard(self, number: int) -> InputShard:
        return InputShard(**json.loads(self._lines[number]))

    def reader(self, number: int, release: Callable[[], object] = lambda: None) -> Reader:
        """Return a reader of an input shard; `release` as `Reader` says."""
        return Reader(self.input_shard(number), self.cache, release)

    def verdict_file(self, number: int) -> Path:
        return self.folder / "verdicts" / f"{number:06d}.jsonl"
