"""The focus predictor: focus distance and metric scale of a scene, and its pseudo-target.

Depth enters as two channels of log depth, resized to the network: min-max normalized to [-1, 1]
(nearest to farthest), and mean-centered, which keeps the depth range of the scene. Both are
invariant to a scale factor on depth, so the predicted focus distance scales with it and f_s stays
(*ours*): a depth model in other units focuses on the same thing.
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
from dofsuite.training.checkpoints.compatibility import FOCUS_PREDICTOR_STATE_DICT, renamed


class Focus(NamedTuple):
    # f_d, the depth in focus, on the depth model's scale, within the image's range of depths.
    focus_distance: Float[Tensor, "b"]
    scale_mm: Float[Tensor, "b"]  # f_s, mm per unit of depth
    saliency: Float[Tensor, "b 1 h w"]  # In [0, 1]


class FocusPredictor(ModelMixin, ConfigMixin):
    """A two-stream transformer over image and depth, with a focus and a scale token (after VST).

    *Stated*: from image and depth it predicts f_d and f_s; f_d is a weighted sum of depth and
    saliency and is trained by a Huber loss. *Inferred*: that it is VST with a focus and a scale
    token, and that f_s learns through the lens alone. The defaults are about the size of VST's
    RGB-D network; `small()` is for images of 64 px.
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
        focus_readout: Literal["token", "weighted_sum"] = "token",
        initial_scale_mm: float = 1000.0,
        largest_scale_factor: float = 30.0,
    ) -> None:
        """Build the network.

        Args:
            size_px: Images of any size and shape are resized to this square inside, as VST does.
            patch_px: Side of a token at that size; a multiple of 4 that divides it.
            width: Token width (VST: 384).
            heads: Attention heads (VST: 6).
            layers: Layers of each modality's own encoder (VST: 14).
            cross_layers: Layers in which the modalities attend to each other (VST: 4).
            decoder_layers: Layers that patch and task tokens share (VST: 4).
            fine_width: Width of the maps finer than the tokens, a multiple of 8 (VST: 64).
            focus_readout: How f_d is predicted. `token` (*inferred*): the focus token shifts the
                saliency-weighted mean log depth within the range of depths, and the weighted sum is
                the pseudo-target. `weighted_sum` (the other reading of the paper): f_d is sum(S D)
                / sum(S) of the predicted saliency itself.
            initial_scale_mm: f_s before training: 1000 for depth in meters.
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
        self.focus_head = _zero_linear(width) if focus_readout == "token" else None

    @classmethod
    def small(cls, **changes: Any) -> FocusPredictor:
        """Build one for images of about 64 px, under half a million parameters."""
        sizes = {"size_px": 64, "patch_px": 8, "width": 64, "fine_width": 32, "heads": 4}
        layers = {"layers": 1, "cross_layers": 1, "decoder_layers": 2}
        return cls(**{**sizes, **layers, **changes})

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        # Exports from before `reading` was renamed to `focus_readout`.
        config = {"focus_readout" if k == "reading" else k: v for k, v in config_dict.items()}
        return super().extract_init_dict(config, **kwargs)

    def _fix_state_dict_keys_on_load(self, state_dict: dict[str, Tensor]) -> None:
        # Exports from before modules were renamed.
        new = renamed(state_dict, FOCUS_PREDICTOR_STATE_DICT)
        state_dict.clear()
        state_dict.update(new)

    def forward(self, image: Float[Tensor, "b 3 h w"], depth: Float[Tensor, "b 1 h w"]) -> Focus:
        """Predict focus distance, scale and saliency; differentiable in both.

        Args:
            image: display values in [0, 1].
            depth: > 0 on the depth model's scale, larger is farther; non-finite values count as the
                farthest.
        """
        # Log depth; a hole (0) counts as near, at 1e-4 of the farthest, so that the log is finite.
        depth = finite_depth(depth)
        nearest = (1e-4 * depth.detach().amax((1, 2, 3), keepdim=True)).clamp(min=1e-12)
        log_depth = self._resized(depth.clamp(min=nearest).log())

        # Its two scale-invariant channels. Not `minmax_normalize`: `near` and `far` are used again.
        near, far = log_depth.amin((1, 2, 3), keepdim=True), log_depth.amax((1, 2, 3), keepdim=True)
        normalized = (log_depth - near) / (far - near).clamp(min=1e-4)
        centered = log_depth - log_depth.mean((1, 2, 3), keepdim=True)

        # Saliency and task tokens, in the network's dtype.
        inputs = (
            self._resized(image.float()) * 2 - 1,
            torch.cat([2 * normalized - 1, centered], dim=1),  # [b, 2, size_px, size_px]
        )
        decoded = self.decoder(self.encoder(*(maps.to(self.dtype) for maps in inputs)))
        logits = _resized(decoded.saliency_logits.float(), depth.shape[-2:])

        # Focus distance: a position in the range of log depth, or the weighted mean depth.
        if self.focus_head is None:
            focus_distance = weighted_mean(depth, salient_weights(logits))
        else:
            position = self._focus_position(decoded, normalized)
            focus_distance = torch.exp(near.flatten() + position * (far - near).flatten())
        return Focus(focus_distance, self._scale_mm(decoded.scale), torch.sigmoid(logits))

    def _focus_position(self, decoded: Decoded, normalized: Tensor) -> Tensor:
        """Focus in normalized log depth, [b] in (0, 1): the salient mean plus the token's logit."""
        assert self.focus_head is not None
        weights = salient_weights(self._resized(decoded.saliency_logits.float()))
        salient_mean = weighted_mean(normalized, weights).clamp(1e-3, 1 - 1e-3)
        shift = self.focus_head(decoded.focus).float().flatten()
        return torch.sigmoid(torch.logit(salient_mean) + shift)

    def _scale_mm(self, token: Tensor) -> Tensor:
        bound = math.log(self.config.largest_scale_factor)
        log_factor = bound * torch.tanh(self.scale_head(token).float().flatten())
        return self.config.initial_scale_mm * torch.exp(log_factor)

    def _resized(self, image: Tensor) -> Tensor:
        return _resized(image, (self.config.size_px, self.config.size_px))


