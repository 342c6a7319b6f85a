"""The camera's tokens, and the depth image of the ControlNet."""

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from dofsuite.backbones import PromptEmbeds
from dofsuite.images import minmax_normalize
from dofsuite.text2image.camera.exif import F_NUMBERS, FOCAL_LENGTHS_MM, Exif
from dofsuite.text2image.camera.focus_predictor import finite_depth

# Paper: focal length, f-number, ISO and exposure time. Here: the two that depth of field depends on
# and that our samples have.
CAMERA_FIELDS = ("f_number", "focal_length_mm")

# Root mean square of a new first layer's output for inputs in [-1, 1] (measured).
HIDDEN_SIZE = 0.3


class CameraTokens(ModelMixin, ConfigMixin):
    """f-number and focal length -> one token each, [b, 2, dim].

    Paper: log(v + 1e-6), a linear layer initialized to zero, LayerNorm. Here: the logarithm scaled
    so that the accepted range spans -1 to 1, and two linear layers of which the last is initialized
    to zero, without a norm, because LayerNorm has no gradient direction at a constant vector. The
    tokens of a sample without EXIF (nan) are zero.
    """

    @register_to_config
    def __init__(self, dim: int = 2048, hidden: int = 256, initial_size: float = 0.0) -> None:
        """Build the layers.

        Args:
            dim: Width of a text token (SDXL: 2048).
            hidden: Width between the two linear layers (*ours*).
            initial_size: Approximate root mean square of the tokens before training (*ours*). 0 for
                an SDXL trained on text; 3, larger than word tokens, for a network trained from
                scratch, which hardly learns to use tokens that start at zero.
        """
        super().__init__()
        embedders = [
            nn.Sequential(nn.Linear(1, hidden), nn.SiLU(), nn.Linear(hidden, dim))
            for _ in CAMERA_FIELDS
        ]
        for embedder in embedders:
            last: Any = embedder[-1]
            nn.init.normal_(last.weight, std=initial_size / (HIDDEN_SIZE * hidden**0.5))
            nn.init.zeros_(last.bias)
        self.settings = nn.ModuleList(embedders)

    def forward(self, exif: Float[Tensor, "b 2"]) -> Float[Tensor, "b 2 dim"]:
        """Embed `Exif.stacked()`: (f-number, focal length in mm)."""
        exif = exif.float()
        known = torch.isfinite(exif).all(dim=1)
        log_exif = torch.where(known[:, None], exif, torch.ones_like(exif)).log()
        low, high = exif.new_tensor([F_NUMBERS, FOCAL_LENGTHS_MM]).log().unbind(1)
        scaled = 2 * (log_exif - low) / (high - low) - 1  # [b, 2] in [-1, 1]
        tokens = [layers(scaled[:, i : i + 1]) for i, layers in enumerate(self.settings)]
        return torch.stack(tokens, dim=1) * known[:, None, None]

    def appended_to(self, prompt: PromptEmbeds, exif: Exif) -> PromptEmbeds:
        """Append the tokens to the text tokens; the pooled embedding is unchanged."""
        tokens = self(exif.stacked()).to(prompt.tokens)
        return PromptEmbeds(torch.cat([prompt.tokens, tokens], dim=1), prompt.pooled)


def inverse_depth_image(depth: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return inverse depth as a gray image, min-max normalized: 1 is the nearest (*inferred*).

    Depth ControlNets are trained on relative inverse depth. Constant depth gives 0.
    """
    return minmax_normalize(1 / finite_depth(depth).clamp(min=1e-6)).expand(-1, 3, -1, -1)
