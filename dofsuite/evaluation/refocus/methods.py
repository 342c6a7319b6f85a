"""What is measured on a refocus benchmark: models, the renderer, the reference unchanged, pictures made elsewhere.

A method answers a sample: the picture given and a disparity in, a picture out. `oracle` and `copy`
are always there: the best and the laziest answer. Every model of ours is asked one sample at a
time, with noise from that sample's seed, so that no answer depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import hash_files
from dofsuite.evaluation.job import default_device, seed_of
from dofsuite.evaluation.refocus.config import Perturbation
from dofsuite.evaluation.refocus.perturbation import TITLES
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.images import IMAGE_EXTENSIONS, read_image, resize
from dofsuite.refocus.export import SETTINGS, read_settings
from dofsuite.refocus.rendering import photograph

Answer = Callable[[Sample, Tensor, Tensor], Tensor]
"""A sample, the picture given [1, 3, h, w] and a disparity [1, 1, h, w] -> a picture [1, 3, h, w] in [0, 1]."""


class Method(NamedTuple):
    """A row of the tables."""

    name: str
    answer: Answer
    identity: dict[str, Any]
    """Plain data on which its pictures depend: those of another identity are not taken for its own."""
    perturbation: Perturbation = "given"
    """What is done to the disparity before it is asked."""
    covered: frozenset[str] | None = None
    """Keys of the samples that it answers; None is all."""
    is_ours: bool = True
    """Whether its pictures are kept; those of `copy` and `folder` lie elsewhere already."""
    remark: str = ""
    """What a reader of the tables should know of it."""
    run: Path | None = None
    """The run of ours whose numbers these are: `evaluate table` finds them by it, however its path was spelt."""

    def with_depth(self, perturbation: Perturbation) -> Method:
        """Return the same method with another disparity."""
        title = TITLES[perturbation]
        return self._replace(
            name=f"{self.name}, {title}" if title else self.name, perturbation=perturbation
        )


def oracle(benchmark: Benchmark) -> Method:
    """Return the renderer that made the ground truth, given the all-in-focus picture."""

    def answer(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        return render(
            benchmark, benchmark.image(sample.scene), benchmark.disparity(sample.scene), sample
        )

    return Method("oracle", answer, {"kind": "oracle"})


def copy(benchmark: Benchmark) -> Method:
    """Return the picture given, unchanged."""
    return Method(
        "copy", lambda sample, reference, disparity: reference, {"kind": "copy"}, is_ours=False
    )


def render(benchmark: Benchmark, image: Tensor, disparity: Tensor, sample: Sample) -> Tensor:
    """Photograph a picture with the benchmark's renderer and a sample's camera; level 0 gives the picture itself."""
    width_px = torch.tensor([float(benchmark.size_px)])
    return photograph(image, disparity, width_px, [sample.camera], benchmark.rendering)[0]


def model(benchmark: Benchmark, folder: Path, name: str, seed: int, steps: int | None) -> Method:
    """Return a run or an export of ours.

    A level counts in pixels at a reference width; where the model was trained with another one than
    the benchmark's, the level is converted, so that the blur looks the same. A model of another
    size gets the picture at its own size (*ours*: bicubic), and its answer is brought back.

    Raises:
        UserError: The folder holds no adapter.
    """
    settings = read_settings(folder)
    export = settings["folder"]
    files = frozenset(
        [export / SETTINGS, *export.glob("*.safetensors"), *export.glob("camera_embedder/*")]
    )
    identity = {"kind": "run", "export": hash_files(export, files), "seed": seed, "steps": steps}

    @cache
    def pipeline() -> Any:
        from dofsuite.refocus.pipeline import RefocusPipeline

        return RefocusPipeline.from_export(folder).to(default_device())

    def answer(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        pipe = pipeline()
        width_ratio = pipe.camera.config.reference_width_px / benchmark.rendering.reference_width_px
        generator = torch.Generator().manual_seed(seed_of(sample.key, seed))
        level = sample.bokeh_level * width_ratio
        pictures = pipe(
            reference, sample.focus_point, level, disparity, steps, generator, output_type="pt"
        ).images
        return resize(pictures.cpu(), *reference.shape[-2:])

    return Method(
        name, answer, identity, remark=size_remark(name, settings["size_px"], benchmark.size_px)
    )


def size_remark(name: str, trained_px: int | None, asked_px: int) -> str:
    """Say where a model works at another size than the benchmark's."""
    if trained_px in (None, asked_px):
        return ""
    return f"{name}: works at {trained_px} px; the benchmark's pictures of {asked_px} px are resized for it and back"


def folder(benchmark: Benchmark, path: Path, name: str) -> Method:
    """Return pictures made elsewhere: PATH/SCENE/SAMPLE.png (or .jpg, .webp), named like the samples' keys.

    Raises:
        UserError: There is none, or one is not square.
    """
    found = {
        sample.key: file for sample in benchmark.samples if (file := picture_file(path, sample.key))
    }
    if not found:
        example = benchmark.samples[0].key
        raise UserError(
            f"{path}: --folder: holds no picture of the benchmark, such as {example}.png; check the names."
        )

    def answer(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        picture = read_image(found[sample.key])[None]
        if picture.shape[-1] != picture.shape[-2]:
            raise UserError(
                f"{found[sample.key]}: the benchmark's pictures are square, this one is not; crop it."
            )
        return resize(picture, *reference.shape[-2:])

    identity = {"kind": "folder", "pictures": hash_files(path, found.values())}
    return Method(name, answer, identity, covered=frozenset(found), is_ours=False)


def picture_file(path: Path, key: str) -> Path | None:
    """Return a sample's picture in a folder."""
    files = (path / f"{key}.{extension}" for extension in IMAGE_EXTENSIONS)
    return next((file for file in files if file.is_file()), None)
