"""What is compared on a refocus benchmark: models, the renderer, the unchanged reference, images.

Two more sharpen the reference and blur it again: by a deblurring network, or by deconvolution.

A method predicts a sample: the reference image and a disparity in, an image out. Four are always
there: `oracle`, the best prediction; `copy`, the laziest; `uniform_blur`, which hears the level and
ignores the point; and `renderer_without_deblurring`, the renderer on the reference as it is given:
what needs no model. A trained model predicts one sample at a time, with noise from that sample's
seed, so that no prediction depends on its neighbors.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.baselines.deconvolution import Deconvolution
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import hash_files, hash_named_files
from dofsuite.evaluation.job import default_device, seed_of
from dofsuite.evaluation.refocus.config import Perturbation
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.evaluation.refocus_benchmark.samples_csv import read_predictions
from dofsuite.images import IMAGE_EXTENSIONS, read_image, resize
from dofsuite.refocus import without_model
from dofsuite.refocus.rendering import photograph
from dofsuite.refocus.without_model import UNIFORM_DISTANCE

USES_TRUTH = "uses the truth's depth and the renderer that made the truth, which no photograph has"


class Method(NamedTuple):
    name: str
    # Sample, reference [1, 3, h, w] and disparity [1, 1, h, w] -> image [1, 3, h, w] in [0, 1].
    predict: Callable[[Sample, Tensor, Tensor], Tensor]
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
    # Always in the table, for comparison.
    is_baseline: bool = False


def oracle(benchmark: Benchmark) -> Method:
    def predict(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        sharp, exact = benchmark.all_in_focus(sample.scene), benchmark.disparity(sample.scene)
        return render(benchmark, sharp, exact, sample)

    remark = f"oracle: {USES_TRUTH}; its LVCorr, blur gain and hit rate are the truth's"
    return Method("oracle", predict, {"kind": "oracle"}, remark=remark, is_baseline=True)


def copy(benchmark: Benchmark) -> Method:
    return Method(
        "copy",
        lambda sample, reference, _: reference,
        {"kind": "copy"},
        stores_images=False,
        remark="copy: the picture that was given, unchanged",
        is_baseline=True,
    )


def uniform_blur(benchmark: Benchmark) -> Method:
    """Return one blur for the whole image: it hears the level and ignores point and depth.

    Its radius is half the level (*ours*): that of a pixel half the range of disparity from focus.
    """

    def predict(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        width_px = torch.tensor([float(benchmark.size_px)])
        return without_model.uniform_blur(reference, width_px, sample.camera, benchmark.rendering)

    remark = "uniform_blur: one blur of radius b / 2 for the whole picture, whatever the point"
    identity = {"kind": "uniform_blur", "distance": UNIFORM_DISTANCE}
    return Method("uniform_blur", predict, identity, remark=remark, is_baseline=True)


def renderer_without_deblurring(benchmark: Benchmark) -> Method:
    """Return the benchmark's renderer with the exact depth, on the reference as it is given."""

    def predict(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        return render(benchmark, reference, benchmark.disparity(sample.scene), sample)

    name = "renderer_without_deblurring"
    remark = f"{name}: blurs the picture that was given; {USES_TRUTH}"
    return Method(name, predict, {"kind": name}, remark=remark, is_baseline=True)


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
    from dofsuite.backbones.model_card import licence_of_base
    from dofsuite.refocus.pipeline import RefocusPipeline
    from dofsuite.refocus.settings import RefocusSettings

    # Identity: the files of the export
    export = RefocusSettings.find(folder)
    settings = RefocusSettings.read(export)
    weights = [*export.glob("*.safetensors"), *export.glob("camera_embedder/*")]
    identity = {
        "kind": "run",
        "export": hash_files(export, {export / RefocusSettings.FILE, *weights}),
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
    resized = (
        f"{name}: works at {settings.size_px} px; the benchmark's images of {benchmark.size_px} px "
        "are resized for it and back"
    )
    remarks = [f"{name}: base {licence_of_base(settings.backbone)}"]
    if settings.size_px not in (None, benchmark.size_px):
        remarks.append(resized)
    return Method(name, predict, identity, remark="; ".join(remarks))


def folder(benchmark: Benchmark, path: Path, name: str) -> Method:
    """Return images generated elsewhere: PATH/SCENE/SAMPLE.png (or .jpg, .webp), by sample key.

    Or PATH is the benchmark's `samples.csv` with its column `prediction` filled in: image files,
    relative to it; an empty cell is a sample that is not covered.

    Raises:
        UserError: There is none, one is not square, or the CSV has another form.
    """
    # Files by sample, with any extension
    candidates = [
        (sample.key, path / f"{sample.key}.{extension}")
        for sample in benchmark.samples
        for extension in reversed(IMAGE_EXTENSIONS)  # the first counts
    ]
    files = {key: file for key, file in candidates if file.is_file()}
    if path.is_file():
        files = read_predictions(path, benchmark)
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

    hashes = hash_named_files([(key, file) for key, file in sorted(files.items())])
    identity = {"kind": "folder", "pictures": hashes}
    return Method(name, predict, identity, covered=frozenset(files), stores_images=False)


def deconvolution(benchmark: Benchmark, options: Deconvolution) -> Method:
    """Return the method after Bando and Nishita 2007: estimate the blur, invert it, blur again."""

    def predict(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        sharp = options.sharpen(reference, disparity, benchmark.rendering.gamma)
        return render(benchmark, sharp, disparity, sample)

    identity = {"kind": "deconvolution", **asdict(options)}
    return Method("deconvolution", predict, identity, remark=f"deconvolution: {USES_TRUTH}")


def two_stage(benchmark: Benchmark, source: Path, seed: int, steps: int | None) -> Method:
    """Return a deblurring network followed by the benchmark's renderer.

    DiffCamera's appendix F compares with Restormer + BokehMe.

    Args:
        benchmark: Whose renderer and gamma are used.
        source: `packaged`, the deblurrer that comes with dofsuite, or one that
            `dofsuite.pretraining.Deblurring` exported; a trained run or export, used at level 0
            with the focus at the center; a network saved by torch.export (`.pt2`, images
            [1, 3, h, w] in [0, 1] to the same); or a folder in which PATH/SCENE/SAMPLE.png is that
            sample's reference, deblurred elsewhere, by Restormer for example.
        seed: Of a run's noise.
        steps: A run's Euler steps; None is its own.

    Raises:
        UserError: There is nothing of these kinds at `source`.
    """
    from dofsuite.refocus.settings import RefocusSettings

    # First stage: a network, a run at level 0, or a folder of images
    name = f"two_stage ({source.parent.name if source.name == 'export' else source.stem})"
    if str(source) == "packaged" or (source / "model.safetensors").is_file():
        deblur = deblurrer(source, name)
    elif source.suffix == ".pt2":
        network = exported_network(source)
        identity = {"network": hash_named_files([(".", source)])}
        deblur = Method(name, lambda sample, reference, _: network(reference), identity)
    elif RefocusSettings.place_in(source):
        deblur = model(benchmark, source, name, seed, steps)
    elif source.is_dir():
        deblur = folder(benchmark, source, name)
    else:
        raise UserError(
            f"{source}: --two-stage: give a run, a network as .pt2, a folder of images, a "
            "deblurrer's export, or packaged."
        )

    # Second stage: the renderer
    def predict(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        in_focus = sample._replace(focus_point=(0.5, 0.5), bokeh_level=0.0)
        sharp = deblur.predict(in_focus, reference, disparity).clamp(0, 1)
        return render(benchmark, resize(sharp, *reference.shape[-2:]), disparity, sample)

    return deblur._replace(
        predict=predict,
        identity={"kind": "two_stage", "deblur": deblur.identity},
        stores_images=True,
        remark="; ".join(filter(None, (f"{name}: {USES_TRUTH}", deblur.remark))),
    )


def deblurrer(source: Path, name: str) -> Method:
    """Return the restoration network of `dofsuite.lens --deblur`."""
    from dofsuite.backbones import SmallDeblur

    small = SmallDeblur(weights=str(source))
    network = small.load()
    identity = {"network": hash_named_files([(".", small.weights_file)])}
    return Method(name, lambda sample, reference, _: network.restore(reference[0])[None], identity)


def exported_network(path: Path) -> Callable[[Tensor], Tensor]:
    # Saved by torch.export, loaded at first use; errors name the file
    @cache
    def load() -> torch.nn.Module:
        try:
            return torch.export.load(str(path)).module()
        except Exception as error:  # of another file PyTorch raises nearly anything
            raise UserError(
                f"{path}: --two-stage: it is no program of torch.export; save the network again."
            ) from error

    @torch.no_grad()
    def network(image: Tensor) -> Tensor:
        # An exported program checks the shape of its input
        try:
            output = load()(image)
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f"{path}: --two-stage: it does not take images of "
                f"{'x'.join(map(str, image.shape))}; export it for them."
            ) from error
        # What comes out must be an image
        if (
            not isinstance(output, Tensor)
            or output.ndim != 4
            or output.shape[:2] != image.shape[:2]
        ):
            raise UserError(
                f"{path}: --two-stage: its output is no image [1, 3, h, w]; export the network "
                "whose output is one."
            )
        return output

    return network
