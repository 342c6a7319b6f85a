"""A small saliency network."""

from __future__ import annotations

from dofsuite.backbones.perception.frozen import DensePrediction
from dofsuite.backbones.perception.saliency import Saliency
from dofsuite.backbones.small.depth import small_config, small_network


class SmallSaliency(Saliency):
    """The architecture of `SmallDepth` with an output between 0 and 1, for images of 64 px."""

    def __init__(
        self,
        weights: str | None = "packaged",
        patch_px: int = 8,
        width: int = 96,
        layers: int = 4,
        seed: int = 0,
    ) -> None:
        """Describe the network.

        Args:
            weights: `packaged`, the one that comes with dofsuite; a folder that a run of
                `dofsuite.pretraining.SaliencySurrogate` exported; or null, a new network of the
                values below.
            patch_px: Pixels of a patch.
            width: Channels of the encoder, a multiple of 96.
            layers: Of the encoder, at least 4.
            seed: Of a new network's weights.
        """
        self.weights, self.seed = weights, seed
        self.patch_px, self.width = patch_px, width
        self.layers = layers

    def load(self) -> DensePrediction:
        """Build the network, or read it.

        Raises:
            UserError: `weights` names a folder without a saved network.
        """
        config = small_config(self.patch_px, self.width, self.layers, largest=1)
        network = small_network(self.weights, "saliency", config, self.seed)
        return DensePrediction(network, None, 0.0)
