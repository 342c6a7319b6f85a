"""Where to focus, and how many millimetres a unit of depth is: the focus predictor and its pseudo-target.

The depth goes in as two channels made of its logarithm, resized to the network: stretched to -1
(nearest) to 1 (farthest), and with its mean taken off, which keeps how deep the scene is. Neither
changes when the depth is multiplied by a number, so that the predicted focus distance is multiplied
by it and the scale stays (*ours*): a depth model in other units focuses on the same thing.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from dofsuite.errors import UserError
from dofsuite.text2image.camera.focus_decoder import Decoded, SaliencyDecoder
from dofsuite.text2image.camera.focus_encoder import CrossModalEncoder


class Focus(NamedTuple):
    """What the predictor gives.

    Attributes:
        focus_distance: [b] f_d, the depth to be in focus, on the depth model's scale, within the
            picture's depths.
        scale_mm: [b] f_s, mm per unit of depth.
        saliency: [b, 1, h, w] in [0, 1].
    """

    focus_distance: Float[Tensor, "b"]
    scale_mm: Float[Tensor, "b"]
    saliency: Float[Tensor, "b 1 h w"]


class FocusPredictor(ModelMixin, ConfigMixin):
    """A transformer over image and depth with a focus and a scale token on a saliency decoder.

    *Stated*: from image and depth it gives f_d and f_s; f_d is a weighted sum of depth and saliency
    and is trained by a Huber loss. *Inferred*: that it is VST with a focus and a scale token, and
    that f_s learns through the lens alone. The defaults are about the size of VST's RGB-D network;
    `small()` is for pictures of 64 px.
    """

    @register_to_config
    def __init__(
        self,
        size_px: int = 224,
        patch_px: int = 16,
        width: int = 384,
        heads: int = 6,
        layers: int = 14,
        cross_layers: int = 4,
        decoder_layers: int = 4,
        fine_width: int = 64,
        reading: Literal["token", "weighted_sum"] = "token",
        initial_scale_mm: float = 1000.0,
        largest_scale_factor: float = 30.0,
    ) -> None:
        """Make the network.

        Args:
            size_px: Pictures of any size and shape are resized to this square inside, as VST does.
            patch_px: Side of a token at that size; a multiple of 4 that divides it.
            width: Width of a token (VST: 384).
            heads: Attention heads (VST: 6).
            layers: Layers of each modality's own transformer (VST: 14).
            cross_layers: Layers in which the modalities attend to each other (VST: 4).
            decoder_layers: Layers that patch and task tokens share (VST: 4).
            fine_width: Width of the maps finer than the tokens, a multiple of 8 (VST: 64).
            reading: How f_d comes about. `token` (*inferred*, reading b of the facts): the focus
                token moves the saliency-weighted mean log depth along the range of depths, and the
                weighted sum is the pseudo-target. `weighted_sum` (reading a): f_d is sum(S D) /
                sum(S) of the predicted saliency itself.
            initial_scale_mm: f_s before training: 1000 for depth in metres.
            largest_scale_factor: f_s stays within this factor of the initial one, either way
                (*ours*).
        """
        super().__init__()
        if patch_px % 4 or size_px % patch_px:
            raise ValueError(
                f"patch_px must be a multiple of 4 that divides size_px {size_px}, not {patch_px}."
            )
        num_tokens = (size_px // patch_px) ** 2
        self.encoder = CrossModalEncoder(
            width, heads, layers, cross_layers, fine_width, patch_px, num_tokens, 2
        )
        self.decoder = SaliencyDecoder(width, heads, decoder_layers, fine_width)
        self.scale_head = _zero_linear(width)
        self.focus_head = _zero_linear(width) if reading == "token" else None

    @classmethod
    def small(cls, **changes: Any) -> FocusPredictor:
        """One for pictures of about 64 px, with under half a million parameters; `changes` go to the constructor."""
        sizes = dict(
            size_px=64, patch_px=8, width=64, heads=4, layers=1, cross_layers=1, decoder_layers=2
        )
        return cls(**{**sizes, "fine_width": 32, **changes})

    def forward(self, image: Float[Tensor, "b 3 h w"], depth: Float[Tensor, "b 1 h w"]) -> Focus:
        """Predict focus distance, scale and saliency; differentiable in both.

        Args:
            image: display values in [0, 1].
            depth: > 0 on the depth model's scale, larger is farther; a value that is not finite
                counts as the farthest.
        """
        depth = finite_depth(depth)
        # A hole (0) counts as near: a ten-thousandth of the farthest, so that the logarithm is
        # finite.
        nearest = (1e-4 * depth.detach().amax((1, 2, 3), keepdim=True)).clamp(min=1e-12)
        log_depth = self._resized(depth.clamp(min=nearest).log())
        # Min-max normalized; the range is also that of the predicted focus.
        near, far = log_depth.amin((1, 2, 3), keepdim=True), log_depth.amax((1, 2, 3), keepdim=True)
        place = (log_depth - near) / (far - near).clamp(min=1e-4)
        centred = log_depth - log_depth.mean((1, 2, 3), keepdim=True)
        decoded = self._decode(
            self._resized(image.float()) * 2 - 1, torch.cat([2 * place - 1, centred], dim=1)
        )
        logits = _resized(decoded.saliency_logits.float(), depth.shape[-2:])
        if self.focus_head is None:
            focus_distance = weighted_mean(depth, salient_weights(logits))
        else:
            focus_place = self._focus_place(decoded, place)
            focus_distance = torch.exp(near.flatten() + focus_place * (far - near).flatten())
        return Focus(focus_distance, self._scale_mm(decoded.scale), torch.sigmoid(logits))

    def _decode(self, image: Tensor, depth: Tensor) -> Decoded:
        return self.decoder(self.encoder(image.to(self.dtype), depth.to(self.dtype)))

    def _focus_place(self, decoded: Decoded, place: Tensor) -> Tensor:
        """Where in the range of log depth to focus, [b] in (0, 1): salient places' mean, moved by the focus token."""
        weights = salient_weights(self._resized(decoded.saliency_logits.float()))
        salient_place = weighted_mean(place, weights).clamp(1e-3, 1 - 1e-3)
        return torch.sigmoid(
            torch.logit(salient_place) + self.focus_head(decoded.focus).float().flatten()
        )

    def _scale_mm(self, token: Tensor) -> Tensor:
        bound = math.log(self.config.largest_scale_factor)
        return self.config.initial_scale_mm * torch.exp(
            bound * torch.tanh(self.scale_head(token).float().flatten())
        )

    def _resized(self, picture: Tensor) -> Tensor:
        return _resized(picture, (self.config.size_px, self.config.size_px))