def focus_target(
    saliency: Float[Tensor, "b 1 h w"], depth: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b"]:
    """f_d* = sum(S D) / sum(S), the saliency-weighted mean depth (after supplement A5).

    Guards (*ours*): the mean depth where nothing is salient; non-finite depth counts as the
    farthest.
    """
    return weighted_mean(finite_depth(depth), saliency.float())


def weighted_mean(
    values: Float[Tensor, "b 1 h w"], weights: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b"]:
    """sum(w v) / sum(w) of each item; the plain mean where the mean weight is below 1e-6."""
    empty = weights.mean((1, 2, 3), keepdim=True) < 1e-6
    weights = torch.where(empty, torch.ones_like(weights), weights)
    return (weights * values).sum((1, 2, 3)) / weights.sum((1, 2, 3))


def salient_weights(logits: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """sigmoid(logits) over its maximum in each item: weights for `weighted_mean`.

    A weighted mean is invariant to the scale of its weights, so a predictor trained by it alone
    lets them drift, until they underflow in float32.
    """
    log_saliency = nn.functional.logsigmoid(logits)
    return torch.exp(log_saliency - log_saliency.amax((1, 2, 3), keepdim=True))


def finite_depth(depth: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Float32 depth; non-finite values become each item's farthest finite one (1 if none is)."""
    depth = depth.float()
    finite = torch.isfinite(depth)
    farthest = torch.where(finite, depth, torch.zeros_like(depth)).amax((1, 2, 3), keepdim=True)
    farthest = torch.where(farthest > 0, farthest, torch.ones_like(farthest))
    return torch.where(finite, depth, farthest)


def check_focus(focus: float | int | Float[Tensor, "b"], depth: Float[Tensor, "b 1 h w"]) -> None:
    """Check that a user's focus distance lies within the scene.

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
                f"focus: {distance:g} lies outside the scene's depths, {nearest:.4g} to "
                f"{farthest:.4g} on the depth model's scale; choose a distance within them."
            )


def _resized(image: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Antialiased bilinear: within the image's range of values, the identity at its own size."""
    return nn.functional.interpolate(image, size=tuple(size), mode="bilinear", antialias=True)


def _zero_linear(width: int) -> nn.Linear:
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
