"""Latents as FLUX tokens: [camera | noise | reference | depth] (DiffCamera, sec. 3.2 and Fig. 2).

Convention: latents are [b, c, h, w]; image tokens are [b, n, 4 c], one for every two-by-two square
of latents, row by row; position ids are [n, 3] as FLUX has them: (stream, row, column).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.errors import UserError

PositionIds = Literal["kontext", "shared"]
"""`kontext`: reference and depth share the noise's rows and columns and differ in the first axis, 1 and 2, as FLUX
Kontext's reference does (*inferred*); `shared`: all three carry the same ids, as OminiControl's
aligned tasks do."""


def check_token_grid(height: int, width: int, downscale: int) -> None:
    """Refuse pictures that do not divide into tokens, two latents of `downscale` pixels square.

    Raises:
        UserError: A side is no multiple of a token's.
    """
    token_px = 2 * downscale
    if height % token_px or width % token_px:
        nearest = max(token_px, round(min(height, width) / token_px) * token_px)
        raise UserError(
            f"data.size_px: pictures of {width}x{height} px do not divide into tokens of {token_px} px; "
            f"set a multiple of {token_px}, such as {nearest}."
        )


def pack(latent: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
    """Gather two-by-two squares of latents into tokens, channels first within a token, as FluxPipeline packs them."""
    b, c, h, w = latent.shape
    squares = latent.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(b, (h // 2) * (w // 2), c * 4)


def unpack(tokens: Float[Tensor, "b n d"], height: int, width: int) -> Float[Tensor, "b c h w"]:
    """Undo `pack` for latents of `height` by `width`."""
    b, _, d = tokens.shape
    squares = tokens.reshape(b, height // 2, width // 2, d // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(b, d // 4, height, width)


def position_ids(height: int, width: int, scheme: PositionIds = "kontext") -> Float[Tensor, "n 3"]:
    """Return the ids of noise, reference and depth tokens for latents of `height` by `width`."""
    rows, columns = torch.meshgrid(
        torch.arange(height // 2), torch.arange(width // 2), indexing="ij"
    )
    streams = [torch.full_like(rows, stream if scheme == "kontext" else 0) for stream in range(3)]
    ids = [torch.stack([stream, rows, columns], dim=-1).reshape(-1, 3) for stream in streams]
    return torch.cat(ids).float()


def predict_velocity(
    transformer: torch.nn.Module,
    noisy: Float[Tensor, "b c h w"],
    reference: Float[Tensor, "b c h w"],
    depth: Float[Tensor, "b c h w"],
    camera_token: Float[Tensor, "b k e"],
    t: Float[Tensor, "b"],
    pooled_text: Float[Tensor, "p"],
    guidance: float = 1.0,
    scheme: PositionIds = "kontext",
) -> Float[Tensor, "b c h w"]:
    """Run the transformer once, with full attention, and return the noise tokens' velocity, theta(z_t, t, I_r, D, c).

    The camera token stands where FLUX has its prompt embeddings, with position id 0: the stream
    that has weights of its own in the double blocks and that stock diffusers calls `prompt_embeds`
    (*inferred*: the paper says "concatenate all these tokens"). No text tokens are used: 512 empty
    ones would cost 16 % of the FLOPs at 512 px.
    Paper: the timestep embedding is added to the noisy tokens. Here: FLUX's own modulation, the
    same for all tokens, because it is what the pretrained weights know.
    """
    b, _, h, w = noisy.shape
    tokens = torch.cat([pack(noisy), pack(reference), pack(depth)], dim=1)
    output = transformer(
        hidden_states=tokens.to(transformer.dtype),
        encoder_hidden_states=camera_token.to(transformer.dtype),
        pooled_projections=pooled_text.to(transformer.dtype).expand(b, -1),
        timestep=t.to(noisy.device),
        guidance=torch.full_like(t, guidance) if transformer.config.guidance_embeds else None,
        img_ids=position_ids(h, w, scheme).to(noisy.device),
        txt_ids=torch.zeros(camera_token.shape[1], 3, device=noisy.device),
        return_dict=False,
    )[0]
    return unpack(output[:, : (h // 2) * (w // 2)].float(), h, w)
