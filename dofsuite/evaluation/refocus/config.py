"""Options of `evaluate run`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dofsuite.cli import option
from dofsuite.errors import UserError

# `given` is the depth as it is; the others are the rows of Table 6.
Perturbation = Literal["given", "zero", "mask", "crop", "noise"]


@dataclass(frozen=True, kw_only=True)
class RefocusConfig:
    """What is measured on a refocus benchmark, and how."""

    runs: tuple[Path, ...] = option(
        type=Path, nargs="*", metavar="RUN", default=(), help="trained runs or their exports"
    )
    benchmark: Path = option(
        "--benchmark", type=Path, metavar="DIR", help="what build-benchmark wrote"
    )
    output: Path | None = option(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        default=None,
        help="default: RUN/benchmark/NAME, of the first run",
    )
    folders: tuple[str, ...] = option(
        "--folder",
        action="append",
        metavar="NAME=DIR|CSV",
        default=(),
        help="images generated elsewhere: DIR/SCENE/SAMPLE.png, or the benchmark's samples.csv "
        "with its column prediction filled in",
    )
    two_stage: tuple[Path, ...] = option(
        "--two-stage",
        action="append",
        type=Path,
        metavar="NETWORK",
        default=(),
        help="deblur by a run, .pt2, folder or deblurrer (packaged: the small one that comes with "
        "dofsuite); render",
    )
    deconvolution: bool = option(
        "--deconvolution", action="store_true", default=False, help="after Bando and Nishita 2007"
    )
    depth: tuple[Perturbation, ...] = option(
        "--depth",
        nargs="+",
        choices=get_args(Perturbation),
        default=("given",),
        help="perturbations of the depth (Table 6)",
    )
    steps: int | None = option(
        "--steps", type=int, default=None, help="Euler steps; default: the export's"
    )
    seed: int = option("--seed", type=int, default=0, help="of noise and perturbations")
    clip: str = option(
        "--clip",
        metavar="PATH_OR_ID",
        default="openai/clip-vit-base-patch32",
        help="of CLIP-I; none leaves it empty",
    )
    lpips: Literal["alex", "vgg", "squeeze", "none"] = option(
        "--lpips",
        choices=("alex", "vgg", "squeeze", "none"),
        default="alex",
        help="its network (not stated)",
    )
    dists: Literal["vgg16", "none"] = option(
        "--dists", choices=("vgg16", "none"), default="vgg16", help="its network"
    )
    clip_iqa: Literal["clip_iqa", "none"] = option(
        "--clip-iqa", choices=("clip_iqa", "none"), default="clip_iqa", help="its model"
    )
    features: Literal["packaged", "none"] = option(
        "--features",
        choices=("packaged", "none"),
        default="packaged",
        help="ST-LPIPS and EfficientNet-Lite0, of the extra `features`",
    )
    sheet_scenes: int = option(
        "--sheet-scenes",
        type=int,
        default=3,
        help="scenes with images on the report's main page, from best to worst",
    )
    no_scene_pages: bool = option(
        "--no-scene-pages",
        action="store_true",
        default=False,
        help="no page for every scene beside the report",
    )

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UserError(f"--steps: {self.steps} is no number of steps; it must be 1 or above.")
        if not self.runs and self.output is None:
            raise UserError(
                "--output: without a run there is no default place for the report; give -o DIR."
            )
        if wrong := [text for text in self.folders if not all(text.partition("=")[::2])]:
            raise UserError(
                f"--folder: {wrong[0]!r} is not NAME=DIR; give the method's name and the folder of "
                "its images, or the filled samples.csv."
            )
