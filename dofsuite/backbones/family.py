"""What refocusing must know of a kind of transformer, in one place: a backbone family.

Convention: latents are [b, c, h, w]; image tokens are [b, n, 4 c], one for each 2x2 patch of the
latent, row by row; the image stream is [noise | reference | depth], the text stream the camera
token (and the empty prompt's tokens after it).
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.backbones.codec import Codec, SpaceToDepthCodec

# `kontext`: reference and depth have the noise's rows and columns and differ in the first axis, by
# the numbers that the family's own editing model gives to its references (*inferred*); `shared`:
# all three have the same ids, as in OminiControl's aligned tasks.
PositionIds = Literal["kontext", "shared"]

# What reference and depth are to the network (*stated*: full attention among all tokens). `full`:
# tokens like the noise's, modulated by its flow time. `time_zero`: the same, but modulated as at
# flow time 0, because they are clean. `cached`: that, and they attend to one another alone, so that
# their keys and values are computed once an image, not once a step.
Conditions = Literal["full", "time_zero", "cached"]


@dataclass
class ConditionCache:
    """Keys and values of an image's conditions, which the first step of its sampling fills."""

    layers: Any = None


class BackboneModules(NamedTuple):
    """The parts of a base model that training needs; no text encoder."""

    transformer: Any
    codec: Codec
    # [pooled_projection_dim] pooled text vector of the empty prompt; [0] where a family has none.
    pooled_text: Tensor
    # [k, joint_attention_dim] the empty prompt's tokens, if the model is to see any.
    text_tokens: Tensor | None = None


class Backbone(ABC):
    """A light description of a base model's weights, of any family.

    It holds plain values and `load()` builds the weights. So a run's configuration is checked in
    seconds, and a checkpoint never holds a frozen network.
    """

    # Hub id and steps of a few-step model of the base, on which its adapters run too; None for none
    distilled: tuple[str, int] | None = None

    @abstractmethod
    def load(self) -> BackboneModules:
        """Build the networks on torch's current default device, frozen, in evaluation mode."""


