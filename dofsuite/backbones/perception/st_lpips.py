"""ST-LPIPS, the shift-tolerant perceptual distance of two images (Ghildyal and Liu, 2207.13686).

Weights: AlexNet's variant as the package `stlpips-pytorch` 0.0.2 (BSD-2) carries it; the network
is written here after the paper and the weights' names, without torchvision.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dofsuite.backbones.perception.frozen import Frozen
from dofsuite.backbones.perception.packaged_weights import packaged_weights

# Of values in [-1, 1]: LPIPS's scaling layer.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# Each convolution's input and output channels, kernel and padding.
CONVOLUTIONS = (
    (3, 64, 11, 2),
    (64, 192, 5, 2),
    (192, 384, 3, 1),
    (384, 256, 3, 1),
    (256, 256, 3, 1),
)
# Names of the convolutions in the package's file.
STORED = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
# Below it nothing is left for the last convolution.
SMALLEST_PX = 32


class ShiftTolerantAlexNet(nn.Module):
    """AlexNet without strides: a blur by [1, 2, 1] goes before every second pixel is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, padding=padding)
            for inputs, outputs, kernel, padding in CONVOLUTIONS
        )
        # How much a difference of each channel counts, one vector for each convolution.
        self.importance = nn.ParameterList(torch.zeros(channels[1]) for channels in CONVOLUTIONS)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features after each convolution of images [n, 3, h, w] in [-1, 1], each of length 1."""
        shift, scale = (image.new_tensor(each)[:, None, None] for each in (SHIFT, SCALE))
        hidden, features = (image - shift) / scale, []
        for index, convolution in enumerate(self.convolutions):
            if index in (1, 2):
                hidden = halved(functional.max_pool2d(hidden, 3, stride=1))
            hidden = convolution(hidden)
            hidden = functional.relu(halved(hidden) if index == 0 else hidden)
            length = hidden.square().sum(dim=1, keepdim=True).sqrt()
            features.append(hidden / (length + 1e-10))
        return features


def halved(hidden: Tensor) -> Tensor:
    """Blurred by [1, 2, 1] in both directions, two pixels mirrored around, every second kept."""
    line = hidden.new_tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(line, line).expand(hidden.shape[1], 1, 3, 3)
    padded = functional.pad(hidden, (2, 2, 2, 2), mode="reflect")
    return functional.conv2d(padded, kernel, stride=2, groups=hidden.shape[1])


class StLpipsDistance(Frozen):
    """The frozen network: two batches of images -> one distance a pair; 0 for equal images."""

    name = "ST-LPIPS (alex)"

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Distances [n], float32, of display values [n, 3, h, w] in [0, 1].

            d = sum over layers of the mean over pixels of w . (f(preds) - f(target))^2

        Raises:
            ValueError: The shapes differ or a side is below 32 px.
        """
        if preds.shape != target.shape or preds.ndim != 4 or min(preds.shape[-2:]) < SMALLEST_PX:
            raise ValueError(
                f"{self.name} takes two equal shapes [n, 3, h, w] of at least {SMALLEST_PX} px, "
                f"not {list(preds.shape)[:5]} and {list(target.shape)[:5]}."
            )
        # In the scale of LPIPS, then layer by layer
        features = [self.network(image.to(self.dtype) * 2 - 1) for image in (preds, target)]
        distance = torch.zeros(len(preds), dtype=self.dtype, device=preds.device)
        for pred, true, weight in zip(*features, self.network.importance, strict=True):
            difference = torch.einsum("nchw,c->nhw", (pred - true).square(), weight)
            distance = distance + difference.mean(dim=(1, 2))
        return distance.float()


def load_st_lpips() -> StLpipsDistance:
    """Load ST-LPIPS from the installed package `stlpips-pytorch`, on the CPU.

    Raises:
        UserError: The package is not installed.
    """
    path = "weights/vST0.0/alex_shift_tolerant.pth"
    stored = packaged_weights("stlpips_pytorch", path, "ST-LPIPS")
    # The package's names -> ours
    state = {}
    for index, name in enumerate(STORED):
        for part in ("weight", "bias"):
            state[f"convolutions.{index}.{part}"] = stored[f"net.{name}.{part}"]
        state[f"importance.{index}"] = stored[f"lin{index}.model.1.weight"].flatten()
    network = ShiftTolerantAlexNet()
    network.load_state_dict(state)
    return StLpipsDistance(network)
