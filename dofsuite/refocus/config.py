"""The options of `python -m dofsuite.refocus`."""

from dataclasses import dataclass
from pathlib import Path

from dofsuite.cli import option
from dofsuite.errors import UserError
from dofsuite.photography.photos_config import PhotosConfig


@dataclass(frozen=True, kw_only=True)
class RefocusConfig(PhotosConfig):
    """Which photographs, focused where, by which model."""

    depth: str = option(
        "--depth",
        default="none",
        metavar="FILE|auto|plane|none",
        help="depth map, or a folder of maps named as the photographs; auto: by a depth model; "
        "none (default): the model sees the photograph alone",
    )
    # The model
    model: Path = option(
        "--model", default=Path("runs/quickstart"), type=Path, help="a run, or its export"
    )
    base: str | None = option(
        "--base",
        default=None,
        metavar="PATH_OR_ID",
        help="another copy of the base model; by default the one of training",
    )
    distilled: bool = option(
        "--distilled",
        default=False,
        action="store_true",
        help="run the adapter on the base's few-step model, if it has one (FLUX.2 klein: 4 steps)",
    )
    quantize: str = option(
        "--quantize",
        default="none",
        choices=["none", "int8", "fp8", "nf4"],
        help="weights of the base in 8 bits or 4, for cards of less memory",
    )
    offload: bool = option(
        "--offload",
        default=False,
        action="store_true",
        help="keep on the GPU only the network that runs",
    )
    offload_blocks: bool = option(
        "--offload-blocks",
        default=False,
        action="store_true",
        help="keep on the GPU only the block of the base that runs, and what is small",
    )
    # Sampling
    steps: int | None = option(
        "--steps", default=None, type=int, help="Euler steps; by default the export's"
    )
    seed: int = option("--seed", default=0, type=int, help="of the noise")
    batch_size: int = option(
        "--batch-size", default=1, type=int, help="pictures of a sweep that are made at once"
    )
    # Output
    full_size: bool = option(
        "--full-size",
        default=False,
        action="store_true",
        help="as large as the photograph: the network's answer with the photograph's own detail; "
        "needs --depth",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.focus or not self.bokeh:
            raise UserError("refocus: give --focus X,Y and --bokeh B.")
        if not 0 <= self.seed < 2**64:
            raise UserError(f"--seed: {self.seed} is no seed; it must be from 0 to 2**64 - 1.")
        for name, number in (("--steps", self.steps), ("--batch-size", self.batch_size)):
            if number is not None and number < 1:
                raise UserError(f"{name}: {number} must be 1 or above.")
        if self.offload_blocks and (self.offload or self.quantize == "nf4"):
            other = "--offload" if self.offload else "--quantize nf4"
            raise UserError(f"--offload-blocks: it does not go with {other}; leave one out.")
        if self.full_size and self.depth == "none":
            raise UserError("--full-size: it needs depth; give --depth FILE, auto or plane.")
