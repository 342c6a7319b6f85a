"""Captions of photographs: from a CSV, or written by a vision-language model."""

import csv
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dofsuite.data.importers.aperture_scenes import ApertureScene
from dofsuite.data.manifest import sha256_of
from dofsuite.errors import UserError
from dofsuite.evaluation.job import default_device
from dofsuite.files import read_bytes
from dofsuite.images import read_image

HEADER = ("name", "caption")


def captions_of(
    scenes: Sequence[ApertureScene],
    count: int,
    file: Path | None,
    captioner: str,
    prompt: str | None,
) -> tuple[list[ApertureScene], Callable[[ApertureScene], str], dict[str, Any]]:
    """Choose scenes, and say how they are captioned.

    Args:
        scenes: All scenes found.
        count: How many are used: spread evenly over them, or the first ones of a CSV.
        file: A CSV with the columns name and caption; None for a captioner.
        captioner: Hub id or folder.
        prompt: See `dofsuite.backbones.Captioner`.

    Returns:
        The scenes that have captions, how a scene is captioned, and what the captions depend on.

    Raises:
        UserError: The CSV cannot be used. (A captioner is loaded with the first caption.)
    """
    # From a CSV
    if file is not None:
        captions = read_captions(file, scenes)
        chosen = [scene for scene in scenes if scene.key in captions][:count]
        source: dict[str, Any] = {"file": file.name, "sha256": sha256_of(read_bytes(file))}
        return chosen, lambda scene: captions[scene.key], source

    # From a captioner, of the photograph at the smallest aperture (of EBB!, f/16)
    from dofsuite.backbones import Captioner

    descriptor = Captioner(captioner, prompt=prompt)
    load = cache(lambda: descriptor.load().to(default_device()))

    def caption(scene: ApertureScene) -> str:
        return load()(read_image(scene.files[max(scene.files)])[None])[0]

    source = {
        "captioner": descriptor.name,
        "prompt": prompt,
        "longest_tokens": descriptor.longest_tokens,
    }
    return spread(scenes, count), caption, source


def spread(scenes: Sequence[ApertureScene], count: int) -> list[ApertureScene]:
    count = min(count, len(scenes))
    return [scenes[index * len(scenes) // count] for index in range(count)]


def read_captions(file: Path, scenes: Sequence[ApertureScene]) -> dict[str, str]:
    """Read a CSV (UTF-8, with the header name,caption) and return captions by scene key.

    A name is a scene's key (`Training/12`), its last part (`12`), or that as a file name
    (`12.jpg`).

    Raises:
        UserError: The file is no such CSV, or a name fits no scene or several.
    """
    try:
        table = list(csv.DictReader(io.StringIO(read_bytes(file).decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: --captions: it is no CSV in UTF-8 ({error}).") from error
    if not table or not set(HEADER) <= set(table[0]):
        raise UserError(
            f"{file}: --captions: its first line must be {','.join(HEADER)}, and a photograph's "
            "each other."
        )

    # Each line names one scene
    captions: dict[str, str] = {}
    for number, line in enumerate(table, 2):
        name, caption = ((line[column] or "").strip() for column in HEADER)
        fitting = [scene.key for scene in scenes if name in names_of(scene)]
        if len(fitting) != 1 or not caption:
            reason = "it has no caption" if fitting else "there is no photograph of this name"
            if len(fitting) > 1:
                reason = f"it fits {len(fitting)} photographs; write the whole path"
            raise UserError(f"{file}: line {number}: {name or 'no name'}: {reason}.")
        captions[fitting[0]] = caption
    return captions


def names_of(scene: ApertureScene) -> set[str]:
    return {scene.key, Path(scene.key).name, *(path.name for path in scene.files.values())}


def captions_csv(captions: dict[str, str]) -> str:
    # What `read_captions` reads, for a second use
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *captions.items()])
    return text.getvalue()
