"""`run`: DiffCamera's tables on a refocus benchmark, for trained runs and their competitors."""

import os
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dofsuite.baselines.deconvolution import Deconvolution
from dofsuite.data.manifest import sha256_of
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import config_hash
from dofsuite.evaluation.job import check_settings, compute_rows, seed_of
from dofsuite.evaluation.refocus.config import RefocusConfig
from dofsuite.evaluation.refocus.methods import (
    Method,
    copy,
    deconvolution,
    folder,
    model,
    oracle,
    renderer_without_deblurring,
    two_stage,
    uniform_blur,
)
from dofsuite.evaluation.refocus.perturbation import TITLES, perturb
from dofsuite.evaluation.refocus.report import MethodResults, samples_csv, tables
from dofsuite.evaluation.refocus.scene_pages import figures, sheets, write_pages
from dofsuite.evaluation.refocus.scores import Scores, load_scores
from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample, read_benchmark
from dofsuite.evaluation.report import write_report
from dofsuite.files import write_bytes, write_text
from dofsuite.images import encode_png, quantize_8bit, read_image


def run(config: RefocusConfig) -> None:
    # Methods and scores
    benchmark = read_benchmark(config.benchmark)
    methods = methods_of(config, benchmark)
    scores = load_scores(config.clip, config.lpips, config.dists, config.clip_iqa, config.features)
    name = config.benchmark.resolve().name
    output = config.output or run_folder(config.runs[0]) / "benchmark" / name

    # This process's samples; a second pass only reads rows that other processes finished
    for _ in range(2):
        rows = [measure(output, benchmark, each, scores, config.seed) for each in methods]
    results = [
        MethodResults(method, own, image_folder(output, method))
        for method, own in zip(methods, rows, strict=True)
        if own is not None
    ]
    if len(results) < len(methods):
        print(f"{output}: this process's samples are done; the last process writes the report.")
        return

    # Report, its samples, and a page a scene
    with_pages = not config.no_scene_pages
    files = write_report(
        output,
        f"Refocus benchmark {name}",
        tables(benchmark, results, scores.notes, config.seed),
        sheets(benchmark, results, config.sheet_scenes, with_pages),
        facts_of(config, benchmark, scores),
        figures(benchmark, results, config.seed, with_pages),
    )
    write_text(output / "samples.csv", samples_csv(benchmark, results))
    if with_pages:
        write_pages(output, benchmark, results)
    print(*files, output / "samples.csv", sep="\n")


def methods_of(config: RefocusConfig, benchmark: Benchmark) -> list[Method]:
    # Trained runs and baselines, which use the depth
    seed, steps = config.seed, config.steps
    using_depth = [
        model(benchmark, path, name, seed, steps)._replace(run=resolved_run(path))
        for path, name in named_runs(config.runs)
    ]
    using_depth += [two_stage(benchmark, path, seed, steps) for path in config.two_stage]
    if config.deconvolution:
        using_depth.append(deconvolution(benchmark, Deconvolution()))

    # All methods, in the order of the tables' rows
    methods = [oracle(benchmark), copy(benchmark)]
    methods += [uniform_blur(benchmark), renderer_without_deblurring(benchmark)]
    for text in config.folders:
        name, _, path = text.partition("=")
        methods.append(folder(benchmark, Path(path), name))
    methods += [
        method._replace(
            name=", ".join(filter(None, (method.name, TITLES[depth]))), perturbation=depth
        )
        for method in using_depth
        for depth in dict.fromkeys(config.depth)
    ]

    names = [method.name for method in methods]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError(
            f"{repeated[0]}: two methods have this name; leave one out, or rename its folder."
        )
    return methods


def run_folder(path: Path) -> Path:
    return path.parent if path.name == "export" else path


def resolved_run(path: Path) -> Path:
    return run_folder(Path(os.path.abspath(path))).resolve()


def named_runs(runs: Sequence[Path]) -> list[tuple[Path, str]]:
    # A run has its folder's name, with as many parents as make it unique
    parts = [resolved_run(path).parts for path in runs]
    named = []
    for path, own in zip(runs, parts, strict=True):
        count = 1
        while sum(each[-count:] == own[-count:] for each in parts) > 1 and count < len(own):
            count += 1
        named.append((path, "/".join(own[-count:])))
    return named


def measure(
    output: Path, benchmark: Benchmark, method: Method, scores: Scores, seed: int
) -> dict[str, dict[str, Any]] | None:
    """Compute this process's share of a method's missing scores; return all by sample key.

    Images that are there are scored again without the method. None while other processes have not
    finished.
    """
    # What the images depend on
    samples = {
        sample.key: sample
        for sample in benchmark.samples
        if method.covered is None or sample.key in method.covered
    }
    cache_key = {
        "benchmark": benchmark.checksum,
        "method": method.identity,
        "depth": method.perturbation,
        "depth_seed": None if method.perturbation == "given" else seed,
    }
    images = image_folder(output, method)
    if images is not None:
        check_settings(images, cache_key)

    def compute(key: str) -> dict[str, Any]:
        sample = samples[key]
        reference, target = benchmark.image(sample.reference), benchmark.image(sample.target)
        file = None if images is None else images / f"{key}.png"
        if file is not None and file.is_file():
            preds = read_image(file)[None]
        else:
            exact = benchmark.disparity(sample.scene)
            disparity = perturb(exact, method.perturbation, seed_of(key, seed))
            preds = quantize_8bit(method.predict(sample, reference, disparity))
            if file is not None:
                write_bytes(file, encode_png(preds[0]))
        return {"key": key, **scores.of(preds, reference, target, points_of(benchmark, sample))}

    # The scores depend on their networks too
    settings = cache_key | {"scores": dict(scores.facts)}
    rows_folder = output / "rows" / f"{file_name(method.name)}-{config_hash(settings)}"
    rows = compute_rows(rows_folder, list(samples), compute, settings)
    return None if rows is None else {row["key"]: row for row in rows}


def points_of(benchmark: Benchmark, sample: Sample) -> list[tuple[float, float]]:
    # Of a refocus image: where the refocus images of its scene are focused, in order
    if sample.task != "refocus":
        return []
    own = [each for each in benchmark.samples if each.scene == sample.scene]
    return [each.focus_point for each in own if each.task == "refocus"]


def image_folder(output: Path, method: Method) -> Path | None:
    # None: they lie elsewhere already
    return output / "pictures" / file_name(method.name) if method.stores_images else None


def file_name(name: str) -> str:
    # Characters that every file system takes
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.") or sha256_of(name.encode())[:8]


def facts_of(config: RefocusConfig, benchmark: Benchmark, scores: Scores) -> dict[str, Any]:
    sources = [scene.source for scene in benchmark.scenes]
    return {
        # Benchmark
        "benchmark": f"{config.benchmark.resolve().name}, sha256 {benchmark.checksum}",
        "scenes by source": {source: sources.count(source) for source in SOURCES},
        "samples": len(benchmark.samples),
        **{f"benchmark's {name}": value for name, value in benchmark.settings.items()},
        # Scores
        **dict(scores.facts),
        "LVCorr": "level_mean, and per scene level_per_scene; levels "
        f"{benchmark.bokeh_levels}, positive is good",
        "all": "mean over the ten samples of a scene, not over tasks",
        # Methods
        "depth": "mask 30 %, crop one random rectangle, noise sigma 1 clamped to [0, 1]",
        "seed": config.seed,
        "steps": config.steps or "each export's own",
        "versions": {name: version(name) for name in ("torch", "torchmetrics")},
    }
