"""`run`: DiffCamera's tables on a refocus benchmark, for our runs and what they are compared with."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchmetrics

from dofsuite.baselines.deconvolution import Deconvolution
from dofsuite.cli import Parser
from dofsuite.data.manifest import sha256_of
from dofsuite.errors import UserError
from dofsuite.evaluation.job import check_settings, config_hash, rows, seed_of
from dofsuite.evaluation.refocus.methods import Method, copy, folder, model, oracle
from dofsuite.evaluation.refocus.perturbation import PERTURBATIONS, perturbed
from dofsuite.evaluation.refocus.scores import Scores, load_scores
from dofsuite.evaluation.refocus.sheets import sheets
from dofsuite.evaluation.refocus.tables import MethodResults, tables
from dofsuite.evaluation.refocus.two_stage import deconvolution, two_stage
from dofsuite.evaluation.refocus_benchmark.format import (
    Benchmark,
    Sample,
    in_8_bit,
    picture_bytes,
    read_benchmark,
    read_picture,
)
from dofsuite.evaluation.report import write_report
from dofsuite.files import write_bytes

DESCRIPTION = "Measure runs on a refocus benchmark, beside the renderer, the reference unchanged and the paper's numbers."


def configure(parser: Parser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("runs", type=Path, nargs="*", metavar="RUN", help="runs or exports of ours")
    add("--benchmark", type=Path, required=True, metavar="DIR", help="what build-benchmark wrote")
    add(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="default: RUN/benchmark/NAME, of the first run",
    )
    add(
        "--folder",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="pictures made elsewhere: DIR/SCENE/SAMPLE.png",
    )
    add(
        "--two-stage",
        action="append",
        default=[],
        type=Path,
        metavar="NETWORK",
        help="deblur by a run, .pt2 or folder; render",
    )
    add("--deconvolution", action="store_true", help="after Bando and Nishita 2007")
    add(
        "--depth",
        nargs="+",
        choices=PERTURBATIONS,
        default=["given"],
        help="what is done to the depth (Table 6)",
    )
    add("--steps", type=int, help="Euler steps; default: the export's")
    add("--seed", type=int, default=0, help="of noise and perturbations")
    add(
        "--clip",
        default="openai/clip-vit-base-patch32",
        metavar="PATH_OR_ID",
        help="of CLIP-I; none leaves it empty",
    )
    add(
        "--lpips",
        choices=("alex", "vgg", "squeeze", "none"),
        default="alex",
        help="its network (not stated)",
    )
    add("--clip-iqa", choices=("clip_iqa", "none"), default="clip_iqa", help="its model")
    add("--sheet-scenes", type=int, default=4, help="scenes with pictures in the report")


def run(arguments: argparse.Namespace) -> None:
    """Answer every sample with every method, score the answers, and write the report."""
    if arguments.steps is not None and arguments.steps < 1:
        raise UserError(f"--steps: {arguments.steps} is no number of steps; it must be 1 or above.")
    if not arguments.runs and arguments.output is None:
        raise UserError(
            "--output: without a run there is no default place for the report; give -o DIR."
        )
    benchmark = read_benchmark(arguments.benchmark)
    methods = methods_of(arguments, benchmark)
    scores = load_scores(arguments.clip, arguments.lpips, arguments.clip_iqa)
    output = (
        arguments.output
        or run_of(arguments.runs[0]) / "benchmark" / arguments.benchmark.resolve().name
    )
    for method in methods:
        measure(output, benchmark, method, scores, arguments.seed)
    # every process now looks what the others have made since: the last one finds all of it
    found = [
        (method, measure(output, benchmark, method, scores, arguments.seed)) for method in methods
    ]
    answered = [
        MethodResults(method, made, place_of(output, method))
        for method, made in found
        if made is not None
    ]
    if len(answered) < len(methods):
        print(f"{output}: this process's samples are done; the last process writes the report.")
        return
    title = f"Refocus benchmark {arguments.benchmark.resolve().name}"
    made = tables(benchmark, answered, scores.notes)
    pictures = sheets(benchmark, answered, arguments.sheet_scenes)
    for file in write_report(output, title, made, pictures, facts_of(arguments, benchmark, scores)):
        print(file)


def methods_of(arguments: argparse.Namespace, benchmark: Benchmark) -> list[Method]:
    """Return the methods asked for, each with every depth, after the two that are always there.

    Raises:
        UserError: One of them cannot be had, or two have one name.
    """
    seed, steps = arguments.seed, arguments.steps
    asked = [
        model(benchmark, path, name, seed, steps)._replace(run=whole_run(path))
        for path, name in named_runs(arguments.runs)
    ]
    asked += [two_stage(benchmark, path, seed, steps) for path in arguments.two_stage]
    asked += [deconvolution(benchmark, Deconvolution())] * arguments.deconvolution
    methods = [
        oracle(benchmark),
        copy(benchmark),
        *(folder_of(benchmark, text) for text in arguments.folder),
    ]
    methods += [
        method.with_depth(depth) for method in asked for depth in dict.fromkeys(arguments.depth)
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
    if not (name and path):
        raise UserError(
            f"--folder: {text!r} is not NAME=DIR; give the method's name and its pictures' folder."
        )
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
        preds = in_8_bit(answer(benchmark, method, sample, seed))
        if place is not None:
            write_bytes(place / f"{key}.png", picture_bytes(preds))
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
            read_picture(kept),
            benchmark.picture(sample.reference),
            benchmark.picture(sample.target),
        )
        return {"key": key, **scores.of(*pictures)}

    settings = cache_key | {"scores": dict(scores.facts)}
    made = rows(
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


def facts_of(arguments: argparse.Namespace, benchmark: Benchmark, scores: Scores) -> dict[str, Any]:
    """Return what the numbers depend on."""
    counts = {
        source: sum(scene.source == source for scene in benchmark.scenes)
        for source in ("camera", "phone", "ai")
    }
    return {
        "benchmark": f"{arguments.benchmark.resolve().name}, sha256 {benchmark.checksum}",
        "scenes by source": counts,
        "samples": len(benchmark.samples),
        **{f"benchmark's {name}": value for name, value in benchmark.settings.items()},
        **dict(scores.facts),
        "LVCorr": f"level_mean, and per scene level_per_scene; levels {benchmark.bokeh_levels}, positive is good",
        "all": "mean over the ten samples of a scene, not over tasks",
        "depth": "mask 30 %, crop one random rectangle, noise sigma 1 clamped to [0, 1]",
        "seed": arguments.seed,
        "steps": arguments.steps or "each export's own",
        "versions": {"torch": torch.__version__, "torchmetrics": torchmetrics.__version__},
    }
