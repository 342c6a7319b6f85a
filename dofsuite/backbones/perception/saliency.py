"""Saliency, whether a pixel belongs to the main subject: BiRefNet.

Every `load()` gives a frozen `SaliencyModel`.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

import torch
from torch import Tensor
from transformers import AutoModelForImageSegmentation

from dofsuite.backbones.hub import HubWeights, from_pretrained
from dofsuite.backbones.perception.frozen import Frozen, normalize, resized
from dofsuite.backbones.perception.remote_code import MayRunRemoteCode, check_own_code


class SaliencyModel(Protocol):
    """Interface of a saliency model, which is an `nn.Module`."""

    def __call__(self, image: Tensor) -> Tensor:
        """Display values [b, 3, h, w] in [0, 1] to saliency [b, 1, h, w] in [0, 1]."""


class Saliency(MayRunRemoteCode, ABC):
    """A light description of a saliency model."""

    @abstractmethod
    def load(self) -> Frozen:
        """Build the network on torch's current default device, frozen, in evaluation mode."""


class BiRefNetSaliency(Frozen):
    def __init__(self, network: torch.nn.Module, size_px: int) -> None:
        super().__init__(network)
        self.size_px = size_px

    def forward(self, image: Tensor) -> Tensor:
        """Predict float32 saliency [b, 1, h, w] in [0, 1] for display values [b, 3, h, w]."""
        pixels = normalize(resized(image, (self.size_px, self.size_px), "bilinear"))
        logits = self.network(pixels.to(self.dtype))[-1].float()
        return resized(logits.sigmoid(), (image.shape[-2], image.shape[-1]), "bilinear")


class BiRefNet(HubWeights, Saliency):
    """BiRefNet (arXiv 2401.03407; MIT), through transformers with the code of its repository.

    Paper: the saliency target's network is not given. Here: BiRefNet, because it is maintained,
    free to use and the strongest of its kind that the hub loads; transformers 5 has no saliency
    model of its own. As its code runs here, the revision is pinned and the user has to trust it;
    an older one fails under transformers 5. It needs torchvision, timm, kornia and einops:
    `dofsuite[saliency]`.
    """

    packages = MappingProxyType(
        {"torchvision": "torchvision", "timm": "timm", "kornia": "kornia", "einops": "einops"}
    )
    extra = "saliency"

    def __init__(
        self,
        path: str = "ZhengPeng7/BiRefNet",
        revision: str | None = "e2bf8e4460fc8fa32bba5ea4d94b3233d367b0e4",
        size_px: int = 1024,
        dtype: Literal["bfloat16", "float32"] = "float32",
        trust_remote_code: bool = False,
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder.
            revision: Commit on the hub of code and weights; null for a folder.
            size_px: Side of the network's square input (*stated* by the model: 1024).
            dtype: Of the frozen weights.
            trust_remote_code: Run the code that lies with the weights (*ours*: not unless said).
        """
        super().__init__(path, revision, dtype)
        self.size_px, self.trust_remote_code = size_px, trust_remote_code

    def code_place(self) -> tuple[str, str | None]:
        return self.path, self.revision

    def load(self) -> BiRefNetSaliency:
        """Load code and weights.

        Raises:
            UserError: The code is not trusted, they cannot be downloaded, or a package that they
                need is missing.
        """
        self.check_trusted()
        check_own_code(Path(self.path))
        network = from_pretrained(
            AutoModelForImageSegmentation,
            self.path,
            "",
            self.revision,
            self.torch_dtype,
            trust_remote_code=True,
            code_revision=self.revision,
        )
        return BiRefNetSaliency(network, self.size_px)
