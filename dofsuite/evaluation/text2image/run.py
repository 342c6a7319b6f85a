"""The text-to-image table: every prompt at every aperture by every method, and what the sweeps are worth.

python -m dofsuite.evaluate text2image experiments/baselines/*.yaml --prompts prompts.txt -o
runs/table2

DIR holds `report.md`, `.json` and `.html`, `rows/METHOD-HASH/` and
`pictures/METHOD/PROMPT-HASH/fN.png`. A method or a prompt that is added later joins the table;
pictures that are there are not made again, also where they are scored with another segmenter, CLIP
or feature network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from dofsuite.cli import Parser
from dofsuite.data.synthetic.color_segmenter import ColorSegmenter, is_color_segmenter
from dofsuite.diffusion import draw_integer
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import config_hash
from dofsuite.evaluation.job import (
    check_settings,
    compute_rows,
    default_device,
    pending,
)
from dofsuite.evaluation.text2image.features import NETWORKS, chosen
from dofsuite.evaluation.text2image.generators import SampleRequest
from dofsuite.evaluation.text2image.images import (
    has_images,
    image_folder,
    read_images,
    write_images,
)
from dofsuite.evaluation.text2image.methods import read_method
from dofsuite.evaluation.text2image.prompts import Prompt, open_photographs, read_prompts
from dofsuite.evaluation.text2image.report import Row, write
from dofsuite.evaluation.text2image.scores import Scorer, scorer_of
from dofsuite.images import quantize_8bit
from dofsuite.text2image.camera.exif import Exif
from dofsuite.text2image.probe import F_NUMBERS

DESCRIPTION = "Every prompt at every aperture by every method: blur monotonicity, content consistency, KID and FID."


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "methods", type=Path, nargs="+", metavar="METHOD.yaml", help="one row each, in this order"
    )
    parser.add_argument(
        "--prompts",
        required=True,
        metavar="FILE_OR_SET",
        help="text file, folder of shards, synthetic:",
    )
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="DIR", help="folder of the table"
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help="the first N prompts; all by default (the paper: 25)"
    )
    parser.add_argument(
        "--f-numbers", type=float, nargs="+", default=list(F_NUMBERS), metavar="N", help="rising"
    )
    parser.add_argument(
        "--focal-length",
        type=float,
        metavar="MM",
        help="for all; by default the prompts' EXIF, or 50",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument(
        "--segmenter", default="facebook/mask2former-swin-large-ade-semantic", metavar="PATH_OR_ID",
        help="for content consistency: of transformers, colors (synthetic scenes) or none; %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--top-k", type=int, help="classes of a pixel that count; by default 3, with colors 1"
    )
    parser.add_argument(
        "--clip",
        default="openai/clip-vit-base-patch32",
        metavar="PATH_OR_ID",
        help="or none; %(default)s",
    )
    parser.add_argument(
        "--photographs",
        metavar="SET",
        help="shards to compare with by KID and FID; none by default",
    )
    parser.add_argument(
        "--features", choices=NETWORKS, default="auto", help="network of KID and FID; %(default)s"
    )
    parser.add_argument(
        "--compared",
        type=float,
        nargs="+",
        metavar="N",
        help="f-numbers of the pictures compared; all by default",
    )
    parser.add_argument(
        "--sheets", type=int, default=4, metavar="N", help="prompts with pictures in the report"
    )


def run(arguments: argparse.Namespace) -> None:
    """Make this process's share of the rows; whoever finds all of them there writes the report.

    Raises:
        UserError: An argument, a method or a set cannot be used.
    """
    check(arguments)
    prompts = read_prompts(arguments.prompts, arguments.count, arguments.focal_length)
    real = None if arguments.photographs is None else open_photographs(arguments.photographs)
    if real is not None:
        check_counts(len(prompts) * len(arguments.compared), len(real))
    table = [table_row(file, arguments) for file in arguments.methods]
    for row in table:  # before any network is loaded
        check_settings(image_folder(arguments.output, row.stem), row.cache_key, write=False)
    load_scorer = cache(lambda: scorer_of(arguments))
    made = [make_rows(row, prompts, arguments, load_scorer) for row in table]
    if None in made:  # others may have finished meanwhile; nothing is made by this
        made = [make_rows(row, prompts, arguments, load_scorer) for row in table]
    if None in made:
        print(
            f"{arguments.output}: other processes still make rows; the last of them writes the report.",
            flush=True,
        )
        return
    for file in write(arguments, prompts, list(zip(table, made, strict=True)), real, load_scorer):
        print(file, flush=True)


def check(arguments: argparse.Namespace) -> None:
    """Refuse what needs no network to be refused, and fill in what depends on other arguments.

    Raises:
        UserError: Apertures that do not rise, methods of one name, a file in the folder's way, or a
            number below 1.
    """
    Exif.checked(
        arguments.f_numbers, 50.0 if arguments.focal_length is None else arguments.focal_length
    )
    if len(arguments.f_numbers) < 2 or arguments.f_numbers != sorted(set(arguments.f_numbers)):
        raise UserError("--f-numbers: a sweep needs at least two, rising; change their order.")
    stems = [file.stem for file in arguments.methods]
    if len(set(stems)) < len(stems):
        raise UserError("METHOD.yaml: two files have one name, which is their row's; rename one.")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UserError(f"{arguments.output}: --output: a file lies there; name a folder.")
    for name in ("count", "top_k"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise UserError(
                f"--{name.replace('_', '-')}: must be at least 1, not {getattr(arguments, name)}."
            )
    arguments.compared = arguments.compared or arguments.f_numbers
    if not set(arguments.compared) <= set(arguments.f_numbers):
        raise UserError("--compared: an f-number that is none of --f-numbers; choose among them.")
    arguments.top_k = arguments.top_k or (1 if is_color_segmenter(arguments.segmenter) else 3)
    if is_color_segmenter(arguments.segmenter) and arguments.top_k > ColorSegmenter.num_classes:
        raise UserError(
            f"--top-k: the segmenter colors has {ColorSegmenter.num_classes} classes; choose fewer."
        )
    arguments.features = "none" if arguments.photographs is None else chosen(arguments.features)


def check_counts(pictures: int, photographs: int) -> None:
    """Refuse to compare what has no distribution.

    Args:
        pictures: Of a method, compared.
        photographs: That they are compared with.

    Raises:
        UserError: There is one of either kind, or none.
    """
    if min(pictures, photographs) < 2:
        raise UserError(
            f"--photographs: KID and FID need two pictures and photographs at least, not {pictures} and {photographs}; "
            "raise --count, give --compared more f-numbers, or leave --photographs out."
        )


def table_row(file: Path, arguments: argparse.Namespace) -> Row:
    """Read a method, and say what its pictures depend on.

    Raises:
        UserError: The file cannot be used, or a run that it names is not there.
    """
    method, described = read_method(file)
    del described["name"], described["published"]
    cache_key = {"method": described, "sources": method.sources()}
    return Row(
        file.stem, method, {**cache_key, "f_numbers": arguments.f_numbers, "seed": arguments.seed}
    )


def scored_with(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the scores depend on beside the pictures, as plain data."""
    scores = {name: getattr(arguments, name) for name in ("segmenter", "top_k", "clip", "features")}
    return {**scores, "compared": arguments.compared if arguments.features != "none" else None}


