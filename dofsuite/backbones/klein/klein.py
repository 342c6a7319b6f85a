"""FLUX.2 klein's published weights: transformer and VAE; no text encoder is needed."""

from typing import Literal

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

from dofsuite.backbones.family import Backbone, BackboneModules
from dofsuite.backbones.hub import HubWeights, from_pretrained
from dofsuite.backbones.klein.codec import Flux2VaeCodec


class PretrainedKlein(HubWeights, Backbone):
    """FLUX.2 klein from the hub or a local diffusers folder (the 4B models are Apache-2.0)."""

    distilled = ("black-forest-labs/FLUX.2-klein-4B", 4)

    def __init__(
        self,
        path: str = "black-forest-labs/FLUX.2-klein-base-4B",
        revision: str | None = None,
        dtype: Literal["bfloat16", "float32"] = "bfloat16",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder in diffusers layout. Train on a `base` model; the adapter also
                runs on the distilled one (`--distilled`; *ours*: its quality is not measured).
            revision: Hub revision; null is the newest.
            dtype: Of the frozen weights; adapters are float32 in either case.
        """
        super().__init__(path, revision, dtype)

    def load(self) -> BackboneModules:
        """Load transformer and VAE.

        Raises:
            UserError: The hub cannot be reached, or the folder lacks a part.
        """
        transformer = from_pretrained(
            Flux2Transformer2DModel, self.path, "transformer", self.revision, self.torch_dtype
        )
        vae = from_pretrained(AutoencoderKLFlux2, self.path, "vae", self.revision, self.torch_dtype)
        transformer.eval().requires_grad_(False)
        return BackboneModules(transformer, Flux2VaeCodec(vae), torch.zeros(0))
