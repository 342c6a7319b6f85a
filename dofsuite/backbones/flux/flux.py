"""FLUX.1's published weights: transformer, VAE, and the empty prompt's embeddings."""

from typing import Literal

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor

from dofsuite.backbones.codec import VaeCodec
from dofsuite.backbones.family import Backbone, BackboneModules
from dofsuite.backbones.hub import HubWeights, from_pretrained, pretrained_tokenizer


class PretrainedFlux(HubWeights, Backbone):
    """FLUX weights from the hub or a local diffusers folder."""

    def __init__(
        self,
        path: str = "black-forest-labs/FLUX.1-dev",
        revision: str | None = None,
        dtype: Literal["bfloat16", "float32"] = "bfloat16",
        empty_prompt_tokens: int = 0,
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder in diffusers layout.
            revision: Hub revision; null is the newest.
            dtype: Of the frozen weights; adapters are float32 in either case.
            empty_prompt_tokens: Tokens of the empty prompt beside the camera token, from T5 (9.5 GB
                more to download); FLUX was trained with 512. Paper: the tokens of "the camera" and
                the images are named, no text's. Here: 0, which saves a sixth of the FLOPs at 512 px
                (*inferred*).
        """
        super().__init__(path, revision, dtype)
        if empty_prompt_tokens < 0:
            raise ValueError(f"empty_prompt_tokens: 0 or more, not {empty_prompt_tokens}")
        self.empty_prompt_tokens = empty_prompt_tokens

    def load(self) -> BackboneModules:
        """Load transformer and VAE, and encode the empty prompt (CLIP-L takes a second).

        Raises:
            UserError: The license was not accepted, the hub cannot be reached, or the folder lacks
                a part.
        """
        transformer = from_pretrained(
            FluxTransformer2DModel, self.path, "transformer", self.revision, self.torch_dtype
        )
        vae = from_pretrained(AutoencoderKL, self.path, "vae", self.revision, self.torch_dtype)
        pooled = self._pooled_empty_prompt()
        text_tokens = self._empty_prompt() if self.empty_prompt_tokens else None
        transformer.eval().requires_grad_(False)
        return BackboneModules(transformer, VaeCodec(vae), pooled, text_tokens)

    # Return CLIP's pooled vector of the empty prompt, as FluxPipeline computes it.
    def _pooled_empty_prompt(self) -> Tensor:
        from transformers import CLIPTextModel, CLIPTokenizer

        tokenizer = pretrained_tokenizer(CLIPTokenizer, self.path, "tokenizer", self.revision)
        encoder = from_pretrained(
            CLIPTextModel, self.path, "text_encoder", self.revision, torch.float32
        )
        tokens = tokenizer(
            "", padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            return encoder(tokens).pooler_output[0]

    # Return T5's tokens of the empty prompt, as FluxPipeline computes them.
    def _empty_prompt(self) -> Tensor:
        from transformers import T5EncoderModel, T5Tokenizer

        tokenizer = pretrained_tokenizer(T5Tokenizer, self.path, "tokenizer_2", self.revision)
        encoder = from_pretrained(
            T5EncoderModel, self.path, "text_encoder_2", self.revision, self.torch_dtype
        )
        count = self.empty_prompt_tokens
        tokens = tokenizer(
            "", padding="max_length", max_length=count, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            return encoder(tokens)[0][0].float()


# The paper's base (*stated*).
REFERENCE_BACKBONE = PretrainedFlux()