def focus_target(
    saliency: Float[Tensor, "b 1 h w"], depth: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b"]:
    """f_d* = sum(S D) / sum(S), the depth of what is salient, on the depth's scale (facts A.2, after supplement A5).

    Guards (*ours*): where nothing is salient, the mean depth; a depth that is not finite counts as
    the farthest.
    """
    return weighted_mean(finite_depth(depth), saliency.float())


def weighted_mean(
    values: Float[Tensor, "b 1 h w"], weights: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b"]:
    """sum(w v) / sum(w) of each item; the plain mean where the weights' mean is under a millionth."""
    empty = weights.mean((1, 2, 3), keepdim=True) < 1e-6
    weights = torch.where(empty, torch.ones_like(weights), weights)
    return (weights * values).sum((1, 2, 3)) / weights.sum((1, 2, 3))


def salient_weights(logits: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """The saliency sigmoid(logits) over its largest value in each item: the same weighted sum, and it cannot vanish.

    A weighted sum does not know how large its weights are together. A predictor trained by it alone
    lets them drift, towards numbers that float32 does not have.
    """
    log_saliency = nn.functional.logsigmoid(logits)
    return torch.exp(log_saliency - log_saliency.amax((1, 2, 3), keepdim=True))


def finite_depth(depth: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """The depth in float32 with each item's farthest finite value where it is infinite or nan; 1 if there is none."""
    depth = depth.float()
    finite = torch.isfinite(depth)
    farthest = torch.where(finite, depth, torch.zeros_like(depth)).amax((1, 2, 3), keepdim=True)
    return torch.where(
        finite, depth, torch.where(farthest > 0, farthest, torch.ones_like(farthest))
    )


def check_focus(focus: float | int | Float[Tensor, "b"], depth: Float[Tensor, "b 1 h w"]) -> None:
    """Refuse a focus distance of a user's that no part of the scene has.

    Args:
        focus: on the depth model's scale; one for all or one for each item.
        depth: the scenes' depths, on the same scale.

    Raises:
        UserError: if a focus lies outside its scene's range of depths.
    """
    depth = finite_depth(depth)
    near, far = depth.amin((1, 2, 3)).tolist(), depth.amax((1, 2, 3)).tolist()
    given = torch.as_tensor(focus, dtype=torch.float32).reshape(-1).expand(len(depth)).tolist()
    for distance, nearest, farthest in zip(given, near, far, strict=True):
        if not nearest <= distance <= farthest:
            raise UserError(
                f"focus: {distance:g} lies outside the scene's depths, {nearest:.4g} to {farthest:.4g} on the "
                "depth model's scale; choose a distance within them."
            )


def _resized(picture: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Averaged down or interpolated up: never beyond the picture's own values, and itself at its own size."""
    return nn.functional.interpolate(picture, size=tuple(size), mode="bilinear", antialias=True)


def _zero_linear(width: int) -> nn.Linear:
    """A head of one number that starts at 0 whatever comes in."""
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