def make_rows(
    row: Row,
    prompts: list[Prompt],
    arguments: argparse.Namespace,
    load_scorer: Callable[[], Scorer],
) -> list[dict[str, Any]] | None:
    """Make this process's share of a method's rows; networks are loaded with the first, and let go with the last."""
    device, by_row = default_device(), {prompt.row: prompt for prompt in prompts}
    photographer = cache(lambda: row.method.load(device))

    def kept(key: str) -> Path:
        return image_folder(arguments.output, row.stem, key)

    settings = row.cache_key | {"scores": scored_with(arguments)}
    folder = arguments.output / "rows" / f"{row.stem}-{config_hash(settings)}"
    if missing := pending(folder, list(by_row)):
        load_scorer()  # before anything is written or made: a network may be missing
        if not all(has_images(kept(key), arguments.f_numbers) for key in missing):
            photographer()
    check_settings(kept(""), row.cache_key)

    def make(key: str) -> dict[str, Any]:
        if has_images(kept(key), arguments.f_numbers):
            return load_scorer().row(read_images(kept(key), arguments.f_numbers))
        prompt, seed = (
            by_row[key],
            draw_integer(arguments.seed, list(by_row).index(key), "text2image evaluation"),
        )
        cameras = Exif.checked(arguments.f_numbers, prompt.focal_length_mm)
        sweep = quantize_8bit(photographer()(SampleRequest(prompt.text, cameras, seed)))
        write_images(kept(key), arguments.f_numbers, sweep)
        return load_scorer().row(sweep)

    return compute_rows(folder, list(by_row), make, settings)
