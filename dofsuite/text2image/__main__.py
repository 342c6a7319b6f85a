"""Make a scene from a prompt, and photograph it at any apertures.

python -m dofsuite.text2image "PROMPT" --f-number 1.8 2.8 4 5.6 8 11 16 22 --focal-length 50 -o DIR
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dofsuite.cli import Parser, run_command_line
from dofsuite.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from dofsuite.text2image.pipeline import Text2ImagePipeline
    from dofsuite.text2image.scene import Scene


def parser() -> Parser:
    """Return the command line."""
    parser = Parser("text2image", "Make a scene from a prompt, and photograph it at any apertures.")
    parser.add_argument("prompt", metavar="PROMPT", help="what to show")
    parser.add_argument(
        "--f-number",
        type=float,
        nargs="+",
        required=True,
        metavar="N",
        help="one photograph for each",
    )
    parser.add_argument(
        "--focal-length",
        type=float,
        default=50.0,
        metavar="MM",
        help="on 36 mm of sensor; default 50",
    )
    parser.add_argument(
        "--focus", type=float, metavar="D", help="depth in focus, on the scale that is printed"
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("runs/quickstart_text2image"),
        help="a run, or its export; %(default)s",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="DIR", help="folder of the pictures"
    )
    return parser


def check(arguments: argparse.Namespace) -> None:
    """Refuse what no model is needed to refuse.

    Raises:
        UserError: No prompt, a camera that cannot be, no model there, or a folder that cannot be
            written.
    """
    from dofsuite.text2image.camera.exif import Exif
    from dofsuite.text2image.settings import Text2ImageSettings, export_folder

    if not arguments.prompt.strip():
        raise UserError("PROMPT: it is empty; say what to show.")
    Exif.checked(arguments.f_number, arguments.focal_length)
    settings = Text2ImageSettings.read(export_folder(arguments.model))
    if settings.lens is None and not settings.is_exif_conditioned:
        raise UserError(
            f"{arguments.model}: --model: it has neither a lens nor EXIF, so no camera; name another run."
        )
    if settings.lens is None and arguments.focus is not None:
        raise UserError("--focus: this generator has no lens, which alone can focus; leave it out.")
    check_output(arguments.output)


def check_output(folder: Path) -> None:
    """Refuse a folder that could not be written once the pictures are made; leaves nothing behind.

    Raises:
        UserError: A file lies there, or the system says no.
    """
    missing: list[Path] = []
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


def photographs(
    pipe: Text2ImagePipeline, arguments: argparse.Namespace, f_numbers: list[float]
) -> tuple[Scene | None, Tensor]:
    """Return the scene, and its photographs [n, 3, h, w]; without a lens no scene, and n generations from one noise.

    A generator with a lens that is told the EXIF too makes its one scene for the first f-number.
    """
    focal_mm, options = arguments.focal_length, {"seed": arguments.seed, "output_type": "pt"}
    if pipe.lens is None:
        return None, pipe(
            [arguments.prompt] * len(f_numbers), f_numbers, focal_mm, **options
        ).image_srgb
    scene = pipe(
        arguments.prompt, *((f_numbers[0], focal_mm) if pipe.is_exif_conditioned else ()), **options
    )
    return scene, pipe.photograph(scene, f_numbers, focal_mm, arguments.focus, output_type="pt")[0]


def write_depth(path: Path, depth: Tensor) -> None:
    """Write a depth [1, h, w] as a grey 16-bit PNG, larger is farther; its text `depth_at_65535` is the scale."""
    from PIL.PngImagePlugin import PngInfo

    from dofsuite.files import write_bytes
    from dofsuite.images import encode_png

    farthest = depth.max().item()
    levels = (depth[0] / farthest * 65535).round().cpu().numpy().astype("uint16")
    text = PngInfo()
    text.add_text("depth_at_65535", f"{farthest:.9g}")
    write_bytes(path, encode_png(levels, pnginfo=text))


def write(folder: Path, scene: Scene | None, pictures: dict[str, Tensor]) -> list[Path]:
    """Write pictures [3, h, w] by name, the scene's depth, and all of them on a sheet; return the files."""
    from dofsuite.files import write_bytes
    from dofsuite.images import encode_png
    from dofsuite.training import write_sheet

    for name, picture in pictures.items():
        write_bytes(folder / f"{name}.png", encode_png(picture))
    columns = {f"f/{name[1:]}": picture for name, picture in pictures.items() if name != "scene"}
    names = [*pictures, "sheet"]
    if scene is not None:
        write_depth(folder / "depth.png", scene.depth[0])
        columns = {
            "all in focus": pictures["scene"],
            "depth": scene.depth[0] / scene.depth.max(),
            **columns,
        }
        names.append("depth")
    scale = max(1, 192 // next(iter(columns.values())).shape[-1])
    write_sheet(folder / "sheet.png", [list(columns.values())], list(columns), scale=scale)
    return [folder / f"{name}.png" for name in names]


def say_focus(scene: Scene, focus: float | None) -> None:
    """Print the scene's depths and where it is in focus."""
    depth, predicted = scene.depth, scene.focus_distance.item()
    print(
        f"depth: {depth.min():.4g} (nearest), {depth.median():.4g} (median), {depth.max():.4g} (farthest) "
        f"on the depth model's scale, {scene.scale_mm.item():.4g} mm per unit to the lens"
    )
    print(f"focus: {predicted:.4g} predicted" + ("" if focus is None else f", {focus:.4g} taken"))


def run(arguments: argparse.Namespace) -> None:
    """Load, generate, photograph, and only then write."""
    check(arguments)
    import torch

    from dofsuite.text2image.pipeline import Text2ImagePipeline

    pipe = Text2ImagePipeline.from_export(arguments.model)
    if torch.cuda.is_available():
        pipe.to("cuda")
    f_numbers = list(dict.fromkeys(arguments.f_number))
    scene, taken = photographs(pipe, arguments, f_numbers)
    pictures = {} if scene is None else {"scene": scene.image_srgb[0]}
    pictures |= {f"f{number:g}": picture for number, picture in zip(f_numbers, taken, strict=True)}
    files = write(arguments.output, scene, pictures)
    if scene is not None:
        say_focus(scene, arguments.focus)
    for file in files:
        print(f"{file} (16 bit, 65535 is the farthest)" if file.name == "depth.png" else file)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    return run_command_line(run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
