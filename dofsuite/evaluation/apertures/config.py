"""Options of `evaluate pairs` and `evaluate ebb`."""

from dataclasses import dataclass
from pathlib import Path

from dofsuite.cli import option
from dofsuite.errors import UserError

FOLDER_HELP = "original/ and bokeh/ (EBB!), or names like ID_f2.8.jpg"


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Which photographs are measured."""

    folder: Path = option(type=Path, metavar="DIR", help=FOLDER_HELP)
    output: Path | None = option(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        default=None,
        help="of the report; default: runs/pairs/NAME",
    )
    sheet_pairs: int = option(
        "--sheet-pairs", type=int, default=4, help="failing pairs shown for each energy"
    )


@dataclass(frozen=True, kw_only=True)
class EbbConfig:
    """Which photographs are captioned, and what generates images from the captions."""

    folder: Path = option(type=Path, metavar="DIR", help=FOLDER_HELP)
    model: Path = option(
        "--model", type=Path, metavar="RUN", help="a text-to-image run, or its export"
    )
    captions: Path | None = option(
        "--captions",
        type=Path,
        metavar="CSV",
        default=None,
        help="columns name,caption; only its photographs are used",
    )
    captioner: str = option(
        "--captioner",
        metavar="PATH_OR_ID",
        default="Salesforce/blip2-opt-2.7b",
        help="without --captions",
    )
    prompt: str | None = option(
        "--prompt", default=None, help="the captioner's instruction, or a caption's beginning"
    )
    scenes: int = option(
        "--scenes",
        type=int,
        default=8,
        help="photographs, spread evenly over all; default %(default)s",
    )
    focal_length_mm: float = option(
        "--focal-length",
        type=float,
        default=50.0,
        metavar="MM",
        help="on 36 mm of sensor; default %(default)g",
    )
    seed: int = option("--seed", type=int, default=0, help="of the noise")
    output: Path | None = option(
        "-o", "--output", type=Path, metavar="DIR", default=None, help="default: RUN/ebb/NAME"
    )

    def __post_init__(self) -> None:
        if self.scenes < 1:
            raise UserError(
                f"--scenes: {self.scenes} is no number of photographs; it must be 1 or above."
            )
