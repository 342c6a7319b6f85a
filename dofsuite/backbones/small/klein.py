"""A small network of FLUX.2 klein's class over an exactly invertible codec, for tests."""

import torch
from diffusers import Flux2Transformer2DModel

from dofsuite.backbones.codec import SpaceToDepthCodec
from dofsuite.backbones.family import Backbone, BackboneModules
from dofsuite.backbones.small.build import seeded


class SmallKlein(Backbone):
    """A klein-shaped network with random weights; nothing has been pretrained at this size."""

    def __init__(
        self,
        heads: int = 2,
        double_blocks: int = 1,
        single_blocks: int = 2,
        downscale: int = 2,
        whitening: float = 0.6,
        seed: int = 0,
    ) -> None:
        """Describe the network.

        Args:
            heads: Attention heads of 32 channels each.
            double_blocks: Blocks with separate weights for text and image tokens.
            single_blocks: Blocks with shared weights.
            downscale: Pixels per latent; a token is 2 x 2 latents.
            whitening: How far the codec flattens the spectrum of photographs (*ours*).
            seed: Of the weights.
        """
        self.heads, self.seed = heads, seed
        self.double_blocks, self.single_blocks = double_blocks, single_blocks
        self.downscale, self.whitening = downscale, whitening

    def load(self) -> BackboneModules:
        """Build the network from its seed."""
        codec = SpaceToDepthCodec(self.downscale, self.whitening)
        with seeded(self.seed):
            transformer = Flux2Transformer2DModel(
                in_channels=4 * codec.latent_channels,
                num_layers=self.double_blocks,
                num_single_layers=self.single_blocks,
                attention_head_dim=32,
                num_attention_heads=self.heads,
                joint_attention_dim=64,
                timestep_guidance_channels=32,
                axes_dims_rope=(8, 8, 8, 8),
                guidance_embeds=False,
            )
        return BackboneModules(transformer.eval().requires_grad_(False), codec, torch.zeros(0))
