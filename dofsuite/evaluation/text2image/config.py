"""Options of `evaluate text2image`."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dofsuite.cli import option
from dofsuite.errors import UserError

# Full stops (*stated*).
F_NUMBERS = (1.8, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0)
# Feature networks; `auto` is `inception` where torch-fidelity and torchvision are, else `small`.
NETWORKS = ("auto", "inception", "small", "efficientnet", "clip", "none")


@dataclass(frozen=True, kw_only=True)
class Text2ImageConfig:
    """Which methods are compared on which prompts, and what the images are scored with."""

    methods: tuple[Path, ...] = option(
        type=Path,
        nargs="*",
        metavar="METHOD.yaml",
        default=(),
        help="one row each, in this order",
    )
    interval: tuple[Path, ...] = option(
        "--interval",
        type=Path,
        nargs=2,
        metavar=("RUN", "RUN"),
        default=(),
        help="instead of methods: KID and FID of two runs through the second one's lens, with a "
        "95 %% interval of the difference",
    )
    prompts: str | None = option(
        "--prompts",
        metavar="FILE_OR_SET",
        default=None,
        help="text file, folder of shards, synthetic:NAME",
    )
    output: Path = option("-o", "--output", type=Path, metavar="DIR", help="folder of the table")
    count: int | None = option(
        "--count",
        type=int,
        metavar="N",
        default=None,
        help="the first N prompts; all by default (the paper: 25)",
    )
    f_numbers: tuple[float, ...] = option(
        "--f-numbers", type=float, nargs="+", metavar="N", default=F_NUMBERS, help="rising"
    )
    focal_length_mm: float | None = option(
        "--focal-length",
        type=float,
        metavar="MM",
        default=None,
        help="for all; by default the prompts' EXIF, or 50",
    )
    seed: int = option("--seed", type=int, default=0, help="of the noise")
    segmenter: str = option(
        "--segmenter",
        metavar="PATH_OR_ID",
        default="facebook/mask2former-swin-large-ade-semantic",
        help="for content consistency: of transformers, colors (synthetic scenes) or none; "
        "%(default)s",
    )
    top_k: int | None = option(
        "--top-k",
        type=int,
        default=None,
        help="classes of a pixel that count; by default 3, with colors 1",
    )
    clip: str = option(
        "--clip",
        metavar="PATH_OR_ID",
        default="openai/clip-vit-base-patch32",
        help="or none; %(default)s",
    )
    photographs: str | None = option(
        "--photographs",
        metavar="SET",
        default=None,
        help="shards to compare with by KID and FID; none by default, with --interval "
        "synthetic:shallow_val",
    )
    features: str = option(
        "--features",
        choices=NETWORKS,
        default="auto",
        help="network of KID and FID; %(default)s (--interval: small)",
    )
    compared: tuple[float, ...] = option(
        "--compared",
        type=float,
        nargs="+",
        metavar="N",
        default=(),
        help="f-numbers of the images compared; all by default",
    )
    sheets: int = option(
        "--sheets", type=int, metavar="N", default=4, help="prompts with images in the report"
    )

    def __post_init__(self) -> None:
        stems = [file.stem for file in self.methods]
        f_numbers = list(self.f_numbers)
        # Mistakes, each with its sentence
        mistakes = [
            # A table of methods, or an interval
            (
                self.output.exists() and not self.output.is_dir(),
                f"{self.output}: --output: a file lies there; name a folder.",
            ),
            (
                bool(self.methods) == bool(self.interval),
                "METHOD.yaml: give methods, or two runs after --interval.",
            ),
            (
                bool(self.methods) and self.prompts is None,
                "--prompts: name a text file or a set of prompts.",
            ),
            (
                len(set(stems)) < len(stems),
                "METHOD.yaml: two files have one name, which is their row's; rename one.",
            ),
            # Apertures
            (
                len(f_numbers) < 2 or f_numbers != sorted(set(f_numbers)),
                "--f-numbers: a sweep needs at least two, rising; change their order.",
            ),
            (
                not set(self.compared) <= set(f_numbers),
                "--compared: an f-number that is none of --f-numbers; choose among them.",
            ),
            # Counts
            *(
                (value is not None and value < 1, f"{name}: must be at least 1, not {value}.")
                for name, value in (("--count", self.count), ("--top-k", self.top_k))
            ),
        ]
        for is_made, sentence in mistakes:
            if is_made:
                raise UserError(sentence)

    @property
    def compared_f_numbers(self) -> tuple[float, ...]:
        return self.compared or self.f_numbers

    @property
    def feature_network(self) -> str:
        if self.photographs is None or self.features != "auto":
            return "none" if self.photographs is None else self.features
        found = all(importlib.util.find_spec(name) for name in ("torchvision", "torch_fidelity"))
        return "inception" if found else "small"

    @property
    def classes_per_pixel(self) -> int:
        return self.top_k or (1 if self.segmenter == "colors" else 3)

    def scores(self) -> dict[str, Any]:
        """Return what the scores depend on beside the images, as plain data."""
        features = self.feature_network
        # Stored under their former names, so that a started evaluation goes on
        former = {"colors": "colours", "small": "stand-in"}
        return {
            "segmenter": former.get(self.segmenter, self.segmenter),
            "top_k": self.classes_per_pixel,
            "clip": self.clip,
            "features": former.get(features, features),
            "compared": None if features == "none" else list(self.compared_f_numbers),
        }
