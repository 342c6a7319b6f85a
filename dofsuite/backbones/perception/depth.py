"""Depth from one picture: Depth Anything V2, its architecture with random weights, and a small stand-in.

Every `load()` gives a frozen `DepthModel`: weights without gradient, and a gradient for the
picture. Larger is farther; the unit is metres for the metric models, and "the depth model's scale"
for whoever reads a focus distance off it. Metric3D, the paper's, is in `metric3d.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForDepthEstimation,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
)

from dofsuite.backbones.hub import from_pretrained
from dofsuite.backbones.perception.frozen import DensePrediction, in_seed
from dofsuite.errors import UserError

PACKAGED = Path(__file__).parents[1] / "small" / "weights"
"""Holds depth/ and saliency/; experiments/stand_in_depth.yaml and stand_in_saliency.yaml trained them."""

NEAREST_M = 1e-3
"""Lower bound of every depth."""


class DepthModel(Protocol):
    """What the works ask of a depth model, which is an `nn.Module`."""

    def __call__(self, image: Tensor) -> Tensor:
        """Display values [b, 3, h, w] in [0, 1] to depth [b, 1, h, w] > 0, larger is farther."""


class Depth(ABC):
    """A light description of a depth model."""

    @abstractmethod
    def load(self) -> DensePrediction:
        """Build the network on the CPU (or on torch's current default device), frozen, in evaluation mode."""


class DepthAnything(Depth):
    """A metric Depth Anything V2 (arXiv 2406.09414) through transformers.

    Paper: Metric3Dv2. Here: this, because it comes with transformers and downloads freely. The
    default is the small indoor model, since of Depth Anything V2 the small one alone is under
    Apache-2.0 (base and large: CC-BY-NC-4.0).
    """

    def __init__(
        self,
        path: str = "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf",
        revision: str | None = None,
        size_px: int | None = 518,
        dtype: Literal["bfloat16", "float32"] = "float32",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder that transformers loads; Metric-Indoor answers up to 20 m,
                Metric-Outdoor 80 m.
            revision: Hub revision; null is the newest.
            size_px: Side at which the model sees a picture (*stated* by the model: 518); null is
                the picture's own.
            dtype: Of the frozen weights.
        """
        self.path, self.revision, self.size_px, self.dtype = path, revision, size_px, dtype

    def load(self) -> DensePrediction:
        """Load the model.

        Raises:
            UserError: It cannot be downloaded, or it answers with relative depth (inverse, without
                a unit).
        """
        dtype = getattr(torch, self.dtype)
        network = from_pretrained(AutoModelForDepthEstimation, self.path, "", self.revision, dtype)
        if getattr(network.config, "depth_estimation_type", "") != "metric":
            raise UserError(
                f"{self.path}: path: no metric depth model; choose one of the Depth-Anything-V2-Metric."
            )
        return DensePrediction(network, self.size_px, NEAREST_M)


ENCODERS = {
    "small": (384, 6, 12, (3, 6, 9, 12), (48, 96, 192, 384), 64),
    "base": (768, 12, 12, (3, 6, 9, 12), (96, 192, 384, 768), 128),
    "large": (1024, 16, 24, (5, 12, 18, 24), (256, 512, 1024, 1024), 256),
}
"""Depth Anything V2's three sizes: width, heads, layers, layers that are read, widths of the neck, of the fusion."""


def depth_anything_config(size: Literal["small", "base", "large"]) -> DepthAnythingConfig:
    """Return a metric Depth Anything V2 (indoor, 20 m) as transformers' configuration."""
    width, heads, layers, read, neck, fusion = ENCODERS[size]
    encoder = Dinov2Config(
        image_size=518,
        patch_size=14,
        hidden_size=width,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        out_indices=list(read),
        reshape_hidden_states=False,
    )
    return DepthAnythingConfig(
        backbone_config=encoder,
        reassemble_hidden_size=width,
        neck_hidden_sizes=list(neck),
        fusion_hidden_size=fusion,
        depth_estimation_type="metric",
        max_depth=20,
    )


class RandomDepth(Depth):
    """Depth Anything V2's architecture with random weights: for counting and timing, never for use."""

    def __init__(
        self,
        size: Literal["small", "base", "large"] = "small",
        size_px: int | None = 518,
        dtype: Literal["bfloat16", "float32"] = "float32",
    ) -> None:
        """Choose the encoder, the side at which it sees a picture, and the dtype of the weights."""
        self.size, self.size_px, self.dtype = size, size_px, dtype

    def load(self) -> DensePrediction:
        """Build it on torch's current default device (also `meta`)."""
        network = DepthAnythingForDepthEstimation(depth_anything_config(self.size))
        return DensePrediction(network.to(getattr(torch, self.dtype)), self.size_px, NEAREST_M)


def small_config(patch_px: int, width: int, layers: int, largest: int) -> DepthAnythingConfig:
    """Return a Depth Anything for pictures of 64 px, whose answer lies between 0 and `largest`."""
    encoder = Dinov2Config(
        image_size=64,
        patch_size=patch_px,
        hidden_size=width,
        num_attention_heads=width // 32,
        num_hidden_layers=layers,
        mlp_ratio=2,
        out_indices=[round(layers * quarter / 4) for quarter in (1, 2, 3, 4)],
        reshape_hidden_states=False,
    )
    return DepthAnythingConfig(
        backbone_config=encoder,
        patch_size=patch_px,
        reassemble_hidden_size=width,
        # Twice as coarse as Depth Anything's own factors: a fifth of the time.
        reassemble_factors=[2, 1, 0.5, 0.25],
        neck_hidden_sizes=[width // 4, width // 3, width // 2, width],
        fusion_hidden_size=width // 3,
        head_hidden_size=width // 6,
        depth_estimation_type="metric",
        max_depth=largest,
    )


def small_network(
    weights: str | None, packaged: str, config: DepthAnythingConfig, seed: int
) -> DepthAnythingForDepthEstimation:
    """Build a small network, or read it from the package (`packaged` in this folder) or an exported folder.

    Raises:
        UserError: `weights` names a folder without a saved network.
    """
    if weights is None:
        return in_seed(seed, lambda: DepthAnythingForDepthEstimation(config))
    folder = PACKAGED / packaged if weights == "packaged" else Path(weights)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder}: weights: holds no stand-in ({name} is missing); train one first."
            )
    # Not from_pretrained, whose progress bars would run through every command that uses a stand-in.
    network = DepthAnythingForDepthEstimation(DepthAnythingConfig.from_pretrained(folder))
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network


def save_small(network: nn.Module, folder: Path) -> None:
    """Write a small network in 16 bit, as transformers' from_pretrained reads it too."""
    network.config.architectures = [type(network).__name__]
    network.config.save_pretrained(folder)
    weights = {
        name: value.detach().half().contiguous() for name, value in network.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


class SmallDepth(Depth):
    """A Depth Anything of 0.7 M weights for pictures of 64 px: a stand-in of the same class, in metres."""

    def __init__(
        self,
        weights: str | None = "packaged",
        patch_px: int = 8,
        width: int = 96,
        layers: int = 4,
        farthest_m: int = 12,
        seed: int = 0,
    ) -> None:
        """Describe the network.

        Args:
            weights: `packaged`, the one that comes with dofsuite; a folder that a run of
                experiments/stand_in_depth.yaml exported; or null, a new network of the values
                below.
            patch_px: Pixels of a patch.
            width: Channels of the encoder, a multiple of 96 (three heads of 32).
            layers: Of the encoder, at least 4.
            farthest_m: Largest depth that it can answer with.
            seed: Of a new network's weights.
        """
        self.weights, self.patch_px, self.width, self.layers = weights, patch_px, width, layers
        self.farthest_m, self.seed = farthest_m, seed

    def load(self) -> DensePrediction:
        """Build the network, or read it.

        Raises:
            UserError: `weights` names a folder without a saved network.
        """
        config = small_config(self.patch_px, self.width, self.layers, self.farthest_m)
        return DensePrediction(
            small_network(self.weights, "depth", config, self.seed), None, NEAREST_M
        )
