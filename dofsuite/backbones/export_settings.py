"""Settings of an export: one JSON file beside its networks, which inference reads."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from dofsuite.errors import UserError
from dofsuite.files import parse_json

Settings = TypeVar("Settings", bound="ExportSettings")


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Base of the settings of a kind of export."""

    # Name of the file in an export's folder.
    FILE: ClassVar[str]
    # What the user calls the folder.
    KEY: ClassVar[str] = "--model"
    # What a folder without the file lacks, and how to get it.
    MISSING: ClassVar[str]
    # Keys of exports from before they were renamed -> the keys now.
    OLD_KEYS: ClassVar[dict[str, str]] = {}

    @classmethod
    def find(cls, folder: str | Path) -> Path:
        """Return the export's folder of a run or an export.

        Raises:
            UserError: There is none.
        """
        if (place := cls.place_in(folder)) is None:
            raise UserError(f"{folder}: {cls.KEY}: {cls.MISSING.format(file=cls.FILE)}.")
        return place

    @classmethod
    def place_in(cls, folder: str | Path) -> Path | None:
        """As `find`; None where there is no export."""
        places = (Path(folder), Path(folder) / "export")
        return next((place for place in places if (place / cls.FILE).is_file()), None)

    def write(self, folder: Path) -> None:
        (folder / self.FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls: type[Settings], folder: Path) -> Settings:
        """Read the file of an export's folder; lists become tuples.

        Raises:
            UserError: It is damaged.
        """
        try:
            values = parse_json((folder / cls.FILE).read_text()).items()
            tuples = {key: tuple(v) if isinstance(v, list) else v for key, v in values}
            return cls(**{cls.OLD_KEYS.get(key, key): value for key, value in tuples.items()})
        except (OSError, ValueError, TypeError, AttributeError):
            raise UserError(
                f"{folder / cls.FILE}: {cls.KEY}: this file is damaged; take a whole copy of the "
                "export."
            ) from None
