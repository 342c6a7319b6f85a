"""Options of `evaluate table`."""

from dataclasses import dataclass
from pathlib import Path

from dofsuite.cli import option


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Which runs are collected."""

    runs: tuple[Path, ...] = option(
        type=Path, nargs="+", metavar="RUN", help="run folders, such as runs/ablation_*/*"
    )
    output: Path = option(
        "-o", "--output", type=Path, default=Path("runs/table"), metavar="DIR", help="%(default)s"
    )
    unfinished: bool = option(
        "--unfinished",
        action="store_true",
        default=False,
        help="include runs that have not reached their end",
    )
