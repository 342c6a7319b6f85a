"""Latents as FLUX tokens: [camera | noise | reference | depth] (DiffCamera, sec. 3.2 and Fig. 2).

Convention: latents are [b, c, h, w]; image tokens are [b, n, 4 c], one for each 2x2 patch of the
latent, row by row; position ids are [n, 3] as in FLUX: (stream, row, column).
"""

from typing import Literal

import torch
from diffusers import FluxTransformer2DModel
from jaxtyping import Float
from torch import Tensor

from dofsuite.errors import UserError

# `kontext`: reference and depth have the noise's rows and columns and differ in the first axis, 1
# and 2, as FLUX Kontext's reference does (*inferred*); `shared`: all three have the same ids, as in
# OminiControl's aligned tasks.
PositionIds = Literal["kontext", "shared"]


def check_token_grid(height: int, width: int, downscale: int) -> None:
    """Check that images divide into tokens of 2 x `downscale` pixels.

    Raises:
        UserError: A side is not a multiple of a token's.
    """
    token_px = 2 * downscale
    if height % token_px or width % token_px:
        nearest = max(token_px, round(min(height, width) / token_px) * token_px)
        raise UserError(
            f"data.size_px: images of {width}x{height} px do not divide into tokens of {token_px} "
            f"px; set a multiple of {token_px}, such as {nearest}."
        )


def pack(latent: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
    """Pack 2x2 patches of latents into tokens, channels first within a token, as FluxPipeline."""
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


def position_ids(
    height: int,
    width: int,
    scheme: PositionIds = "kontext",
    device: torch.device | None = None,
) -> Float[Tensor, "n 3"]:
    """Return the ids of noise, reference and depth tokens for latents of `height` by `width`."""
    rows, columns = torch.meshgrid(
        torch.arange(height // 2, device=device),
        torch.arange(width // 2, device=device),
        indexing="ij",
    )
    ids = []
    for stream in range(3):
        axis = torch.full_like(rows, stream if scheme == "kontext" else 0)
        ids.append(torch.stack([axis, rows, columns], dim=-1).reshape(-1, 3))
    return torch.cat(ids).float()


def predict_velocity(
    transformer: FluxTransformer2DModel,
    noisy: Float[Tensor, "b c h w"],
    reference: Float[Tensor, "b c h w"],
    depth: Float[Tensor, "b c h w"],
    camera_token: Float[Tensor, "b k e"],
    t: Float[Tensor, "b"],
    pooled_text: Float[Tensor, "p"],
    guidance_embed: float = 1.0,
    scheme: PositionIds = "kontext",
) -> Float[Tensor, "b c h w"]:
    """Predict the velocity theta(z_t, t, I_r, D, c) in one forward pass with full attention.

    The camera token takes the place of FLUX's prompt embeddings, with position id 0: the text
    stream, which has its own weights in the double blocks (*inferred*: the paper says "concatenate
    all these tokens"). There are no text tokens: 512 empty ones would cost 16 % of the FLOPs at
    512 px.
    Paper: the timestep embedding is added to the noisy tokens. Here: FLUX's own modulation, the
    same for all tokens, because the pretrained weights expect it.
    """
    b, _, h, w = noisy.shape
    tokens = torch.cat([pack(noisy), pack(reference), pack(depth)], dim=1)  # [b, 3 n, 4 c]
    output = transformer(
        hidden_states=tokens.to(transformer.dtype),
        encoder_hidden_states=camera_token.to(transformer.dtype),
        pooled_projections=pooled_text.to(transformer.dtype).expand(b, -1),
        timestep=t.to(noisy.device),
        # FLUX.1-dev is guidance-distilled
        guidance=torch.full_like(t, guidance_embed) if transformer.config.guidance_embeds else None,
        img_ids=position_ids(h, w, scheme, noisy.device),
        txt_ids=torch.zeros(camera_token.shape[1], 3, device=noisy.device),
        return_dict=False,
    )[0]
    return unpack(output[:, : (h // 2) * (w // 2)].float(), h, w)  # of the noise's tokens alone
