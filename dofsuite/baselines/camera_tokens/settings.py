"""The settings of a camera-token export: `camera_tokens.json`."""

from dataclasses import dataclass
from typing import Any

from dofsuite.backbones.export_settings import ExportSettings


@dataclass(frozen=True, kw_only=True)
class CameraTokensSettings(ExportSettings):
    """What sampling must know."""

    FILE = "camera_tokens.json"
    KEY = "model"
    MISSING = (
        "holds no camera tokens ({file} is missing); train them: python -m dofsuite.fit "
        "experiments/camera_tokens_sdxl.yaml"
    )

    # The SDXL, as `describe` returns it.
    backbone: dict[str, Any]
    # Whether an adapter was trained, or else all of the UNet's weights.
    lora: bool
    # Whether there is a ControlNet.
    control: bool
    # The depth model of the ControlNet's image, as `describe` returns it.
    depth: dict[str, Any]
    size_px: int
