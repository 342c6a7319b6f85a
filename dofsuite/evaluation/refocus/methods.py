"""What is compared on a refocus benchmark: models, the renderer, the unchanged reference, images.

A method predicts a sample: the reference image and a disparity in, an image out. `oracle` and
`copy` are always there: the best and the laziest prediction. A trained model predicts one sample at
a time, with noise from that sample's seed, so that no prediction depends on its neighbors.
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
from dofsuite.refocus.pipeline import RefocusPipeline
from dofsuite.refocus.rendering import photograph
from dofsuite.refocus.settings import FILE, RefocusSettings, export_folder

# Sample, reference [1, 3, h, w] and disparity [1, 1, h, w] -> image [1, 3, h, w] in [0, 1].
Predict = Callable[[Sample, Tensor, Tensor], Tensor]


class Method(NamedTuple):
    name: str
    predict: Predict
    # Plain data on which its images depend: stored images of another identity are not used.
    identity: dict[str, Any]
    # What is done to the disparity that it gets.
    perturbation: Perturbation = "given"
    # Keys of the samples that it predicts; None is all.
    covered: frozenset[str] | None = None
    # Whether the report's folder keeps its images; those of `copy` and `folder` exist already.
    stores_images: bool = True
    # A note under the tables.
    remark: str = ""
    # The trained run, resolved: `evaluate table` finds its rows by it.
    run: Path | None = None

    def with_depth(self, perturbation: Perturbation) -> Method:
        title = TITLES[perturbation]
        name = f"{self.name}, {title}" if title else self.name
        return self._replace(name=name, perturbation=perturbation)


def oracle(benchmark: Benchmark) -> Method:
    def predict(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        image, exact = benchmark.all_in_focus(sample.scene), benchmark.disparity(sample.scene)
        return render(benchmark, image, exact, sample)

    return Method("oracle", predict, {"kind": "oracle"})


def copy(benchmark: Benchmark) -> Method:
    identity = {"kind": "copy"}
    return Method("copy", lambda sample, reference, _: reference, identity, stores_images=False)


def render(benchmark: Benchmark, image: Tensor, disparity: Tensor, sample: Sample) -> Tensor:
    width_px = torch.tensor([float(benchmark.size_px)])
    return photograph(image, disparity, width_px, [sample.camera], benchmark.rendering)[0]


def model(benchmark: Benchmark, folder: Path, name: str, seed: int, steps: int | None) -> Method:
    """Return a trained run or an export.

    A bokeh level counts in pixels at a reference width; where the model was trained with another
    one than the benchmark's, the level is converted, so that the blur looks the same. A model of
    another size gets the image at its own size (*ours*: bicubic), and its output is resized back.

    Raises:
        UserError: The folder holds no adapter.
    """
    # Identity: the files of the export
    export = export_folder(folder)
    settings = RefocusSettings.read(export)
    weights = [*export.glob("*.safetensors"), *export.glob("camera_embedder/*")]
    identity = {
        "kind": "run",
        "export": hash_files(export, {export / FILE, *weights}),
        "seed": seed,
        "steps": steps,
    }

    load_pipeline: Callable[[], Any] = cache(
        lambda: RefocusPipeline.from_export(folder).to(default_device())
    )

    def predict(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        pipe = load_pipeline()
        width_ratio = pipe.camera.config.reference_width_px / benchmark.rendering.reference_width_px
        level = sample.bokeh_level * width_ratio
        generator = torch.Generator().manual_seed(seed_of(sample.key, seed))
        images = pipe(
            reference, sample.focus_point, level, disparity, steps, generator, output_type="pt"
        ).images
        return resize(images.cpu(), *reference.shape[-2:])

    # A model trained at another size
    remark, size_px = "", settings.size_px
    if size_px not in (None, benchmark.size_px):
        remark = (
            f"{name}: works at {size_px} px; the benchmark's images of {benchmark.size_px} px are "
            "resized for it and back"
        )
    return Method(name, predict, identity, remark=remark)


def folder(benchmark: Benchmark, path: Path, name: str) -> Method:
    """Return images generated elsewhere: PATH/SCENE/SAMPLE.png (or .jpg, .webp), by sample key.

    Raises:
        UserError: There is none, or one is not square.
    """
    # Files by sample, with any extension
    files = {}
    for sample in benchmark.samples:
        candidates = (path / f"{sample.key}.{extension}" for extension in IMAGE_EXTENSIONS)
        if file := next((file for file in candidates if file.is_file()), None):
            files[sample.key] = file
    if not files:
        raise UserError(
            f"{path}: --folder: holds no image of the benchmark, such as "
            f"{benchmark.samples[0].key}.png; check the names."
        )

    # Read one when it is scored
    def predict(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        image = read_image(files[sample.key])[None]
        if image.shape[-1] != image.shape[-2]:
            raise UserError(
                f"{files[sample.key]}: the benchmark's images are square, this one is not; crop it."
            )
        return resize(image, *reference.shape[-2:])

    identity = {"kind": "folder", "pictures": hash_files(path, files.values())}
    return Method(name, predict, identity, covered=frozenset(files), stores_images=False)
