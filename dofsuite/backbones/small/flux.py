"""A small network of FLUX's class over an exactly invertible codec, for training on a laptop."""

from typing import Literal

import torch
from diffusers import FluxTransformer2DModel

from dofsuite.backbones.codec import SpaceToDepthCodec
from dofsuite.backbones.family import Backbone, BackboneModules
from dofsuite.backbones.hub import exported_part
from dofsuite.backbones.small.build import saved_folder, seeded
from dofsuite.backbones.small.flux_copy_init import start_copying
from dofsuite.backbones.small.flux_init import start_near_identity


class SmallFlux(Backbone):
    """A FLUX-shaped network that a laptop trains; its codec is invertible, without text encoder."""

    def __init__(
        self,
        weights: str | None = "packaged",
        heads: int = 6,
        double_blocks: int = 1,
        single_blocks: int = 4,
        downscale: int = 4,
        whitening: float = 0.6,
        seed: int = 0,
        start: Literal["near_identity", "copying"] = "near_identity",
    ) -> None:
        """Describe the network.

        Args:
            weights: `packaged`, the base that comes with dofsuite; a folder that a base run
                exported; or null, a new network of the values below.
            heads: Attention heads of 32 channels each.
            double_blocks: Blocks with separate weights for text and image tokens.
            single_blocks: Blocks with shared weights.
            downscale: Pixels per latent; a token is 2 x 2 latents, as in FLUX.
            whitening: How far the codec flattens the spectrum of photographs (0 not at all, 1
                fully; *ours*).
            seed: Of a new network's weights.
            start: How a new network begins (*ours*): `near_identity`, tokens that pass through
                (`flux_init`); `copying`, the reference copied exactly (`flux_copy_init`), for
                which the network must be wider than a token.
        """
        self.weights, self.start = weights, start
        self.seed = seed
        self.heads = heads
        self.double_blocks, self.single_blocks = double_blocks, single_blocks
        self.downscale, self.whitening = downscale, whitening

    def load(self) -> BackboneModules:
        """Build the network, or read it from the package or a folder.

        Raises:
            UserError: `weights` names a folder without a saved base, or it cannot be read.
        """
        if self.weights is None:
            codec = SpaceToDepthCodec(self.downscale, self.whitening)
            with seeded(self.seed):
                transformer = FluxTransformer2DModel(
                    in_channels=4 * codec.latent_channels,
                    num_layers=self.double_blocks,
                    num_single_layers=self.single_blocks,
                    attention_head_dim=32,
                    num_attention_heads=self.heads,
                    joint_attention_dim=64,
                    pooled_projection_dim=16,
                    axes_dims_rope=(8, 12, 12),
                )
                if self.start == "copying":
                    start_copying(transformer)
                else:
                    start_near_identity(transformer)
        else:
            # The packaged base, or one that a run exported.
            folder = saved_folder(self.weights, "flux", "transformer/config.json")
            transformer = exported_part(FluxTransformer2DModel, folder, "transformer")
            codec = exported_part(SpaceToDepthCodec, folder, "codec")
        pooled = torch.zeros(transformer.config.pooled_projection_dim)
        return BackboneModules(transformer.eval().requires_grad_(False), codec, pooled)
