"""Raw calls of an SDXL UNet: its added conditions, a guided pair in one batch, mid-block features.

Convention: `unet` is a diffusers `UNet2DConditionModel` with SDXL's added conditions (text_time);
noisy latents are [b, c, h, w], t is [b] in [0, 999]. What comes out is what the UNet was trained to
predict, eps or v, in the dtype that it computes in. Under autocast or FSDP2 the caller does nothing
special; a UNet with bfloat16 weights is given bfloat16.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dofsuite.backbones.sdxl.prompt_encoder import PromptEmbeds
from dofsuite.diffusion import to_device


def time_ids(noisy: Float[Tensor, "b c h w"], downscale: int) -> Int[Tensor, "b 6"]:
    """Return SDXL's size condition in pixels: the full image, never cropped (DMD2: 1024 px).

    (height, width, 0, 0, height, width), integers, so that no mixed precision rounds them; the
    UNet embeds them in float32.
    """
    height, width = (side * downscale for side in noisy.shape[-2:])
    sizes = to_device(torch.tensor([height, width, 0, 0, height, width]), noisy.device)
    return sizes.expand(len(noisy), 6)


def predict(
    unet: Any,
    noisy: Float[Tensor, "b c h w"],
    t: Int[Tensor, "b"],
    prompt: PromptEmbeds,
    exif: Float[Tensor, "b n"] | None = None,
    downscale: int = 8,
) -> Float[Tensor, "b c h w"]:
    """theta(x_t, t, prompt[, exif]), one forward.

    Args:
        unet: The UNet.
        noisy: Noisy latents.
        t: Timesteps.
        prompt: Prompt embeddings.
        exif: Camera settings, for a UNet that takes them as `timestep_cond`.
        downscale: Pixels per latent pixel of the codec; 8 for SDXL's.
    """
    return _forward(unet, noisy, t, prompt, exif, downscale)


def predict_unconditional_and_conditional(
    unet: Any,
    noisy: Float[Tensor, "b c h w"],
    t: Int[Tensor, "b"],
    prompt: PromptEmbeds,
    exif: Float[Tensor, "b n"] | None = None,
    downscale: int = 8,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Return both predictions of classifier-free guidance from one forward of 2 b samples.

    Unconditional means zeros for tokens and pooled embedding (SDXL's convention); exif stays in
    both halves. Arguments as `predict`.
    """
    rows = [torch.cat([torch.zeros_like(embeds), embeds]) for embeds in prompt]
    exif = None if exif is None else torch.cat([exif, exif])
    noisy, t = torch.cat([noisy, noisy]), torch.cat([t, t])
    unconditional, conditional = predict(
        unet, noisy, t, PromptEmbeds(*rows), exif, downscale
    ).chunk(2)
    return unconditional, conditional


def predict_with_features(
    unet: Any,
    noisy: Float[Tensor, "b c h w"],
    t: Int[Tensor, "b"],
    prompt: PromptEmbeds,
    exif: Float[Tensor, "b n"] | None = None,
    downscale: int = 8,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b channels side_h side_w"]]:
    """Return prediction and mid-block output of the same forward; arguments as `predict`."""
    outputs: list[Tensor] = []
    hook = unet.mid_block.register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        prediction = predict(unet, noisy, t, prompt, exif, downscale)
    finally:
        hook.remove()
    return prediction, outputs[0]


def without_up_blocks(unet: nn.Module) -> nn.Module:
    """Return a view of the UNet that ends after the mid-block, and shares the rest and hooks."""
    # Not copy.copy: of an FSDP2 module that runs the constructor with its default sizes.
    view = object.__new__(type(unet))
    view.__dict__.update(unet.__dict__)
    # In-place compilation is bound to the full UNet.
    view.__dict__.pop("_compiled_call_impl", None)
    ending = {"up_blocks": nn.ModuleList(), "conv_norm_out": None, "conv_out": nn.Identity()}
    view.__dict__["_modules"] = {**unet._modules, **ending}
    return view


def features(
    unet: Any,
    noisy: Float[Tensor, "b c h w"],
    t: Int[Tensor, "b"],
    prompt: PromptEmbeds,
    exif: Float[Tensor, "b n"] | None = None,
    downscale: int = 8,
) -> Float[Tensor, "b channels side_h side_w"]:
    """Return the mid-block's output, without the up-blocks (43 % of an SDXL forward)."""
    return _forward(without_up_blocks(unet), noisy, t, prompt, exif, downscale)


# Not `predict`, whose annotated result has the latents' shape.
def _forward(
    unet: Any,
    noisy: Tensor,
    t: Tensor,
    prompt: PromptEmbeds,
    exif: Tensor | None,
    downscale: int,
) -> Tensor:
    dtype = unet.conv_in.weight.dtype
    added = {"text_embeds": prompt.pooled.to(dtype), "time_ids": time_ids(noisy, downscale)}
    return unet(
        noisy.to(dtype),
        t,
        encoder_hidden_states=prompt.tokens.to(dtype),
        timestep_cond=exif,
        added_cond_kwargs=added,
        return_dict=False,
    )[0]