def pack(latent: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
    """Pack 2x2 patches of latents into tokens, channels first within a token, as FLUX.1 and 2."""
    b, c, h, w = latent.shape
    patches = latent.reshape(b, c, h // 2, 2, w // 2, 2)
    patches = patches.permute(0, 2, 4, 1, 3, 5)  # [b, h / 2, w / 2, c, 2, 2]
    return patches.reshape(b, (h // 2) * (w // 2), c * 4)


def unpack(tokens: Float[Tensor, "b n d"], height: int, width: int) -> Float[Tensor, "b c h w"]:
    """Invert `pack` for latents of `height` by `width`."""
    b, _, d = tokens.shape
    patches = tokens.reshape(b, height // 2, width // 2, d // 4, 2, 2)
    patches = patches.permute(0, 3, 1, 4, 2, 5)  # [b, c, h / 2, 2, w / 2, 2]
    return patches.reshape(b, d // 4, height, width)


class Family(ABC):
    """One kind of transformer: its tokens, inputs, codec, adapter and schedule."""

    # Number of the first axis for noise, reference and depth, as the family's editing model has it.
    stream_numbers: tuple[int, int, int]
    # Columns of a position id: stream, row, column, and what a family has beside them.
    id_axes: int
    # The attention and MLP linears of every block, by full name.
    lora_targets: re.Pattern[str]
    # The loader of diffusers that reads and writes the family's adapters.
    lora_mixin: Any
    # The pipeline of diffusers that runs adapters trained with `cached` conditions, if there is one
    cached_pipeline: str | None = None

    @abstractmethod
    def text_ids(self, count: int, device: torch.device) -> Float[Tensor, "k axes"]:
        """Return the position ids of the text stream."""

    @abstractmethod
    def conditioning(
        self, transformer: Any, t: Tensor, pooled_text: Tensor, guidance_embed: float
    ) -> dict[str, Any]:
        """Return what the transformer takes beside tokens, ids and flow time [b]."""

    @abstractmethod
    def vae_codec(self, vae: Any) -> Codec:
        """Return the codec of the family's VAE."""

    @abstractmethod
    def share_low_precision_inputs(self, transformer: Any) -> None:
        """Let the linears that read one tensor keep one low-precision copy of it, under autocast.

        PEFT casts what a linear with an adapter gets to the adapter's float32, and autocast casts
        it down again, once for each of them. Here it is cast once, before: the same numbers bit for
        bit. Only for training under autocast: without it, a bfloat16 input would meet a float32
        adapter.
        """

    @abstractmethod
    def set_clean_conditions(self, transformer: Any, attend_to_all: bool) -> None:
        """Ready a transformer for conditions at flow time 0; after adapters are attached.

        Args:
            transformer: Calls of `predict_velocity` must have the same `conditions` from here on.
            attend_to_all: `time_zero`; otherwise `cached`.
        """

    @abstractmethod
    def predict_noise_tokens(
        self,
        transformer: Any,
        condition: Float[Tensor, "b m d"],
        noisy: Float[Tensor, "b n d"],
        ids: Float[Tensor, "m_n axes"],
        cache: ConditionCache | None,
        attend_to_all: bool,
        **inputs: Any,
    ) -> Float[Tensor, "b n d"]:
        """Predict the noise tokens' velocity with clean conditions.

        Args:
            transformer: As `set_clean_conditions` left it.
            condition: Tokens of reference and depth; unread where the cache is filled.
            noisy: Tokens of the noisy latent.
            ids: Position ids of both, in that order.
            cache: None: nothing is kept.
            attend_to_all: Whether the conditions see all tokens.
            inputs: What the transformer takes beside image tokens and their ids.
        """

    @abstractmethod
    def time_shift(self, num_tokens: int, num_steps: int) -> float:
        """Return the shift of flow times with which the family's own pipeline samples."""

    def set_conditions(self, transformer: Any, conditions: Conditions) -> None:
        """Ready a transformer for what reference and depth are to it."""
        if conditions != "full":
            self.set_clean_conditions(transformer, conditions == "time_zero")

    def codec(self, vae: Any) -> Codec:
        """Return the codec of a VAE; a codec that stands in its place is returned as it is."""
        return vae if isinstance(vae, SpaceToDepthCodec) else self.vae_codec(vae)

    def position_ids(
        self,
        height: int,
        width: int,
        scheme: PositionIds = "kontext",
        device: torch.device | None = None,
    ) -> Float[Tensor, "n axes"]:
        """Return the ids of noise, reference and depth tokens for latents of `height` by `width`.

        (stream, row, column), and zeros on the axes that a family has beside them.
        """
        rows, columns = torch.meshgrid(
            torch.arange(height // 2, device=device),
            torch.arange(width // 2, device=device),
            indexing="ij",
        )
        others = [torch.zeros_like(rows)] * (self.id_axes - 3)
        ids = []
        for stream in self.stream_numbers:
            axis = torch.full_like(rows, stream if scheme == "kontext" else 0)
            ids.append(torch.stack([axis, rows, columns, *others], dim=-1).flatten(0, 1))
        return torch.cat(ids).float()

    def predict_velocity(
        self,
        transformer: Any,
        noisy: Float[Tensor, "b c h w"],
        reference: Float[Tensor, "b c h w"],
        depth: Float[Tensor, "b c h w"],
        camera_token: Float[Tensor, "b k e"],
        t: Float[Tensor, "b"],
        pooled_text: Float[Tensor, "p"],
        guidance_embed: float = 1.0,
        scheme: PositionIds = "kontext",
        conditions: Conditions = "full",
        cache: ConditionCache | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict the velocity theta(z_t, t, I_r, D, c) in one forward pass.

        The camera token takes the place of the prompt embeddings: the text stream, which has its
        own weights in the double blocks (*inferred*: the paper says "concatenate all these
        tokens"). There are no text tokens: 512 empty ones would cost 16 % of FLUX.1's FLOPs at 512
        px.
        Paper: the timestep embedding is added to the noisy tokens. Here: the transformer's own
        modulation, because the pretrained weights expect it; the same for all tokens, or with
        clean `conditions` for noise and camera alone.
        """
        # Image tokens and their ids; what the transformer takes beside them
        _, _, h, w = noisy.shape
        noise_tokens, *others = (pack(latent) for latent in (noisy, reference, depth))
        ids, n = self.position_ids(h, w, scheme, noisy.device), (h // 2) * (w // 2)
        inputs = {
            "encoder_hidden_states": camera_token.to(transformer.dtype),
            "timestep": t.to(noisy.device),
            "txt_ids": self.text_ids(camera_token.shape[1], noisy.device),
            **self.conditioning(transformer, t, pooled_text, guidance_embed),
        }
        # Full attention, one flow time
        if conditions == "full":
            tokens = torch.cat([noise_tokens, *others], dim=1)  # [b, 3 n, 4 c]
            output = transformer(
                hidden_states=tokens.to(transformer.dtype),
                img_ids=ids,
                return_dict=False,
                **inputs,
            )[0]
            return unpack(output[:, :n].float(), h, w)  # of the noise's tokens alone
        # Clean conditions
        output = self.predict_noise_tokens(
            transformer,
            torch.cat(others, dim=1).to(transformer.dtype),
            noise_tokens.to(transformer.dtype),
            torch.cat([ids[n:], ids[:n]]),
            cache,
            conditions == "time_zero",
            **inputs,
        )
        return unpack(output.float(), h, w)
