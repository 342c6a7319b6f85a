"""CLIP's image embedding (arXiv 2103.00020), for `dofsuite.metrics.CLIPImageSimilarity`."""

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, CLIPVisionModelWithProjection

from dofsuite.backbones.hub import HubWeights, from_pretrained, load_complete
from dofsuite.backbones.perception.frozen import Frozen
from dofsuite.backbones.perception.image_processor import ImageProcessor, load_image_processor
from dofsuite.errors import UserError


class ClipEmbedder(Frozen):
    """A frozen CLIP image encoder with its preprocessing: a `dofsuite.metrics.ImageEmbedder`."""

    def __init__(self, network: nn.Module, process: ImageProcessor, name: str) -> None:
        """Freeze a `CLIPVisionModelWithProjection`; `name` is its name in reports."""
        super().__init__(network)
        self.process, self.name = process, name

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Embed display values [n, 3, h, w] in [0, 1] of any size; float32 [n, d], not normalized.

        Preprocessing is stock CLIP's: 8 bit, the shorter side resized (openai: to 224), the center
        square cut out.
        """
        pixels = self.process(images).to(self.dtype)
        return self.network(pixel_values=pixels).image_embeds.float()


class ClipImages(HubWeights):
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
        super().__init__(path, revision, dtype)

    def load(self) -> ClipEmbedder:
        """Load the image encoder on the CPU; the text encoder is left out.

        Raises:
            UserError: It cannot be downloaded, is no CLIP, or lacks weights.
        """
        config = from_pretrained(AutoConfig, self.path, "", self.revision, None)
        if config.model_type not in ("clip", "clip_vision_model"):
            raise UserError(
                f"{self.path}: a model of the type {config.model_type!r}, which is no CLIP; name a "
                "CLIP."
            )
        # The embedding's size stands in the configuration of both encoders.
        if config.model_type == "clip":
            config.vision_config.projection_dim = config.projection_dim
            config = config.vision_config
        network = load_complete(
            CLIPVisionModelWithProjection,
            self.path,
            self.revision,
            self.torch_dtype,
            config=config,
        )
        return ClipEmbedder(network, load_image_processor(self.path, self.revision), self.name)
