"""The pictures of the text-to-image table: where they lie, how they are written and read, and where they are made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dofsuite.atomic import write_atomic
from dofsuite.evaluation.work import place
from dofsuite.text2image.scene import as_pictures


def as_written(sweep: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Round display values to the 8 bits of a PNG, on the CPU."""
    return sweep.detach().float().cpu().clamp(0, 1).mul(255).round() / 255


def pictures_of(output: Path, stem: str, key: str) -> Path:
    """Return the folder of a method's pictures of a prompt."""
    return output / "pictures" / stem / key.replace("/", "_")


def write_pictures(folder: Path, f_numbers: Sequence[float], sweep: Tensor) -> None:
    """Write a sweep [n, 3, h, w] as PNG files."""
    for number, image in zip(f_numbers, as_pictures(sweep, "pil"), strict=True):
        write_atomic(folder / f"f{number:g}.png", lambda file, image=image: image.save(file, format="PNG"))


def read_picture(folder: Path, f_number: float) -> Tensor:
    """Read a picture [3, h, w] in [0, 1] of a sweep."""
    with Image.open(folder / f"f{f_number:g}.png") as image:
        values = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
        return values.reshape(image.height, image.width, 3).permute(2, 0, 1) / 255


def device_here() -> torch.device:
    """Return this process's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or place()[0]
    return torch.device("cuda", int(local) % torch.cuda.device_count())
