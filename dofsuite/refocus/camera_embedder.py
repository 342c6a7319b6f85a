"""The camera token: focus point and bokeh level through a linear map into the space of FLUX's prompt embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn


class CameraEmbedder(ModelMixin, ConfigMixin):
    """(f_x, f_y, b) -> one token (DiffCamera, sec. 3.2: "a learnable linear projector").

    It maps into the prompt embeddings' space, ahead of the frozen `context_embedder`: two linear
    maps make the paper's one, and the token fits the `prompt_embeds` of stock diffusers. Its
    configuration keeps what the numbers mean, so an adapter cannot be run in other units than it
    was trained in. `pooled_text` [p] is the empty prompt's pooled vector, kept with it so that
    nobody needs a text encoder to use an adapter.
    """

    @register_to_config
    def __init__(
        self,
        dim: int = 4096,
        level_scale: float = 20.0,
        focus_range: Literal["unit", "signed"] = "signed",
        reference_width_px: float = 512.0,
        pooled_dim: int = 768,
    ) -> None:
        """Make the map; at first it writes its three numbers into the first three dimensions (*ours*).

        Args:
            dim: Width of the prompt embeddings (`joint_attention_dim`).
            level_scale: Bokeh level that is fed as 1 (*inferred*: the paper's largest training
                level).
            focus_range: Feed fractions of width and height as they are, or as -1 to 1 (*ours*).
            reference_width_px: Width at which a bokeh level is pixels of radius per unit of
                disparity.
            pooled_dim: Width of the pooled text vector (`pooled_projection_dim`).
        """
        super().__init__()
        self.projector = nn.Linear(3, dim)
        nn.init.zeros_(self.projector.weight)
        nn.init.zeros_(self.projector.bias)
        with torch.no_grad():
            self.projector.weight[:3] = torch.eye(3)
        self.register_buffer("pooled_text", torch.zeros(pooled_dim))

    def forward(
        self, focus_point: Float[Tensor, "b 2"], bokeh_level: Float[Tensor, "b"]
    ) -> Float[Tensor, "b 1 e"]:
        """Return the camera token.

        Args:
            focus_point: (x, y) as fractions of width and height from the top left, in [0, 1].
            bokeh_level: Pixels of blur radius per unit of disparity at the reference width; 0 is
                all in focus.
        """
        point = focus_point * 2 - 1 if self.config.focus_range == "signed" else focus_point
        numbers = torch.cat([point, bokeh_level[:, None] / self.config.level_scale], dim=1)
        return self.projector(numbers.to(self.projector.weight.dtype))[:, None]
