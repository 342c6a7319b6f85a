"""A small generator that remembers its calls."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dofsuite.diffusion import scaled_linear_alphas_cumprod

ALPHAS = scaled_linear_alphas_cumprod()
SHAPE = (2, 5, 6)


class Recorder(nn.Module):
    """A small network that remembers every call."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(2, 2, 3, padding=1)
        self.calls: list[tuple[Tensor, int, Tensor]] = []

    def forward(self, noisy: Tensor, t: Tensor) -> Tensor:
        noise = torch.tanh(self.layer(noisy) + t[:, None, None, None] / 1000)
        self.calls.append((noisy.detach(), t.unique().item(), noise))
        return noise
