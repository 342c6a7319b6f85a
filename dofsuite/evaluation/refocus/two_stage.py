"""Methods that make a picture sharp and blur it again: by a deblurring network, or by deconvolution."""

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
from dofsuite.refocus.export import SETTINGS

EXPORTED_PROGRAM = ".pt2"


def deconvolution(benchmark: Benchmark, options: Deconvolution) -> Method:
    """Return the method after Bando and Nishita 2007: estimate the blur, undo it, blur again."""
    gamma = benchmark.rendering.gamma

    def answer(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        sharp = options.sharpen(reference, disparity, gamma)
        return render(benchmark, sharp, disparity, sample)

    return Method("deconvolution", answer, {"kind": "deconvolution", **asdict(options)})


def two_stage(benchmark: Benchmark, source: Path, seed: int, steps: int | None) -> Method:
    """Return a deblurring network followed by the benchmark's renderer (DiffCamera, appendix F: Restormer + BokehMe).

    Args:
        benchmark: Whose renderer and gamma are used.
        source: A run or export of ours, asked for level 0 at the centre; a network as torch.export
            saved it (`.pt2`, pictures [1, 3, h, w] in [0, 1] to the same); or a folder in which
            PATH/SCENE/SAMPLE.png is that sample's reference made sharp elsewhere, by Restormer for
            example.
        seed: Of a run's noise.
        steps: A run's Euler steps; None is its own.

    Raises:
        UserError: There is nothing of the three kinds at `source`.
    """
    name = f"two_stage ({source.parent.name if source.name == 'export' else source.stem})"
    if source.suffix == EXPORTED_PROGRAM:
        network = exported_network(source)
        deblur = Method(
            name,
            lambda sample, reference, disparity: network(reference),
            {"network": hash_named_files([(".", source)])},
        )
    elif any((place / SETTINGS).is_file() for place in (source, source / "export")):
        refocus = model(benchmark, source, name, seed, steps)

        def all_in_focus(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
            sharp = sample._replace(focus_point=(0.5, 0.5), bokeh_level=0.0)
            return refocus.answer(sharp, reference, disparity)

        deblur = refocus._replace(answer=all_in_focus)
    elif source.is_dir():
        deblur = folder(benchmark, source, name)
    else:
        raise UserError(
            f"{source}: --two-stage: give a run of ours, a network as .pt2, or a folder of pictures."
        )
    return in_two_stages(benchmark, deblur)


def in_two_stages(benchmark: Benchmark, deblur: Method) -> Method:
    """Return a method that renders what another has made sharp."""

    def answer(sample: Sample, reference: Tensor, disparity: Tensor) -> Tensor:
        sharp = deblur.answer(sample, reference, disparity)
        return render(
            benchmark, resize(sharp.clamp(0, 1), *reference.shape[-2:]), disparity, sample
        )

    return deblur._replace(
        answer=answer, identity={"kind": "two_stage", "deblur": deblur.identity}, is_ours=True
    )


def exported_network(path: Path) -> Callable[[Tensor], Tensor]:
    """Return a network saved by torch.export, loaded at first use.

    Raises:
        UserError: At first use, where it cannot be loaded or does not fit.
    """

    @cache
    def load() -> torch.nn.Module:
        try:
            return torch.export.load(str(path)).module()
        except Exception as error:  # of another file PyTorch raises nearly anything
            raise UserError(
                f"{path}: --two-stage: it is no program of torch.export; save the network again."
            ) from error

    @torch.no_grad()
    def network(picture: Tensor) -> Tensor:
        try:
            answer = load()(picture)
        except (RuntimeError, AssertionError) as error:
            shape = "x".join(map(str, picture.shape))
            raise UserError(
                f"{path}: --two-stage: it does not take pictures of {shape}; export it for them."
            ) from error
        if (
            not isinstance(answer, Tensor)
            or answer.ndim != 4
            or answer.shape[:2] != picture.shape[:2]
        ):
            raise UserError(
                f"{path}: --two-stage: its answer is no picture [1, 3, h, w]; export the network that is."
            )
        return answer

    return network
