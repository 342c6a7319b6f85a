"""Runs and exports that the page was started with, as pipelines."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from dofsuite.errors import UserError
from dofsuite.refocus import RefocusPipeline
from dofsuite.refocus.settings import RefocusSettings
from dofsuite.text2image import Text2ImagePipeline
from dofsuite.text2image.settings import Text2ImageSettings


class Models(NamedTuple):
    """One model of each kind at most."""

    refocus: RefocusPipeline | None = None
    text2image: Text2ImagePipeline | None = None


def load_models(folders: Sequence[Path]) -> Models:
    """Load each run or export, on the GPU where there is one.

    Raises:
        UserError: A folder holds neither kind, two hold the same one, or a generator has no lens.
    """
    models = Models()
    for folder in folders:
        kind = _kind_of(folder)
        if getattr(models, kind) is not None:
            raise UserError(f"{folder}: the page takes one model of a kind; start a second page.")
        pipe = (
            RefocusPipeline.from_export(folder)
            if kind == "refocus"
            else _with_lens(folder, Text2ImagePipeline.from_export(folder))
        )
        pipe.set_progress_bar_config(disable=True)
        if torch.cuda.is_available():
            pipe.to("cuda")
        models = models._replace(**{kind: pipe})
    return models


def _kind_of(folder: Path) -> str:
    for kind, settings in (("refocus", RefocusSettings), ("text2image", Text2ImageSettings)):
        if settings.place_in(folder):
            return kind
    raise UserError(
        f"{folder}: it holds no export of refocus or text2image; train one: make quickstart."
    )


def _with_lens(folder: Path, pipe: Text2ImagePipeline) -> Text2ImagePipeline:
    if pipe.lens is None or pipe.is_exif_conditioned:
        raise UserError(
            f"{folder}: the page photographs one scene with any camera, and this generator makes "
            "another for each; use python -m dofsuite.text2image."
        )
    return pipe
