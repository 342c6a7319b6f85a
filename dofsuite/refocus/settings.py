"""The settings that an export's training and inference share: `refocus.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dofsuite.backbones import Backbone
from dofsuite.backbones.descriptors import rebuild
from dofsuite.errors import UserError
from dofsuite.refocus.flux_tokens import PositionIds

FILE = "refocus.json"
OLD_KEYS = {"guidance": "guidance_embed", "sees_depth": "uses_depth"}
"""Keys of exports from before they were renamed."""


@dataclass(frozen=True)
class RefocusSettings:
    """What inference must know of a run."""

    backbone: dict[str, Any]
    """The FLUX, as `describe` has it."""
    guidance_embed: float
    position_ids: PositionIds
    num_inference_steps: int
    time_shift: float
    size_px: int | None
    uses_depth: bool = True
    """False where every depth image was dropped; absent from the first exports."""

    def build_backbone(self, export: Path) -> Backbone:
        """Return the backbone that the run was trained on; `export` is named where that fails.

        Raises:
            UserError: The settings describe none.
        """
        try:
            return rebuild(self.backbone)
        except (AttributeError, KeyError, TypeError) as error:
            raise unreadable(export / FILE, f"backbone: {error}") from error

    def pipeline_config(self) -> dict[str, Any]:
        """Return what `RefocusPipeline` keeps in its own config."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in ("backbone", "time_shift")
        }

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> RefocusSettings:
        """Read the file of a run's or an export's folder.

        Raises:
            UserError: The folder holds no adapter, or the file cannot be read.
        """
        file = export_folder(folder) / FILE
        try:
            return cls(**with_current_keys(json.loads(file.read_text())))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise unreadable(file, error) from error


def with_current_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    return {OLD_KEYS.get(name, name): value for name, value in values.items()}


def holds_export(folder: Path) -> bool:
    return any((place / FILE).is_file() for place in (folder, folder / "export"))


def export_folder(folder: Path) -> Path:
    """Return the export's folder of a run or an export.

    Raises:
        UserError: The folder holds no adapter.
    """
    if not holds_export(folder):
        raise UserError(
            f"{folder}: --model: holds no refocus adapter ({FILE} is missing); train one: "
            "make quickstart."
        )
    return folder if (folder / FILE).is_file() else folder / "export"


def unreadable(file: Path, reason: object) -> UserError:
    """Return the error of a damaged file, with the first line of the reason."""
    first = (str(reason).splitlines() or ["no reason given"])[0].rstrip(".")
    return UserError(
        f"{file}: --model: it cannot be read ({first[:160]}); copy the export again from its run."
    )
