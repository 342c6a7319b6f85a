"""Options of `evaluate study build`, `study serve` and `study report`."""

from dataclasses import dataclass
from pathlib import Path

from dofsuite.cli import option
from dofsuite.errors import UserError
from dofsuite.evaluation.text2image.config import F_NUMBERS

# Smaller videos show no blur; fewer votes leave nothing to repeat.
MIN_SIZE_PX, MIN_VOTES = 32, 4
# An attention check changes the scene between two others at least.
MIN_PROMPTS = 3


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Which methods are compared, on which images."""

    sources: tuple[str, ...] = option(
        nargs="+",
        metavar="[NAME=]FOLDER",
        help="a method: folders PROMPT/f1.8.png ..., one a prompt; or a folder of `evaluate "
        "text2image`, which has several",
    )
    output: Path = option("-o", "--output", type=Path, metavar="DIR", help="the study")
    ours: str | None = option(
        "--ours",
        metavar="NAME",
        default=None,
        help="the method that is compared with each of the others; default: the first",
    )
    count: int = option(
        "--count",
        type=int,
        metavar="N",
        default=25,
        help="the first N prompts by name (stated: 25)",
    )
    f_numbers: tuple[float, ...] = option(
        "--f-numbers",
        type=float,
        nargs="+",
        metavar="N",
        default=F_NUMBERS,
        help="rising; default: the eight of the paper (stated)",
    )
    size_px: int = option(
        "--size", type=int, default=512, help="long side of the videos in px; default 512 (ours)"
    )
    votes: int = option(
        "--votes", type=int, default=20, help="of each participant (stated: 20), beside 5 checks"
    )
    participants: int = option(
        "--participants",
        type=int,
        default=25,
        help="you plan for (stated: 25); only the printed power depends on it",
    )

    def __post_init__(self) -> None:
        f_numbers = list(self.f_numbers)
        # Mistakes, each with its sentence
        mistakes = [
            (
                len(f_numbers) < 2 or f_numbers != sorted(set(f_numbers)),
                "--f-numbers: a sweep needs at least two, rising; change their order.",
            ),
            *(
                (value < least, f"{name}: must be at least {least}, not {value}.")
                for name, value, least in (
                    ("--count", self.count, MIN_PROMPTS),
                    ("--size", self.size_px, MIN_SIZE_PX),
                    ("--votes", self.votes, MIN_VOTES),
                    ("--participants", self.participants, 1),
                )
            ),
        ]
        for is_made, sentence in mistakes:
            if is_made:
                raise UserError(sentence)


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where the page is shown."""

    folder: Path = option(type=Path, metavar="DIR", help="a study that `study build` made")
    port: int = option("--port", type=int, default=8000, help="%(default)s; 0: any free one")
    host: str = option(
        "--host",
        default="127.0.0.1",
        help="address to listen on; default %(default)s, which no other machine reaches; 0.0.0.0: "
        "the whole network",
    )

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise UserError(f"--port: {self.port} is no port; choose one from 0 to 65535.")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Which study is analyzed."""

    folder: Path = option(type=Path, metavar="DIR", help="a study; the report is written into it")
