"""Real photographs with disparity for tests, read as BokehMe's demo reads them; they lie outside
the project.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


def shared_data() -> Path:
    """The folder beside the project, or a skip that says so."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is not here: no real photograph with disparity to render")
    return SHARED_DATA


def read_image(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """An 8-bit image as [1, 3, h, w] in [0, 1]; `size` is (width, height), by Lanczos."""
    image = Image.open(path).convert("RGB")
    image = image if size is None else image.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def read_disparity(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """High byte of a 16-bit map or an 8-bit map, min-max to [0, 1], then resized bilinearly: [1, 1,
    h, w].
    """
    image = Image.open(path)
    values = np.array(image.convert("L") if image.mode == "RGB" else image).astype(np.int64)
    values = values // 256 if values.max() > 255 else values
    disparity = (values - values.min()) / (values.max() - values.min())
    image = Image.fromarray(disparity.astype(np.float32))
    image = image if size is None else image.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image))[None, None]


def photo_21(size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """BokehMe's photograph 21 (1080 x 1350) and its disparity, display values."""
    folder = shared_data() / "bokehme"
    return read_image(folder / "21_image.jpg", size), read_disparity(
        folder / "21_disparity.png", size
    )


def photo_11(size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """MPIB's photograph 11 (2000 x 1333) and its disparity, display values."""
    folder = shared_data() / "mpib"
    return read_image(folder / "11_image.jpg", size), read_disparity(
        folder / "11_disparity.jpg", size
    )


def psnr_db(preds: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio of images in [0, 1]; 200 dB stands for equal ones."""
    error = (preds.double() - target.double()).square().mean().item()
    return -10 * math.log10(error) if error > 1e-20 else 200.0
