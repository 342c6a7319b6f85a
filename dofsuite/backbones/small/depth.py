"""Small depth and saliency networks, which share the architecture of Depth Anything."""

from pathlib import Path
from typing import Any

from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from dofsuite.backbones.perception.depth import NEAREST_M, Depth
from dofsuite.backbones.perception.frozen import DensePrediction
from dofsuite.backbones.perception.saliency import Saliency
from dofsuite.backbones.small.build import (
    WEIGHTS_FILE,
    load_weights,
    save_weights,
    saved_folder,
    seeded,
)


class SmallDense:
    """A light description of a Depth Anything of 0.7 M weights for images of 64 px."""

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
                `dofsuite.pretraining` exported; or null, a new network of the values below.
            patch_px: Pixels of a patch.
            width: Channels of the encoder, a multiple of 96 (three heads of 32).
            layers: Of the encoder, at least 4.
            seed: Of a new network's weights.
        """
        self.weights, self.seed = weights, seed
        self.patch_px, self.width = patch_px, width
        self.layers = layers

    def build(self, packaged: str, largest: int, smallest: float) -> DensePrediction:
        """Build the network, or read it from the package (under the name `packaged`) or a folder.

        Raises:
            UserError: `weights` names a folder without a saved network.
        """
        if self.weights is None:
            config = small_config(self.patch_px, self.width, self.layers, largest)
            with seeded(self.seed):
                network = DepthAnythingForDepthEstimation(config)
        else:
            # Not from_pretrained, whose progress bars would run through every command.
            folder = saved_folder(self.weights, packaged, "config.json", WEIGHTS_FILE)
            network = DepthAnythingForDepthEstimation(DepthAnythingConfig.from_pretrained(folder))
            load_weights(network, folder, packaged)
        return DensePrediction(network, None, smallest)


class SmallDepth(SmallDense, Depth):
    """A Depth Anything of 0.7 M weights for images of 64 px; depth in meters."""

    def __init__(
        self,
        weights: str | None = "packaged",
        patch_px: int = 8,
        width: int = 96,
        layers: int = 4,
        farthest_m: int = 12,
        seed: int = 0,
    ) -> None:
        """Describe the network.

        Args:
            weights: `packaged`, the one that comes with dofsuite; a folder that a run of
                `dofsuite.pretraining.DepthSurrogate` exported; or null, a new network of the values
                below.
            patch_px: Pixels of a patch.
            width: Channels of the encoder, a multiple of 96 (three heads of 32).
            layers: Of the encoder, at least 4.
            farthest_m: Largest depth that it can predict.
            seed: Of a new network's weights.
        """
        super().__init__(weights, patch_px, width, layers, seed)
        self.farthest_m = farthest_m

    def load(self) -> DensePrediction:
        return self.build("depth", self.farthest_m, NEAREST_M)


class SmallSaliency(SmallDense, Saliency):
    """The architecture of `SmallDepth` with an output between 0 and 1, for images of 64 px."""

    def load(self) -> DensePrediction:
        return self.build("saliency", largest=1, smallest=0.0)


def small_config(patch_px: int, width: int, layers: int, largest: int) -> DepthAnythingConfig:
    """Return a Depth Anything for images of 64 px whose output lies between 0 and `largest`."""
    encoder: dict[str, Any] = {
        "image_size": 64,
        "patch_size": patch_px,
        "hidden_size": width,
        "num_attention_heads": width // 32,
        "num_hidden_layers": layers,
        "mlp_ratio": 2,
        "out_indices": [round(layers * quarter / 4) for quarter in (1, 2, 3, 4)],
        "reshape_hidden_states": False,
    }
    return DepthAnythingConfig(
        backbone_config=Dinov2Config(**encoder),
        patch_size=patch_px,
        reassemble_hidden_size=width,
        # Twice as coarse as Depth Anything's own factors: a fifth of the time.
        reassemble_factors=[2, 1, 0.5, 0.25],
        neck_hidden_sizes=[width // 4, width // 3, width // 2, width],
        fusion_hidden_size=width // 3,
        head_hidden_size=width // 6,
        depth_estimation_type="metric",
        max_depth=largest,
    )


def save_small(network: Any, folder: Path) -> None:
    """Write a small network in float16, which transformers' from_pretrained can read too."""
    network.config.architectures = [type(network).__name__]
    network.config.save_pretrained(folder)
    save_weights(network, folder)
