"""Calls of an SDXL UNet as generator, real score and fake score: predictions and mid-block features.

Convention: `unet` is a diffusers `UNet2DConditionModel` with SDXL's added conditions (text_time);
noisy latents are [b, c, h, w], t is [b] in [0, 999]; predictions are what the UNet was trained to
make, noise or v, in the dtype that it computes in. Under autocast or FSDP2 the caller does nothing
special; a UNet with bfloat16 weights is fed bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dofsuite.text2image.dmd2.losses import guide


@runtime_checkable
class Prompt(Protocol):
    """What is asked of an encoded prompt; `dofsuite.backbones.small.word_encoder.PromptEmbeds` has it."""

    @property
    def tokens(self) -> Tensor:
        """[b, n, d] of both text encoders."""

    @property
    def pooled(self) -> Tensor:
        """[b, p] of the second."""


class PredictionAndFeatures(NamedTuple):
    """Two outputs of one forward."""

    prediction: Tensor
    """[b, c, h, w]."""
    features: Tensor
    """[b, channels, side, side] of the mid-block."""


@contextmanager
def no_gradient() -> Iterator[None]:
    """Run without gradient, in the precision of what surrounds it, and leave no cast weight behind.

    Autocast keeps the bfloat16 copy of a weight that it first makes, until its context ends. Before
    pytorch #165068 (December 2025) a copy made without gradient stayed without one: the graded
    forward after it in the same step trained nothing (pytorch #65766, #158232), and DMD2 therefore
    runs its simulation in float32 (facts/text2image.md B.7). Since then the copy is right, but it
    still outlives a change of its weight, and fills memory. So the copies are dropped here.
    """
    try:
        with torch.no_grad():
            yield
    finally:
        torch.clear_autocast_cache()


def time_ids(noisy: Float[Tensor, "b c h w"], downscale: int) -> Int[Tensor, "b 6"]:
    """Return SDXL's (height, width, 0, 0, height, width) in pixels: the whole image, never cropped (DMD2: 1024 px).

    Integers, so that no mixed precision rounds them; the UNet embeds them in float32.
    """
    height, width = (side * downscale for side in noisy.shape[-2:])
    return torch.tensor([height, width, 0, 0, height, width], device=noisy.device).expand(
        len(noisy), 6
    )


def as_condition(exif: Tensor | tuple[Tensor, ...] | None) -> Tensor | None:
    """Return the UNet's `timestep_cond` [b, n]: a tensor as it is, the fields of an `Exif` side by side."""
    return torch.stack(exif, dim=1) if isinstance(exif, tuple) else exif


def _call(
    unet: nn.Module,
    noisy: Tensor,
    t: Tensor,
    prompt: Prompt,
    condition: Tensor | None,
    downscale: int,
) -> Tensor:
    """Call a UNet, or a view of it, with SDXL's conditions, in the dtype of its weights."""
    dtype = unet.conv_in.weight.dtype
    return unet(
        noisy.to(dtype),
        t,
        encoder_hidden_states=prompt.tokens.to(dtype),
        timestep_cond=condition,
        added_cond_kwargs={
            "text_embeds": prompt.pooled.to(dtype),
            "time_ids": time_ids(noisy, downscale),
        },
        return_dict=False,
    )[0]


def predict(
    unet: nn.Module,
    noisy: Float[Tensor, "b c h w"],
    t: Int[Tensor, "b"],
    prompt: Prompt,
    exif: Tensor | tuple[Tensor, ...] | None = None,
    downscale: int = 8,
) -> Float[Tensor, "b c h w"]:
    """eps(x_t, t, prompt), one forward.

    Args:
        unet: Any of the three networks.
        noisy: Noised latents.
        t: Time steps.
        prompt: Encoded prompts.
        exif: Camera settings for a UNet that takes them as `timestep_cond` [b, n], or an `Exif` of
            [b] tensors.
        downscale: Pixels per latent pixel of the codec; 8 for SDXL's.
    """
    return _call(unet, noisy, t, prompt, as_condition(exif), downscale)


class _Rows(NamedTuple):
    """An encoded prompt of twice the rows."""

    tokens: Tensor
    pooled: Tensor


def predict_guided(
    unet: nn.Module,
    noisy: Float[Tensor, "b c h w"],
    t: Int[Tensor, "b"],
    prompt: Prompt,
    guidance: float = 8.0,
    exif: Tensor | tuple[Tensor, ...] | None = None,
    downscale: int = 8,
) -> Float[Tensor, "b c h w"]:
    """eps_u + w (eps_c - eps_u) in float32, both from one call of twice the rows; w = 8 (*stated*), 1 needs no eps_u.

    Without a prompt means zeros for tokens and pooled embedding (SDXL's convention); exif stays in
    both halves.
    """
    if guidance == 1:
        return predict(unet, noisy, t, prompt, exif, downscale).float()
    rows = _Rows(
        *(
            torch.cat([torch.zeros_like(embeds), embeds])
            for embeds in (prompt.tokens, prompt.pooled)
        )
    )
    condition = as_condition(exif)
    condition = None if condition is None else torch.cat([condition, condition])
    both = predict(unet, torch.cat([noisy, noisy]), torch.cat([t, t]), rows, condition, downscale)
    return guide(*both.chunk(2), guidance)


def predict_with_features(
    unet: nn.Module,
    noisy: Float[Tensor, "b c h w"],
    t: Int[Tensor, "b"],
    prompt: Prompt,
    exif: Tensor | tuple[Tensor, ...] | None = None,
    downscale: int = 8,
) -> PredictionAndFeatures:
    """Return the prediction and the mid-block's output from the same forward; arguments as `predict`."""
    seen: list[Tensor] = []
    handle = unet.mid_block.register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        prediction = predict(unet, noisy, t, prompt, exif, downscale)
    finally:
        handle.remove()
    return PredictionAndFeatures(prediction, seen[0])


def without_up_blocks(unet: nn.Module) -> nn.Module:
    """Return a view of the UNet that ends after the mid-block and shares everything else, hooks included."""
    # Not copy.copy: of an FSDP2 module that runs the constructor with its default sizes.
    view = object.__new__(type(unet))
    view.__dict__.update(unet.__dict__)
    # In-place compilation is bound to the whole UNet.
    view.__dict__.pop("_compiled_call_impl", None)
    ending = {"up_blocks": nn.ModuleList(), "conv_norm_out": None, "conv_out": nn.Identity()}
    view.__dict__["_modules"] = {**unet._modules, **ending}
    return view


def features(
    unet: nn.Module,
    noisy: Float[Tensor, "b c h w"],
    t: Int[Tensor, "b"],
    prompt: Prompt,
    exif: Tensor | tuple[Tensor, ...] | None = None,
    downscale: int = 8,
) -> Float[Tensor, "b channels side_h side_w"]:
    """Return the mid-block's output without computing the up-blocks: 43 % of an SDXL forward; as `predict`."""
    return _call(without_up_blocks(unet), noisy, t, prompt, as_condition(exif), downscale)
