"""What SDXL's frozen parts make of captions and images, for training to read instead of computing.

Each is a light description with a name and `load()`, which returns a function from one caption or
one image to tensors on the CPU (`dofsuite.data.sidecar` stores them).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dofsuite.backbones.sdxl.prompt_encoder import SdxlPromptEncoder
from dofsuite.backbones.sdxl.sdxl import PretrainedSdxl, Sdxl


class PromptEmbeddings:
    """Embeddings of a caption, float16: `tokens` [n, d] and `pooled` [p]."""

    def __init__(self, backbone: PretrainedSdxl) -> None:
        self.backbone = backbone

    @property
    def name(self) -> str:
        backbone = self.backbone
        return (
            backbone.path if backbone.revision is None else f"{backbone.path}@{backbone.revision}"
        )

    def load(self) -> Callable[[str], dict[str, Tensor]]:
        encoder = SdxlPromptEncoder(self.backbone.path, self.backbone.revision)
        return lambda caption: encoder.encode_row(caption)._asdict()


class Latents:
    """The latent of an image in [0, 1], `latent` [c, h, w], as the VAE returns it.

    Not rounded: the VAE's own bfloat16 by default, and so the numbers of training bit for bit.
    """

    def __init__(self, backbone: PretrainedSdxl) -> None:
        self.backbone = backbone

    @property
    def name(self) -> str:
        *place, revision = self.backbone.vae_place
        at = f"@{revision}" if revision else ""
        return f"{'/'.join(filter(None, place))}{at} in {self.backbone.vae_dtype}"

    def load(self) -> Callable[[Tensor], dict[str, Tensor]]:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        codec = self.backbone.load_codec().to(device)

        @torch.no_grad()
        def encode(image_srgb: Tensor) -> dict[str, Tensor]:
            return {"latent": codec.encode(image_srgb[None].to(device) * 2 - 1)[0].cpu()}

        return encode


def beforehand_of(backbone: Sdxl) -> dict[str, PromptEmbeddings | Latents]:
    """Return what can be computed beforehand, by kind; nothing for the small networks."""
    if not isinstance(backbone, PretrainedSdxl):
        return {}
    return {"prompts": PromptEmbeddings(backbone), "latents": Latents(backbone)}
