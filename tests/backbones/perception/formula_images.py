"""Images from a formula, so that another program's values of them can be kept as numbers."""

import torch


def formula_images(size: int = 64) -> torch.Tensor:
    """Four images [4, 3, size, size] in [0, 1]: color waves that get finer."""
    rows, columns = torch.meshgrid(
        torch.arange(size, dtype=torch.float64),
        torch.arange(size, dtype=torch.float64),
        indexing="ij",
    )
    images = [
        torch.stack(
            [
                0.5
                + 0.45
                * torch.sin(0.07 * k * (rows + c * columns) + k * c)
                * torch.cos(0.11 * k * columns)
                for c in range(3)
            ]
        )
        for k in range(1, 5)
    ]
    return torch.stack(images).float()
