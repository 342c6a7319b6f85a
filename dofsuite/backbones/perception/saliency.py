"""What a picture is about: BiRefNet, and a small stand-in. Every `load()` gives a frozen `SaliencyModel`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Protocol

import torch
from torch import Tensor
from transformers import AutoModelForImageSegmentation

from dofsuite.backbones.hub import from_pretrained
from dofsuite.backbones.perception.depth import small_config, small_network
from dofsuite.backbones.perception.frozen import DensePrediction, Frozen, normalise, resized


class SaliencyModel(Protocol):
    """What the works ask of a saliency model, which is an `nn.Module`."""

    def __call__(self, image: Tensor) -> Tensor:
        """Display values [b, 3, h, w] in [0, 1] to saliency [b, 1, h, w] in [0, 1]."""


class Saliency(ABC):
    """A light description of a saliency model."""

    @abstractmethod
    def load(self) -> Frozen:
        """Build the network on the CPU (or on torch's current default device), frozen, in evaluation mode."""


class BiRefNetSaliency(Frozen):
    """BiRefNet between resizing and resizing back."""

    def __init__(self, network: torch.nn.Module, size_px: int) -> None:
        super().__init__(network)
        self.size_px = size_px

    def forward(self, image: Tensor) -> Tensor:
        """Answer for display values [b, 3, h, w] with float32 saliency [b, 1, h, w] in [0, 1]."""
        seen = normalise(resized(image, (self.size_px, self.size_px), "bilinear"))
        logits = self.network(seen.to(self.dtype))[-1].float()
        return resized(logits.sigmoid(), (image.shape[-2], image.shape[-1]), "bilinear")


class BiRefNet(Saliency):
    """BiRefNet (arXiv 2401.03407; MIT), through transformers with the code that lies beside its weights.

    Paper: the saliency target's network is not given. Here: BiRefNet, because it is maintained,
    free to use and the strongest of its kind that the hub loads; transformers 5 has no saliency
    model of its own. As its code runs here, the revision is pinned, and an older one fails under
    transformers 5. It needs torchvision, timm, kornia and einops.
    """

    def __init__(
        self,
        path: str = "ZhengPeng7/BiRefNet",
        revision: str | None = "e2bf8e4460fc8fa32bba5ea4d94b3233d367b0e4",
        size_px: int = 1024,
        dtype: Literal["bfloat16", "float32"] = "float32",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder.
            revision: Hub revision of code and weights; null for a folder.
            size_px: Side of the square in which the model sees a picture (*stated* by the model:
                1024).
            dtype: Of the frozen weights.
        """
        self.path, self.revision, self.size_px, self.dtype = path, revision, size_px, dtype

    def load(self) -> BiRefNetSaliency:
        """Load code and weights.

        Raises:
            UserError: They cannot be downloaded, or a package that they need is missing.
        """
        dtype = getattr(torch, self.dtype)
        network = from_pretrained(
            AutoModelForImageSegmentation,
            self.path,
            "",
            self.revision,
            dtype,
            trust_remote_code=True,
        )
        return BiRefNetSaliency(network, self.size_px)


class SmallSaliency(Saliency):
    """The small network of `SmallDepth` with an answer between 0 and 1: a stand-in for pictures of 64 px."""

    def __init__(
        self,
        weights: str | None = "packaged",
        patch_px: int = 8,
        width: int = 96,
        layers: int = 4,
        seed: int = 0,
    ) -> None:
        """Describe the network.

        Args:
            weights: `packaged`, the one that comes with dofsuite; a folder that a run of
                experiments/stand_in_saliency.yaml exported; or null, a new network of the values
                below.
            patch_px: Pixels of a patch.
            width: Channels of the encoder, a multiple of 96.
            layers: Of the encoder, at least 4.
            seed: Of a new network's weights.
        """
        self.weights, self.patch_px, self.width, self.layers, self.seed = (
            weights,
            patch_px,
            width,
            layers,
            seed,
        )

    def load(self) -> DensePrediction:
        """Build the network, or read it.

        Raises:
            UserError: `weights` names a folder without a saved network.
        """
        config = small_config(self.patch_px, self.width, self.layers, largest=1)
        return DensePrediction(
            small_network(self.weights, "saliency", config, self.seed), None, 0.0
        )
