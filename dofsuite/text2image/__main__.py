"""Generate a scene from a prompt, and photograph it at any apertures.

python -m dofsuite.text2image "PROMPT" --f-number 1.8 2.8 4 5.6 8 11 16 22 --focal-length 50 -o DIR
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dofsuite.cli import Parser, add_options, config_from, option, run_command_line
from dofsuite.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from dofsuite.text2image.pipeline import Text2ImagePipeline
    from dofsuite.text2image.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Text2ImageConfig:
    """What is generated and photographed."""

    prompt: str = option(metavar="PROMPT", help="what to show")
    f_number: tuple[float, ...] = option(
        "--f-number", type=float, nargs="+", metavar="N", help="one photograph for each"
    )
    focal_length_mm: float = option(
        "--focal-length",
        type=float,
        default=50.0,
        metavar="MM",
        help="on 36 mm of sensor; default 50",
    )
    focus: float | None = option(
        "--focus",
        type=float,
        default=None,
        metavar="D",
        help="depth in focus, on the scale that is printed",
    )
    model: Path = option(
        "--model",
        type=Path,
        default=Path("runs/quickstart_text2image"),
        help="a run, or its export; %(default)s",
    )
    seed: int = option("--seed", type=int, default=0, help="of the noise")
    output: Path = option("-o", "--output", type=Path, metavar="DIR", help="folder of the images")
    overwrite: bool = option(
        "--overwrite", default=False, action="store_true", help="replace images of an earlier run"
    )

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise UserError("PROMPT: it is empty; say what to show.")

    @property
    def f_numbers(self) -> list[float]:
        # Each f-number once, in the order given.
        return list(dict.fromkeys(self.f_number))

    @property
    def files(self) -> list[Path]:
        """Every file that may be written."""
        names = ["scene", *(photograph_name(f_number) for f_number in self.f_numbers)]
        return [self.output / f"{name}.png" for name in (*names, "sheet", "depth")]


def photograph_name(f_number: float) -> str:
    return f"f{f_number:g}"


def check(config: Text2ImageConfig) -> None:
    """Check camera, model and output folder before networks are loaded.

    Raises:
        UserError: An impossible camera, a model without one, or a folder that cannot be written.
    """
    from dofsuite.text2image.camera.exif import Exif
    from dofsuite.text2image.settings import Text2ImageSettings

    Exif.checked(config.f_numbers, config.focal_length_mm)
    settings = Text2ImageSettings.read(Text2ImageSettings.find(config.model))
    settings.check_has_camera(config.model)
    if settings.lens is None and config.focus is not None:
        raise UserError("--focus: this generator has no lens, which alone can focus; leave it out.")
    check_writable(config.output)
    for file in config.files:
        if file.exists() and not config.overwrite:
            raise UserError(f"{file}: --output: it exists; choose another folder or --overwrite.")


def check_writable(folder: Path) -> None:
    """Check that a folder can be written once the images are generated; leaves nothing behind."""
    missing: list[Path] = []
    # Make the folder and a file in it, then remove what was not there before.
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: --output: a file lies there; name a folder.")
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: --output: it cannot be written ({error.strerror}); name another folder."
        ) from error
    finally:
        for place in missing:
            with suppress(OSError):
                place.rmdir()


def generate(pipe: Text2ImagePipeline, config: Text2ImageConfig) -> tuple[Scene | None, Tensor]:
    """Return the scene and its photographs [n, 3, h, w].

    Without a lens there is no scene, but n generations from the same noise. An EXIF-conditioned
    generator with a lens generates its one scene for the first f-number.
    """
    f_numbers, focal_mm = config.f_numbers, config.focal_length_mm
    if pipe.lens is None:
        prompts = [config.prompt] * len(f_numbers)
        scene = pipe(prompts, f_numbers, focal_mm, seed=config.seed, output_type="pt")
        return None, scene.image_srgb
    f_number, exif_mm = (f_numbers[0], focal_mm) if pipe.is_exif_conditioned else (None, None)
    scene = pipe(config.prompt, f_number, exif_mm, seed=config.seed, output_type="pt")
    sweep = pipe.photograph(scene, f_numbers, focal_mm, config.focus, output_type="pt")
    return scene, cast("Tensor", sweep)[0]


def write_depth(path: Path, depth: Tensor) -> None:
    """Write depth [1, h, w] as a 16-bit gray PNG, larger is farther.

    Its text `depth_at_65535` is the scale.
    """
    from PIL.PngImagePlugin import PngInfo

    from dofsuite.files import write_bytes
    from dofsuite.images import encode_png

    farthest = depth.max().item()
    levels = (depth[0] / farthest * 65535).round().cpu().numpy().astype("uint16")
    text = PngInfo()
    text.add_text("depth_at_65535", f"{farthest:.9g}")
    write_bytes(path, encode_png(levels, pnginfo=text))


def write(folder: Path, scene: Scene | None, images: dict[str, Tensor]) -> list[Path]:
    """Write images [3, h, w] by name, the scene's depth, and a sheet of all; return the files."""
    from dofsuite.files import write_bytes
    from dofsuite.images import encode_png
    from dofsuite.training import write_sheet

    for name, image in images.items():
        write_bytes(folder / f"{name}.png", encode_png(image))
    names = [*images, "sheet"]

    # The sheet: scene and depth before the photographs.
    columns = {f"f/{name[1:]}": image for name, image in images.items() if name != "scene"}
    if scene is not None:
        assert scene.depth is not None
        write_depth(folder / "depth.png", scene.depth[0])
        names.append("depth")
        depth = scene.depth[0] / scene.depth.max()
        columns = {"all in focus": images["scene"], "depth": depth, **columns}
    scale = max(1, 192 // next(iter(columns.values())).shape[-1])
    write_sheet(folder / "sheet.png", [list(columns.values())], list(columns), scale=scale)
    return [folder / f"{name}.png" for name in names]


def print_focus(scene: Scene, focus: float | None) -> None:
    depth = scene.depth
    assert depth is not None
    assert scene.scale_mm is not None
    assert scene.focus_distance is not None
    print(
        f"depth: {depth.min():.4g} (nearest), {depth.median():.4g} (median), {depth.max():.4g} "
        f"(farthest) on the depth model's scale, {scene.scale_mm.item():.4g} mm per unit to the "
        "lens"
    )
    used = "" if focus is None else f", {focus:.4g} taken"
    print(f"focus: {scene.focus_distance.item():.4g} predicted{used}")


def run(config: Text2ImageConfig) -> None:
    check(config)
    import torch

    from dofsuite.text2image.pipeline import Text2ImagePipeline

    pipe = Text2ImagePipeline.from_export(config.model)
    if torch.cuda.is_available():
        pipe.to("cuda")
    scene, photographs = generate(pipe, config)

    images = {} if scene is None else {"scene": scene.image_srgb[0]}
    names = [photograph_name(f_number) for f_number in config.f_numbers]
    images |= zip(names, photographs, strict=True)
    files = write(config.output, scene, images)

    # Report.
    if scene is not None:
        print_focus(scene, config.focus)
    for file in files:
        print(f"{file} (16 bit, 65535 is the farthest)" if file.name == "depth.png" else file)


def parser() -> Parser:
    parser = Parser(
        "text2image", "Generate a scene from a prompt, and photograph it at any apertures."
    )
    add_options(parser, Text2ImageConfig)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command_line(lambda given: run(config_from(Text2ImageConfig, given)), parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
