"""A benchmark of many scenes and methods with planted errors, whose pictures are a few tensors."""

import math
from pathlib import Path

import numpy as np
import torch

from dofsuite.evaluation.refocus.methods import Method
from dofsuite.evaluation.refocus.report import MethodResults
from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample, SceneFiles
from dofsuite.images import encode_png, resize
from dofsuite.refocus.rendering import Rendering

LEVELS = [5.0, 10.0, 15.0, 20.0]
TASKS = {"refocus": (10.0, 20.0), "bokeh": LEVELS, "deblur": LEVELS}
BASELINES = ("oracle", "copy", "uniform_blur", "renderer_without_deblurring")


def picture(size_px: int) -> torch.Tensor:
    """Noise with the spectrum of photographs, [3, s, s]."""
    draw = torch.Generator().manual_seed(0)
    layers = [
        resize(torch.rand(3, side, side, generator=draw), size_px, size_px, "bilinear") / 2**k
        for k, side in enumerate((4, 8, 16, 32, 64, size_px))
    ]
    return sum(layers) / 2


def simulated(
    folder: Path, effects: dict[str, float], num_scenes: int = 150, size_px: int = 192
) -> tuple[Benchmark, list[MethodResults]]:
    """A benchmark and the results of the baselines and of methods.

    `effects` is what a method's MAE is above copy's, in every task, on average; a scene's own
    effect differs by .004. A name that ends in "half" covers every second scene.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image = picture(size_px)
    (folder / "image.png").write_bytes(encode_png(image))
    names = [f"scene_{number:03d}" for number in range(num_scenes)]
    scenes = [
        SceneFiles(name, SOURCES[k % 3], "image.png", "image.png") for k, name in enumerate(names)
    ]
    samples = []
    for name in names:
        for task, levels in TASKS.items():
            samples += [
                Sample(
                    f"{name}/{task}_{level:g}",
                    name,
                    task,
                    "image.png",
                    "image.png",
                    (0.3, 0.6),
                    0.5,
                    0.0 if task == "deblur" else level,
                )
                for level in levels
            ]
    benchmark = Benchmark(folder, "0" * 64, {}, Rendering(), size_px, LEVELS, scenes, samples)

    draw = np.random.default_rng(0)
    hard = dict(zip(names, draw.lognormal(-3.5, 0.5, num_scenes), strict=True))
    results = []
    for method in (*BASELINES, *effects):
        is_baseline, effect = method in BASELINES, effects.get(method, 0.0)
        own = dict(zip(names, draw.normal(effect, 0.004, num_scenes), strict=True))
        rows = {}
        for number, sample in enumerate(samples):
            if method.endswith("half") and int(sample.scene[-3:]) % 2:
                continue
            error = hard[sample.scene] + (0.0 if is_baseline else own[sample.scene])
            error = 0.0 if method == "oracle" else max(1e-5, error + draw.normal(0, 0.001))
            sharpness = 2000 * math.exp(-sample.bokeh_level / 20) * hard[sample.scene]
            rows[sample.key] = {
                "key": sample.key,
                "clip_i": None,
                "mae": error,
                "psnr": math.inf if error == 0 else -20 * math.log10(error),
                "lpips": None,
                "dists": None,
                "clip_iqa": None,
                "efficientnet": None,
                "st_lpips": None,
                "shift_px": None if number % 5 == 0 else error,
                "scale_error": None if number % 5 == 0 else error / 100,
                "color_drift": error,
                "sharpness": sharpness * (1 + error),
                "target_sharpness": sharpness,
                "sharpness_at": draw.random(2).tolist() if sample.task == "refocus" else [],
            }
            assert number < len(samples)
        predict = Method(
            method,
            lambda sample, reference, disparity: image[None],
            {"kind": method},
            stores_images=False,
            is_baseline=is_baseline,
            run=None if is_baseline else folder / method,
        )
        results.append(MethodResults(predict, rows, None))
    return benchmark, results
