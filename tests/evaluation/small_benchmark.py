"""A benchmark of the synthetic validation scenes as PNGs with depth, and a CLIP as small as it can
be.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from dofsuite.data.shards import ShardReader
from dofsuite.data.synthetic.sets import prepare
from dofsuite.evaluate import main
from tests.refocus.tiny import tiny_module

ROOT = Path(__file__).parents[2]
SOURCES = ("camera", "phone", "ai")
SMALL = ("--size", "32", "--gamma", "2.2", "--layers", "21", "--reference-width", "256")


def write_scenes(folder: Path, count: int = 3) -> Path:
    """Images of 128 px with 16-bit disparities beside them, by source in turn."""
    reader = ShardReader(prepare("synthetic:val"))
    for number in range(count):
        sample, source = reader.read(number), folder / SOURCES[number % 3]
        source.mkdir(parents=True, exist_ok=True)
        for extension in ("png", "depth.png"):
            (source / f"{sample.key}.{extension}").write_bytes(sample.members[extension])
    return folder


def build(scenes: Path, folder: Path, *words: str) -> Path:
    assert main(["build-benchmark", str(scenes), "-o", str(folder), *SMALL, *words]) == 0
    return folder


def evaluate(benchmark: Path, output: Path, *words: str, clip: str = "none") -> int:
    """Without a page a scene, which takes as long as the rest."""
    words = ("run", *words, "--benchmark", str(benchmark), "--no-scene-pages")
    return main([*words, "-o", str(output), "--clip", clip])


def start_process(words: list[str], rank: int, world_size: int) -> subprocess.Popen[bytes]:
    """A process of its own, one of several."""
    env = os.environ | {"RANK": str(rank), "WORLD_SIZE": str(world_size), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "dofsuite.evaluate", *words], cwd=ROOT, env=env)


def tiny_clip(folder: Path) -> Path:
    """A CLIP of random weights, saved as transformers saves one."""
    shape = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = {"vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1, **shape}
    vision = {"image_size": 32, "patch_size": 8, **shape}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    ).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def tiny_run(folder: Path) -> Path:
    """An untrained run that works at 32 px."""
    module = tiny_module()
    module.trained_size_px = 32
    module.export(folder / "export")
    return folder
