"""`run`: DiffCamera's tables on a refocus benchmark, for our runs and what they are compared with."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchmetrics

from dofsuite.baselines.deconvolution import Deconvolution
from dofsuite.data.manifest import sha256_of
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import config_hash
from dofsuite.evaluation.job import check_settings, compute_rows, seed_of
from dofsuite.evaluation.refocus.config import RefocusConfig
from dofsuite.evaluation.refocus.methods import Method, copy, folder, model, oracle
from dofsuite.evaluation.refocus.perturbation import perturbed
from dofsuite.evaluation.refocus.scores import Scores, load_scores
from dofsuite.evaluation.refocus.sheets import sheets
from dofsuite.evaluation.refocus.tables import MethodResults, tables
from dofsuite.evaluation.refocus.two_stage import deconvolution, two_stage
from dofsuite.evaluation.refocus_benchmark.format import (
    Benchmark,
    Sample,
    read_benchmark,
)
from dofsuite.evaluation.report import write_report
from dofsuite.files import write_bytes
from dofsuite.images import encode_png, quantize_8bit, read_image


def run(config: RefocusConfig) -> None:
    """Answer every sample with every method, score the answers, and write the report."""
    benchmark = read_benchmark(config.benchmark)
    methods = methods_of(config, benchmark)
    scores = load_scores(config.clip, config.lpips, config.clip_iqa)
    output = config.output or run_of(config.runs[0]) / "benchmark" / config.benchmark.resolve().name
    for method in methods:
        measure(output, benchmark, method, scores, config.seed)
    # every process now looks what the others have made since: the last one finds all of it
    found = [
        (method, measure(output, benchmark, method, scores, config.seed)) for method in methods
    ]
    answered = [
        MethodResults(method, made, place_of(output, method))
        for method, made in found
        if made is not None
    ]
    if len(answered) < len(methods):
        print(f"{output}: this process's samples are done; the last process writes the report.")
        return
    title = f"Refocus benchmark {config.benchmark.resolve().name}"
    made = tables(benchmark, answered, scores.notes)
    pictures = sheets(benchmark, answered, config.sheet_scenes)
    for file in write_report(output, title, made, pictures, facts_of(config, benchmark, scores)):
        print(file)


def methods_of(config: RefocusConfig, benchmark: Benchmark) -> list[Method]:
    """Return the methods asked for, each with every depth, after the two that are always there.

    Raises:
        UserError: One of them cannot be had, or two have one name.
    """
    seed, steps = config.seed, config.steps
    asked = [
        model(benchmark, path, name, seed, steps)._replace(run=whole_run(path))
        for path, name in named_runs(config.runs)
    ]
    asked += [two_stage(benchmark, path, seed, steps) for path in config.two_stage]
    asked += [deconvolution(benchmark, Deconvolution())] * config.deconvolution
    methods = [
        oracle(benchmark),
        copy(benchmark),
        *(folder_of(benchmark, text) for text in config.folders),
    ]
    methods += [
        method.with_depth(depth) for method in asked for depth in dict.fromkeys(config.depth)
    ]
    names = [method.name for method in methods]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"{twice}: two methods have this name; leave one out, or rename its folder."
        )
    return methods


def run_of(path: Path) -> Path:
    """Return the run that an export lies in, or the folder itself."""
    return path.parent if path.name == "export" else path


def whole_run(path: Path) -> Path:
    """Return where a run lies, however its path or its export's is spelt."""
    return run_of(Path(os.path.abspath(path))).resolve()


def named_runs(runs: Sequence[Path]) -> list[tuple[Path, str]]:
    """Return each run with its folder's name, and as many folders above it as tell it from the others."""
    wholes = [whole_run(path).parts for path in runs]
    named = []
    for path, own in zip(runs, wholes, strict=True):
        counts = (
            count
            for count in range(1, len(own))
            if sum(one[-count:] == own[-count:] for one in wholes) == 1
        )
        named.append((path, "/".join(own[-next(counts, 1) :])))
    return named


def folder_of(benchmark: Benchmark, text: str) -> Method:
    """Read `NAME=DIR`."""
    name, _, path = text.partition("=")
    return folder(benchmark, Path(path), name)


def measure(
    output: Path, benchmark: Benchmark, method: Method, scores: Scores, seed: int
) -> dict[str, dict[str, Any]] | None:
    """Answer and score this process's share of the samples that is not there yet; return all scores by key."""
    samples = {
        sample.key: sample
        for sample in benchmark.samples
        if method.covered is None or sample.key in method.covered
    }
    depth = {
        "depth": method.perturbation,
        "depth_seed": None if method.perturbation == "given" else seed,
    }
    cache_key = {"benchmark": benchmark.checksum, "method": method.identity, **depth}
    place = place_of(output, method)
    if place is not None:
        check_settings(place, cache_key)

    def make(key: str) -> dict[str, Any]:
        sample = samples[key]
        preds = quantize_8bit(answer(benchmark, method, sample, seed))
        if place is not None:
            write_bytes(place / f"{key}.png", encode_png(preds[0]))
        return {
            "key": key,
            **scores.of(
                preds, benchmark.picture(sample.reference), benchmark.picture(sample.target)
            ),
        }

    def make_or_score(key: str) -> dict[str, Any]:
        kept = place / f"{key}.png" if place is not None else None
        if kept is None or not kept.is_file():
            return make(key)
        sample = samples[key]
        pictures = (
            read_image(kept)[None],
            benchmark.picture(sample.reference),
            benchmark.picture(sample.target),
        )
        return {"key": key, **scores.of(*pictures)}

    settings = cache_key | {"scores": dict(scores.facts)}
    made = compute_rows(
        output / "rows" / f"{slug(method.name)}-{config_hash(settings)}",
        list(samples),
        make_or_score,
        settings,
    )
    return None if made is None else {row["key"]: row for row in made}


def answer(benchmark: Benchmark, method: Method, sample: Sample, seed: int) -> torch.Tensor:
    """Ask a method for one sample."""
    disparity = perturbed(
        benchmark.disparity(sample.scene), method.perturbation, seed_of(sample.key, seed)
    )
    return method.answer(sample, benchmark.picture(sample.reference), disparity)


def place_of(output: Path, method: Method) -> Path | None:
    """Return where a method's pictures are kept; None where they lie elsewhere already."""
    return output / "pictures" / slug(method.name) if method.is_ours else None


def slug(name: str) -> str:
    """Return a name as a folder's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.") or sha256_of(name.encode())[:8]


def facts_of(config: RefocusConfig, benchmark: Benchmark, scores: Scores) -> dict[str, Any]:
    """Return what the numbers depend on."""
    counts = {
        source: sum(scene.source == source for scene in benchmark.scenes)
        for source in ("camera", "phone", "ai")
    }
    return {
        "benchmark": f"{config.benchmark.resolve().name}, sha256 {benchmark.checksum}",
        "scenes by source": counts,
        "samples": len(benchmark.samples),
        **{f"benchmark's {name}": value for name, value in benchmark.settings.items()},
        **dict(scores.facts),
        "LVCorr": f"level_mean, and per scene level_per_scene; levels {benchmark.bokeh_levels}, positive is good",
        "all": "mean over the ten samples of a scene, not over tasks",
        "depth": "mask 30 %, crop one random rectangle, noise sigma 1 clamped to [0, 1]",
        "seed": config.seed,
        "steps": config.steps or "each export's own",
        "versions": {"torch": torch.__version__, "torchmetrics": torchmetrics.__version__},
    }
