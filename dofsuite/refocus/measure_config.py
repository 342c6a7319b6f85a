"""The options of `python -m dofsuite.refocus.measure`."""

from dataclasses import dataclass
from pathlib import Path

from dofsuite.cli import option
from dofsuite.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """Which model, on which scenes."""

    model: Path = option(
        nargs="?", default=Path("runs/quickstart"), type=Path, help="a run, or its export"
    )
    scenes: str = option(
        "--scenes",
        default="synthetic:held_out",
        metavar="FOLDER",
        help="held-out shards, or a synthetic set",
    )
    count: int = option("--count", default=96, type=int, help="scenes")
    gamma: float = option("--gamma", default=2.2, type=float, help="of the renderer")
    layers: int = option("--layers", default=21, type=int, help="of the renderer")
    output: Path | None = option(
        "-o", "--output", default=None, type=Path, metavar="FILE", help="JSON with all numbers"
    )

    def __post_init__(self) -> None:
        for name, number, least in (
            ("--count", self.count, 1),
            ("--layers", self.layers, 2),
        ):
            if number < least:
                raise UserError(f"{name}: {number} must be {least} or above.")
        if self.gamma <= 0:
            raise UserError(f"--gamma: {self.gamma} must be above 0.")
