"""A VAE alone, for who encodes pictures without the model that it belongs to."""

from pathlib import Path
from typing import Literal

from diffusers import AutoencoderKL

from dofsuite.backbones.codec import VaeCodec
from dofsuite.backbones.hub import HubWeights, from_pretrained
from dofsuite.errors import UserError

PART = "vae"


class PretrainedVae(HubWeights):
    """The VAE of a model in diffusers layout, or a VAE on its own."""

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        dtype: Literal["bfloat16", "float32"] = "float32",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id or folder.
            revision: Hub revision; None is the newest.
            dtype: Of the weights.
        """
        super().__init__(path, revision, dtype)

    def load(self) -> VaeCodec:
        """Load it frozen, with its own scale and shift.

        Raises:
            UserError: It cannot be loaded.
        """
        # A folder shows which of the two it is; on the hub a model is tried first
        if Path(self.path).exists():
            parts = [PART if (Path(self.path) / PART).is_dir() else ""]
        else:
            parts = [PART, ""]
        for part in parts:
            try:
                vae = from_pretrained(
                    AutoencoderKL, self.path, part, self.revision, self.torch_dtype
                )
                return VaeCodec(vae)
            except UserError:
                if part == parts[-1]:
                    raise
        raise AssertionError("one part is always tried")
