"""The settings of a text-to-image export, written and read in one place: `text2image.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dofsuite.backbones import Depth, Saliency, Sdxl
from dofsuite.backbones.descriptors import describe, rebuild
from dofsuite.errors import UserError
from dofsuite.text2image.camera.lens import Lens
from dofsuite.text2image.dmd2.sampling import FEW_STEPS

FILE = "text2image.json"
OLD_KEYS = {"exif": "exif_conditioned"}
"""Keys of exports from before they were renamed."""
OPTIONAL = {"saliency"}
"""Inference does without."""


@dataclass(frozen=True)
class Text2ImageSettings:
    """What inference must know, and what the networks were trained with."""

    backbone: dict[str, Any]
    """The SDXL, as `describe` has it."""
    depth: dict[str, Any]
    saliency: dict[str, Any] | None
    lens: dict[str, Any] | None
    few_steps: tuple[int, ...]
    size_px: int
    exif_conditioned: tuple[str, ...]
    """Networks that get EXIF beside the timestep."""

    @classmethod
    def of(
        cls,
        backbone: Sdxl,
        depth: Depth,
        saliency: Saliency,
        lens: Lens | None,
        size_px: int,
        exif_conditioned: tuple[str, ...],
    ) -> Text2ImageSettings:
        """Return the settings of a run."""
        return cls(
            backbone=describe(backbone),
            depth=describe(depth),
            saliency=describe(saliency),
            lens=None if lens is None else asdict(lens),
            few_steps=FEW_STEPS,
            size_px=size_px,
            exif_conditioned=exif_conditioned,
        )

    @property
    def is_exif_conditioned(self) -> bool:
        """Whether the generator itself gets EXIF."""
        return "generator" in self.exif_conditioned

    def check_has_camera(self, model: str | Path) -> None:
        """Check that the generator of `model` has a camera: a lens, or EXIF conditioning.

        Raises:
            UserError: It has neither.
        """
        if self.lens is None and not self.is_exif_conditioned:
            raise UserError(
                f"{model}: --model: it has neither a lens nor EXIF, so no camera; name another run."
            )

    def build_backbone(self) -> Sdxl:
        return rebuild(self.backbone)

    def build_depth(self) -> Depth:
        return rebuild(self.depth)

    def build_lens(self) -> Lens | None:
        """Return the lens, if there is one.

        Exports from before `frame_ratio` lack it. The small networks' scenes are full squares; a
        full-size SDXL learned from photographs, most of them 3:2, as the default has it.
        """
        if self.lens is None:
            return None
        earlier = {"frame_ratio": 1.0} if self.backbone["class"] == "SmallSdxl" else {}
        return Lens(**earlier | self.lens)

    def write(self, folder: Path) -> None:
        """Write the file into an export's folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Text2ImageSettings:
        """Read the file of an export's folder.

        Raises:
            UserError: It is damaged.
        """
        damaged = UserError(
            f"{folder / FILE}: --model: this file is damaged; take a whole copy of the export."
        )
        try:
            content = json.loads((folder / FILE).read_text())
            content = {OLD_KEYS.get(key, key): value for key, value in content.items()}
        except (ValueError, AttributeError):
            raise damaged from None
        names = cls.__dataclass_fields__.keys()
        if not names - OPTIONAL <= content.keys():
            raise damaged
        values = {name: content.get(name) for name in names}
        for name in ("few_steps", "exif_conditioned"):
            values[name] = tuple(values[name])
        return cls(**values)


def export_folder(folder: Path) -> Path:
    """Return the export's folder of a run or an export.

    Raises:
        UserError: The folder holds no generator.
    """
    for place in (folder, folder / "export"):
        if (place / FILE).is_file():
            return place
    raise UserError(
        f"{folder}: --model: holds no text-to-image generator ({FILE} is missing); train one: "
        "python -m dofsuite.fit experiments/quickstart_text2image.yaml."
    )
