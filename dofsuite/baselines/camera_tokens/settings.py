"""The settings of a camera-token export, written and read in one place: `camera_tokens.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dofsuite.backbones import Depth, Sdxl
from dofsuite.backbones.descriptors import describe, rebuild
from dofsuite.errors import UserError

FILE = "camera_tokens.json"


@dataclass(frozen=True)
class CameraTokensSettings:
    """What sampling must know."""

    backbone: dict[str, Any]
    """The SDXL, as `describe` has it."""
    lora: bool
    """Whether an adapter was trained, or else all of the UNet's weights."""
    control: bool
    """Whether there is a ControlNet."""
    depth: dict[str, Any]
    """The depth model of the ControlNet's image, as `describe` has it."""
    size_px: int

    @classmethod
    def of(
        cls, backbone: Sdxl, depth: Depth, lora: bool, control: bool, size_px: int
    ) -> CameraTokensSettings:
        """Return the settings of a run."""
        return cls(describe(backbone), lora, control, describe(depth), size_px)

    def build_backbone(self) -> Sdxl:
        return rebuild(self.backbone)

    def build_depth(self) -> Depth:
        return rebuild(self.depth)

    def write(self, folder: Path) -> None:
        """Write the file into an export's folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> CameraTokensSettings:
        """Read the file of an export's folder.

        Raises:
            UserError: It is damaged.
        """
        try:
            return cls(**json.loads((folder / FILE).read_text()))
        except (ValueError, TypeError):
            raise UserError(
                f"{folder / FILE}: model: this file is damaged; take a whole copy of the export."
            ) from None


def export_folder(folder: Path) -> Path:
    """Return the export's folder of a run or an export.

    Raises:
        UserError: The folder holds no camera tokens.
    """
    for place in (folder, folder / "export"):
        if (place / FILE).is_file():
            return place
    raise UserError(
        f"{folder}: model: holds no camera tokens ({FILE} is missing); train them: "
        "python -m dofsuite.fit experiments/camera_tokens_sdxl.yaml."
    )
