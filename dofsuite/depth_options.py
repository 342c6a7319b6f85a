"""The options of every command that takes a depth map; light, so that `--help` needs no torch."""

from pathlib import Path
from typing import Any, Literal

# Given where a folder of depth maps may be: a depth model predicts them.
AUTO = Path("auto")
DepthKind = Literal["disparity", "depth", "meters", "millimeters"]
# Settings of `cli.option`
DEPTH_KIND: dict[str, Any] = {
    "default": None,
    "choices": ("disparity", "depth", "meters", "millimeters"),
    "help": "what a map's numbers are; gray images are taken as disparity (larger is nearer)",
}
DEPTH_MODEL: dict[str, Any] = {
    "default": None,
    "metavar": "PATH_OR_ID",
    "help": "for auto: a relative Depth Anything V2, as a folder or on the hub",
}
