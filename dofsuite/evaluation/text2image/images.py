"""The images of the text-to-image table: where they lie, how they are written and read."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.files import write_bytes
from dofsuite.images import encode_png, read_image


def image_folder(output: Path, stem: str, key: str = "") -> Path:
    return output / "pictures" / stem / key.replace("/", "_")


def write_images(folder: Path, f_numbers: Sequence[float], sweep: Float[Tensor, "n 3 h w"]) -> None:
    for number, image in zip(f_numbers, sweep, strict=True):
        write_bytes(folder / f"f{number:g}.png", encode_png(image))


def has_images(folder: Path, f_numbers: Sequence[float]) -> bool:
    return all((folder / f"f{number:g}.png").is_file() for number in f_numbers)


def read_images(folder: Path, f_numbers: Sequence[float]) -> Float[Tensor, "n 3 h w"]:
    return torch.stack([read_image_at(folder, number) for number in f_numbers])


def read_image_at(folder: Path, f_number: float) -> Float[Tensor, "3 h w"]:
    return read_image(folder / f"f{f_number:g}.png")
