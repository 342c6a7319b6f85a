"""Inference of a refocus model, the same for validation, pipeline and evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.backbones import (
    Codec,
    ConditionCache,
    Conditions,
    Family,
    PositionIds,
    family_of,
)
from dofsuite.errors import UserError
from dofsuite.refocus.camera_embedder import CameraEmbedder

# (step, latent after it) -> latent to continue with.
AfterStep = Callable[[int, Tensor], Tensor]


@torch.no_grad()
def euler(
    velocity: Callable[[Tensor, Tensor], Tensor],
    noise: Float[Tensor, "b c h w"],
    times: Float[Tensor, "steps"],
    after_step: AfterStep | None = None,
) -> Float[Tensor, "b c h w"]:
    """Integrate dx/dt = v(x, t) from the first time to the last.

    Args:
        velocity: (noisy latent [b, c, h, w], flow time [b]) -> velocity [b, c, h, w].
        noise: The latent at `times[0]`.
        times: Decreasing flow times, 1 to 0; as `diffusion.euler_times` or a stock scheduler's
            `sigmas`.
        after_step: Called after every step.
    """
    latent = noise
    for step, (now, then) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        t = torch.full((len(latent),), now, device=latent.device)
        latent = latent + (then - now) * velocity(latent, t)
        if after_step is not None:
            latent = after_step(step, latent)
    return latent


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


class Sampler(NamedTuple):
    """The networks of a refocus model and the settings of their calls."""

    transformer: Any  # With the adapter
    codec: Codec
    camera: CameraEmbedder
    guidance_embed: float
    position_ids: PositionIds
    conditions: Conditions = "full"

    @property
    def family(self) -> Family:
        return family_of(self.transformer)

    def encode(self, image: Float[Tensor, "b 3 h_px w_px"]) -> Float[Tensor, "b c h w"]:
        """Encode display values in [0, 1] to float32 latents."""
        return self.codec.encode(image * 2 - 1).float()

    def velocity(
        self,
        noisy: Float[Tensor, "b c h w"],
        t: Float[Tensor, "b"],
        reference: Float[Tensor, "b c h w"],
        depth: Float[Tensor, "b c h w"],
        camera_token: Float[Tensor, "b k e"],
        cache: ConditionCache | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict the velocity, theta(z_t, t, I_r, D, c)."""
        return self.family.predict_velocity(
            self.transformer,
            noisy,
            reference,
            depth,
            camera_token,
            t,
            self.camera.pooled_text.to(noisy.device),
            self.guidance_embed,
            self.position_ids,
            self.conditions,
            cache,
        )

    @torch.no_grad()
    def refocus(
        self,
        reference: Float[Tensor, "b c h w"],
        depth: Float[Tensor, "b c h w"],
        focus_point: Float[Tensor, "b 2"],
        bokeh_level: Float[Tensor, "b"],
        noise: Float[Tensor, "b c h w"],
        times: Float[Tensor, "steps"],
        after_step: AfterStep | None = None,
    ) -> Float[Tensor, "b 3 h_px w_px"]:
        """Sample refocused images in [0, 1] from latents of references and depth images."""
        token = self.camera(focus_point, bokeh_level)
        cache = ConditionCache() if self.conditions == "cached" else None
        latent = euler(
            lambda latent, t: self.velocity(latent, t, reference, depth, token, cache),
            noise,
            times,
            after_step,
        )
        return ((self.codec.decode(latent).float() + 1) / 2).clamp(0, 1)
