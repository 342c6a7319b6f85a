"""The pictures of the text-to-image table: where they lie and how they are written and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dofsuite.backbones.pipeline_io import to_output_type
from dofsuite.files import write_atomic


def as_written(sweep: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Round display values to the 8 bits of a PNG, on the CPU."""
    return sweep.detach().float().cpu().clamp(0, 1).mul(255).round() / 255


def pictures_of(output: Path, stem: str, key: str = "") -> Path:
    """Return the folder of a method's pictures of a prompt, or of all prompts."""
    return output / "pictures" / stem / key.replace("/", "_")


def write_pictures(folder: Path, f_numbers: Sequence[float], sweep: Tensor) -> None:
    """Write a sweep [n, 3, h, w] as PNG files."""
    for number, image in zip(f_numbers, to_output_type(sweep, "pil"), strict=True):
        write_atomic(
            folder / f"f{number:g}.png", lambda file, image=image: image.save(file, format="PNG")
        )


def has_pictures(folder: Path, f_numbers: Sequence[float]) -> bool:
    """Whether a whole sweep is there."""
    return all((folder / f"f{number:g}.png").is_file() for number in f_numbers)


def read_pictures(folder: Path, f_numbers: Sequence[float]) -> Float[Tensor, "n 3 h w"]:
    """Read a sweep in [0, 1] as it was written."""
    return torch.stack([read_picture(folder, number) for number in f_numbers])


def read_picture(folder: Path, f_number: float) -> Tensor:
    """Read a picture [3, h, w] in [0, 1] of a sweep."""
    with Image.open(folder / f"f{f_number:g}.png") as image:
        values = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
        return values.reshape(image.height, image.width, 3).permute(2, 0, 1) / 255
