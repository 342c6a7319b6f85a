"""The shipped methods of the text-to-image table with tiny networks in place of SDXL and of the
trained runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from dofsuite.backbones import SmallDepth
from dofsuite.backbones.sdxl.adapters import DepthControl, UnetLora
from dofsuite.baselines.camera_tokens.module import CameraTokensModule
from tests.text2image.tiny import SIZES, TINY_SDXL
from tests.text2image.tiny_run import SIZE_PX, tiny_module, untrained_depth

ROOT = Path(__file__).parents[3]
BASELINES = sorted((ROOT / "experiments" / "baselines").glob("*.yaml"))
SMALL_SDXL = {
    "class_path": "dofsuite.backbones.SmallSdxl",
    "init_args": {**SIZES, "channels": [32, 32]},
}
SAMPLING = {"steps": 4, "size_px": SIZE_PX, "batch_size": 3}


def make_runs(folder: Path) -> dict[str, Path]:
    """Export a tiny network for every run that the shipped methods name; untrained, but with a
    camera that matters.
    """
    depth = untrained_depth(folder / "depth")
    modules: dict[str, Any] = {
        "text2image_full": tiny_module(depth),
        "text2image_deep": tiny_module(depth),
        "text2image_exif": tiny_module(depth, lens=None, exif_conditioned=("generator", "teacher")),
    }
    for network in (
        modules["text2image_exif"].networks.generator,
        modules["text2image_exif"].networks.teacher,
    ):
        torch.manual_seed(0)
        torch.nn.init.normal_(network.time_embedding.exif.last.weight, std=0.5)
    for name, control in (
        ("camera_tokens_sdxl", None),
        ("camera_tokens_depth_sdxl", DepthControl()),
    ):
        modules[name] = tiny_tokens(control, depth)
    for name, module in modules.items():
        module.export(folder / name)
    return {"depth": folder / "depth", **{name: folder / name for name in modules}}


def tiny_tokens(control: DepthControl | None, depth: SmallDepth) -> CameraTokensModule:
    module = CameraTokensModule(
        TINY_SDXL,
        lora=UnetLora(rank=2),
        control=control,
        depth=depth,
        token_size=3.0,
        size_px=SIZE_PX,
    )
    module.configure_model()
    if control is not None:
        with torch.no_grad():
            for block in [
                *module.controlnet.controlnet_down_blocks,
                module.controlnet.controlnet_mid_block,
            ]:
                torch.nn.init.normal_(block.weight, std=0.1)
    return module


def tiny_method(file: Path, runs: dict[str, Path], folder: Path) -> Path:
    """Write the tiny twin of a shipped method: other networks, sizes and steps, and nothing
    else.
    """
    content = yaml.safe_load(file.read_text())
    arguments = content["generator"]["init_args"]
    if "model" in arguments:
        arguments["model"] = str(runs[Path(arguments["model"]).name])
    else:
        arguments |= {"backbone": SMALL_SDXL, **SAMPLING}
    if "steps" in arguments:
        arguments |= SAMPLING
    if "lens" in content:
        weights = {"weights": str(runs["depth"])}
        content["lens"]["depth"] = {
            "class_path": "dofsuite.backbones.SmallDepth",
            "init_args": weights,
        }
        content["lens"]["saliency"] = {"class_path": "dofsuite.backbones.SmallSaliency"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file.name).write_text(yaml.safe_dump(content))
    return folder / file.name


def command(methods: list[Path], prompts: Path, output: Path) -> list[str]:
    """The words after `evaluate`: three apertures at 200 mm, whose discs are pixels wide at 32
    px.
    """
    return [
        "text2image",
        *map(str, methods),
        *[
            "--prompts",
            str(prompts),
            "-o",
            str(output),
            "--f-numbers",
            "1.8",
            "4",
            "11",
            "--focal-length",
            "200",
        ],
        *["--segmenter", "colors", "--clip", "none"],
    ]


def start(words: list[str], rank: int = 0, processes: int = 1) -> subprocess.Popen[str]:
    """Begin an evaluation in a process of its own."""
    place = {"RANK": str(rank), "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "dofsuite.evaluate", *words],
        cwd=ROOT,
        env={**os.environ, **place},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
