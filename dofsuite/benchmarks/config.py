"""The options of `python -m dofsuite.bench`, a dataclass a benchmark, without heavy imports."""

from dataclasses import dataclass
from typing import Literal, get_args

from dofsuite.cli import option
from dofsuite.errors import UserError

# `dofsuite.refocus.two_pass.SplitBackward`, which torch would have to be imported for.
SplitBackward = Literal["none", "losses", "rows"]
# Of torch.
FFT_DTYPES = ("float32", "float64")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which shards."""

    shards: str = option(
        "--shards",
        metavar="DIR",
        default="synthetic:val",
        help="a folder of shards, or synthetic:NAME",
    )
    runs: int = option("--runs", type=int, default=3, help="passes over all, in turns; best counts")

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise UserError(f"--runs: at least 1 is needed, not {self.runs}.")


@dataclass(frozen=True, kw_only=True)
class LensConfig:
    """Which lenses, and how large."""

    methods: tuple[str, ...] = option(
        "--methods",
        nargs="+",
        default=("gather", "layered", "occlusion"),
        help="renderers, of dofsuite.optics",
    )
    px: int = option("--px", type=int, default=1024, help="side of the image")
    radii_px: tuple[float, ...] = option(
        "--radii-px", type=float, nargs="+", default=(8.0, 20.0, 64.0, 200.0), help="largest radii"
    )
    fft_dtype: str = option(
        "--fft-dtype", choices=FFT_DTYPES, default="float32", help="of layered, occlusion"
    )
    time_on_cpu: bool = option(
        "--time-on-cpu", action="store_true", default=False, help="measure times without a GPU too"
    )

    def __post_init__(self) -> None:
        if self.px < 1:
            raise UserError(f"--px: at least 1 is needed, not {self.px}.")
        if not all(0 <= radius_px < float("inf") for radius_px in self.radii_px):
            raise UserError("--radii-px: radii of 0 or more are needed.")


@dataclass(frozen=True, kw_only=True)
class RefocusConfig:
    """Which step."""

    px: int = option("--px", type=int, default=512, help="side of the images, a multiple of 16")
    batch_size: int = option("--batch-size", type=int, default=1, help="samples of a micro-batch")
    split_backward: SplitBackward = option(
        "--split-backward",
        choices=get_args(SplitBackward),
        default="losses",
        help="rows alive at a time",
    )
    recompute: bool = option(
        "--recompute", action="store_true", default=False, help="recompute blocks"
    )
    compile: bool = option(
        "--compile", action="store_true", default=False, help="compile blocks (on a GPU)"
    )
    attention: str = option("--attention", default="auto", help="auto, sdpa or one of diffusers")

    def __post_init__(self) -> None:
        if self.px < 16 or self.px % 16 or self.batch_size < 1:
            raise UserError("refocus: --px must be a multiple of 16 and --batch-size at least 1.")


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """Which variants; the all-in-focus image, the paper's 421st, needs no rendering."""

    px: int = option("--px", type=int, default=1024, help="side of the image")
    planes: int = option("--planes", type=int, default=21, help="focal planes from 0 to 1")
    levels: int = option("--levels", type=int, default=20, help="bokeh levels from 1 up")
    layers: int = option("--layers", type=int, default=41, help="layers over disparity")
    fft_dtype: str = option(
        "--fft-dtype", choices=FFT_DTYPES, default="float32", help="of the spectra"
    )
    time_on_cpu: bool = option(
        "--time-on-cpu", action="store_true", default=False, help="measure times without a GPU too"
    )

    def __post_init__(self) -> None:
        if self.px < 1 or self.planes < 2 or self.levels < 1 or self.layers < 2:
            raise UserError(
                "simulate: --px and --levels must be at least 1, --planes and --layers at least 2."
            )


@dataclass(frozen=True, kw_only=True)
class StartupConfig:
    """How often each program is started."""

    runs: int = option(
        "--runs", type=int, default=5, help="starts of each program, in turns; the best counts"
    )

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise UserError(f"--runs: at least 1 is needed, not {self.runs}.")


@dataclass(frozen=True, kw_only=True)
class Text2imageConfig:
    """Which steps."""

    px: int = option("--px", type=int, default=1024, help="side of the images, a multiple of 32")
    batch_size: int = option("--batch-size", type=int, default=1, help="images of a step")
    recompute: bool = option(
        "--recompute", action="store_true", default=False, help="recompute blocks"
    )
    compile: bool = option(
        "--compile", action="store_true", default=False, help="compile blocks (on a GPU)"
    )
    channels_last: bool = option(
        "--channels-last", action="store_true", default=False, help="the VAE with channels last"
    )
    lora_rank: int = option(
        "--lora-rank", type=int, default=0, help="of generator and fake score; 0 trains them whole"
    )

    def __post_init__(self) -> None:
        if self.px < 32 or self.px % 32 or self.batch_size < 1 or self.lora_rank < 0:
            raise UserError(
                "text2image: --px must be a multiple of 32, --batch-size at least 1 and "
                "--lora-rank at least 0."
            )
