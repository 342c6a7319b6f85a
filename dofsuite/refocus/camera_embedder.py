"""The camera token: a linear map of focus point and bokeh level to the base's prompt embeddings."""

from typing import Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn


class CameraEmbedder(ModelMixin, ConfigMixin):
    """(f_x, f_y, b) -> one token (DiffCamera, sec. 3.2: "a learnable linear projector").

    The token lives in the space of the prompt embeddings, before the frozen `context_embedder`: the
    two linear maps together are the paper's one, and the token fits the `prompt_embeds` of stock
    diffusers. The config stores the units of the inputs, so an adapter is always run in the units
    it was trained in. `pooled_text` [p] and `text_tokens` [k, e] are the pooled embedding and the
    tokens of the empty prompt, stored here so that an adapter needs no text encoder.
    """

    @register_to_config
    def __init__(
        self,
        dim: int = 4096,
        level_scale: float = 20.0,
        focus_range: Literal["unit", "signed"] = "signed",
        reference_width_px: float = 512.0,
        pooled_dim: int = 768,
        num_text_tokens: int = 0,
    ) -> None:
        """Initialize the map: its three inputs are copied to the first three dimensions (*ours*).

        Args:
            dim: Width of the prompt embeddings (`joint_attention_dim`).
            level_scale: Bokeh level that is scaled to 1 (*inferred*: the paper's largest training
                level).
            focus_range: Range of the focus point as an input, [0, 1] or [-1, 1] (*ours*).
            reference_width_px: Width at which a bokeh level is pixels of radius per unit of
                disparity.
            pooled_dim: Width of the pooled text vector (`pooled_projection_dim`); 0 where the base
                takes none.
            num_text_tokens: Tokens of the empty prompt that follow the camera token.
        """
        super().__init__()
        self.projector = nn.Linear(3, dim)
        nn.init.zeros_(self.projector.weight)
        nn.init.zeros_(self.projector.bias)
        with torch.no_grad():
            self.projector.weight[:3] = torch.eye(3)
        self.register_buffer("pooled_text", torch.zeros(pooled_dim), persistent=pooled_dim > 0)
        if num_text_tokens:
            self.register_buffer("text_tokens", torch.zeros(num_text_tokens, dim))

    def forward(
        self, focus_point: Float[Tensor, "b 2"], bokeh_level: Float[Tensor, "b"]
    ) -> Float[Tensor, "b k e"]:
        """Return the camera token, and the empty prompt's after it where the adapter has some.

        The camera token is zeros, the unconditional token, for a negative level.

        Args:
            focus_point: (x, y) as fractions of width and height from the top left, in [0, 1].
            bokeh_level: Pixels of blur radius per unit of disparity at the reference width; 0 is
                all in focus.
        """
        point = focus_point * 2 - 1 if self.config.focus_range == "signed" else focus_point
        numbers = torch.cat([point, bokeh_level[:, None] / self.config.level_scale], dim=1)
        token = self.projector(numbers.to(self.projector.weight.dtype))[:, None]
        token = token * (bokeh_level >= 0)[:, None, None]
        if not self.config.num_text_tokens:
            return token
        text = self.text_tokens.to(token).expand(len(token), -1, -1)
        return torch.cat([token, text], dim=1)
