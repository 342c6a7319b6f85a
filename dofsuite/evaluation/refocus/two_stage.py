"""Methods that sharpen an image and blur it again: by a deblurring network, or by deconvolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from dofsuite.baselines.deconvolution import Deconvolution
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import hash_named_files
from dofsuite.evaluation.refocus.methods import Method, folder, model, render
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.images import resize
from dofsuite.refocus.settings import holds_export


def deconvolution(benchmark: Benchmark, options: Deconvolution) -> Method:
    """Return the method after Bando and Nishita 2007: estimate the blur, invert it, blur again."""

    def predict(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        sharp = options.sharpen(reference, disparity, benchmark.rendering.gamma)
        return render(benchmark, sharp, disparity, sample)

    return Method("deconvolution", predict, {"kind": "deconvolution", **asdict(options)})


def two_stage(benchmark: Benchmark, source: Path, seed: int, steps: int | None) -> Method:
    """Return a deblurring network followed by the benchmark's renderer.

    DiffCamera's appendix F compares with Restormer + BokehMe.

    Args:
        benchmark: Whose renderer and gamma are used.
        source: A trained run or export, used at level 0 with the focus at the center; a network
            saved by torch.export (`.pt2`, images [1, 3, h, w] in [0, 1] to the same); or a folder
            in which PATH/SCENE/SAMPLE.png is that sample's reference, deblurred elsewhere, by
            Restormer for example.
        seed: Of a run's noise.
        steps: A run's Euler steps; None is its own.

    Raises:
        UserError: There is nothing of the three kinds at `source`.
    """
    # First stage: a network, a run at level 0, or a folder of images
    name = f"two_stage ({source.parent.name if source.name == 'export' else source.stem})"
    if source.suffix == ".pt2":
        network = exported_network(source)
        identity = {"network": hash_named_files([(".", source)])}
        deblur = Method(name, lambda sample, reference, _: network(reference), identity)
    elif holds_export(source):
        deblur = model(benchmark, source, name, seed, steps)
    elif source.is_dir():
        deblur = folder(benchmark, source, name)
    else:
        raise UserError(
            f"{source}: --two-stage: give a run, a network as .pt2, or a folder of images."
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
    )


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
