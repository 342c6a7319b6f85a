"""The settings of a text-to-image export: `text2image.json`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dofsuite.backbones.export_settings import ExportSettings
from dofsuite.errors import UserError
from dofsuite.text2image.camera.lens import Lens


@dataclass(frozen=True, kw_only=True)
class Text2ImageSettings(ExportSettings):
    """What inference must know, and what the networks were trained with."""

    FILE = "text2image.json"
    MISSING = (
        "holds no text-to-image generator ({file} is missing); train one: python -m dofsuite.fit "
        "experiments/quickstart_text2image.yaml"
    )
    OLD_KEYS: ClassVar = {"exif": "exif_conditioned"}

    backbone: dict[str, Any]
    """The SDXL, as `describe` returns it."""
    depth: dict[str, Any]
    """The depth model, likewise."""
    saliency: dict[str, Any] | None = None
    """The saliency model of the focus predictor's target, likewise; not used in inference."""
    lens: dict[str, Any] | None
    """Fields of `Lens`."""
    few_steps: tuple[int, ...]
    """Timesteps of the generator."""
    size_px: int
    exif_conditioned: tuple[str, ...]
    """Networks that are conditioned on EXIF."""

    @property
    def is_exif_conditioned(self) -> bool:
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

    def build_lens(self) -> Lens | None:
        """Return the lens, if there is one.

        Exports from before `frame_ratio` lack it. The small networks' scenes are full squares; a
        full-size SDXL learned from photographs, most of them 3:2, as the default has it.
        """
        if self.lens is None:
            return None
        earlier = {"frame_ratio": 1.0} if self.backbone["class"] == "SmallSdxl" else {}
        return Lens(**earlier | self.lens)
