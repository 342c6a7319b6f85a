"""What of photographs and captions is computed before training: their kinds, and focus targets."""

from collections.abc import Callable

import torch
from torch import Tensor

from dofsuite.backbones import Depth, Saliency, Sdxl
from dofsuite.backbones.descriptors import in_words
from dofsuite.backbones.sdxl.beforehand import beforehand_of
from dofsuite.data.sidecar import Beforehand
from dofsuite.text2image.camera.focus_predictor import focus_target


class FocusTargets:
    """The target f_d of an image in [0, 1], `focus_target` [], float32 as training computes it.

    One number instead of the saliency that it is made of (2 MB at 1024 px); the depth stays the
    training's to compute, since the focus predictor is given it.
    """

    def __init__(self, depth: Depth, saliency: Saliency) -> None:
        self.depth, self.saliency = depth, saliency

    @property
    def name(self) -> str:
        return f"{in_words(self.saliency)} and {in_words(self.depth)}"

    def load(self) -> Callable[[Tensor], dict[str, Tensor]]:
        """Load both networks.

        Raises:
            UserError: One cannot be loaded, or packages that it needs are missing.
        """
        for description in (self.depth, self.saliency):
            description.check_runnable()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        depth, saliency = self.depth.load().to(device), self.saliency.load().to(device)

        @torch.no_grad()
        def encode(image_srgb: Tensor) -> dict[str, Tensor]:
            image = image_srgb[None].to(device)
            return {"focus_target": focus_target(saliency(image), depth(image))[0].cpu()}

        return encode


def beforehand_of_training(
    backbone: Sdxl,
    depth: Depth,
    saliency: Saliency,
    *,
    encodes_photographs: bool,
    targets_photographs: bool,
) -> dict[str, Beforehand]:
    """Return what the data may bring to a training, by kind of side-car.

    Args:
        backbone: Which SDXL.
        depth: The depth model of the focus targets.
        saliency: Their saliency model.
        encodes_photographs: Whether photographs go through the VAE.
        targets_photographs: Whether the focus losses are on photographs.
    """
    kinds: dict[str, Beforehand] = {**beforehand_of(backbone)}
    if not encodes_photographs:
        kinds.pop("latents", None)
    if targets_photographs:
        kinds["focus_targets"] = FocusTargets(depth, saliency)
    return kinds
