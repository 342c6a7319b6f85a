"""CLIP's image embedding (arXiv 2103.00020), for `dofsuite.metrics.CLIPImageSimilarity`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, CLIPVisionModelWithProjection

from dofsuite.backbones.hub import from_pretrained
from dofsuite.backbones.perception.frozen import Frozen
from dofsuite.backbones.perception.image_processor import (
    Preparation,
    load_preparation,
    name_of_weights,
    whole,
)
from dofsuite.errors import UserError

KINDS = ("clip", "clip_vision_model")
"""Kinds of model folders that hold a CLIP image encoder."""


class ClipEmbedder(Frozen):
    """A frozen CLIP image encoder with its preparation: `dofsuite.metrics.ImageEmbedder`."""

    def __init__(self, network: nn.Module, preparation: Preparation, name: str) -> None:
        """Freeze a `CLIPVisionModelWithProjection`; `name` is what reports call it."""
        super().__init__(network)
        self.preparation, self.name = preparation, name

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Embed display values [n, 3, h, w] in [0, 1] of any size; float32 [n, d], not normalised.

        As stock CLIP sees a picture: 8 bit, its shorter side resized (openai: to 224), the middle
            square of it.
        """
        seen = self.preparation(images).to(self.dtype)
        return self.network(pixel_values=seen).image_embeds.float()


class ClipImages:
    """A light description of a CLIP image encoder.

    DiffCamera does not state its backbone; ViT-B/32 is what DreamBooth's CLIP-I mostly uses
    (*inferred*). Scores of two backbones cannot be compared.
    """

    def __init__(
        self,
        path: str = "openai/clip-vit-base-patch32",
        revision: str | None = None,
        dtype: Literal["bfloat16", "float32"] = "float32",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder that transformers loads.
            revision: Hub revision; null is the newest.
            dtype: Of the frozen weights.
        """
        self.path, self.revision, self.dtype = path, revision, dtype

    @property
    def name(self) -> str:
        """What reports call it."""
        return name_of_weights(self.path, self.revision)

    def load(self) -> ClipEmbedder:
        """Load the image encoder on the CPU; the text encoder is left out.

        Raises:
            UserError: It cannot be downloaded, is no CLIP, or not whole.
        """
        config = from_pretrained(AutoConfig, self.path, "", self.revision, None)
        if config.model_type not in KINDS:
            raise UserError(
                f"{self.path}: a model of the kind {config.model_type!r}, which is no CLIP; name a CLIP."
            )
        if (
            config.model_type == "clip"
        ):  # the size of the embedding is told for both encoders together
            config.vision_config.projection_dim = config.projection_dim
            config = config.vision_config
        dtype = getattr(torch, self.dtype)
        network = whole(
            CLIPVisionModelWithProjection, self.path, self.revision, dtype, config=config
        )
        return ClipEmbedder(network, load_preparation(self.path, self.revision), self.name)
