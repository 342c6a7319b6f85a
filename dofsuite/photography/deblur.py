"""Restoring a defocused photograph at its full size, by tiles, before a lens blurs it anew."""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from dofsuite.errors import UserError
from dofsuite.photography.full_size import OnTile
from dofsuite.photography.photo import Photo

if TYPE_CHECKING:
    from dofsuite.backbones import DeblurModel


class Deblurrer:
    """A restoration network, loaded when the first photograph needs it, and once."""

    def __init__(self, weights: str, device: torch.device | None = None) -> None:
        """Name the network.

        Args:
            weights: `packaged`, the one that comes with dofsuite, or the folder that a run of
                `dofsuite.pretraining.Deblurring` exported.
            device: Where it runs; None: the GPU if there is one.
        """
        self.weights = weights
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def model(self) -> "DeblurModel":
        try:
            from dofsuite.backbones import SmallDeblur
        except ImportError as error:
            raise UserError(
                f"--deblur: it needs {error.name}: pip install 'dofsuite[photo]'."
            ) from error
        return SmallDeblur(self.weights).load().to(self.device)

    def __call__(self, photo: Photo, on_tile: OnTile = lambda done, total: None) -> Photo:
        """Restore a photograph; opacity stays, and a gray photograph stays gray.

        Raises:
            UserError: The network cannot be loaded.
        """
        # On the device a tile at a time
        image_srgb = photo.to_srgb().to(self.device)
        restored = self.model.restore(image_srgb, on_tile=on_tile).cpu()
        if photo.is_gray:
            restored = restored.mean(0, keepdim=True).expand(3, -1, -1).contiguous()
        return replace(photo, image=photo.from_srgb(restored))
