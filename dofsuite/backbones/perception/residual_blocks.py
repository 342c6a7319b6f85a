"""Plain residual blocks, without normalization, that begin as the identity."""

from torch import Tensor, nn
from torch.nn.functional import relu


def start_at_zero(convolution: nn.Conv2d) -> None:
    for weight in convolution.parameters():
        nn.init.zeros_(weight)


class ResidualBlock(nn.Module):
    """x + conv3(relu(conv3(x))); the second convolution starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        start_at_zero(self.second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(relu(self.first(x)))


def residual_blocks(count: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
