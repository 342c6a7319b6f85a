"""The blur classifier that comes with dofsuite: a ResNeXt-FPN of 0.2 M weights."""

import json
from pathlib import Path

from dofsuite.backbones.perception.blur import BlurModel, ResNeXtFpn, ResNeXtFpnConfig
from dofsuite.backbones.small.build import (
    WEIGHTS_FILE,
    load_weights,
    save_weights,
    saved_folder,
    seeded,
)
from dofsuite.errors import UserError


class SmallBlur:
    """A light description of a blur classifier that judges images at a short side of 128 px."""

    def __init__(
        self, weights: str | None = "packaged", size_px: int | None = None, seed: int = 0
    ) -> None:
        """Describe the network.

        Args:
            weights: `packaged`, the one that comes with dofsuite; a folder that a run of
                `dofsuite.pretraining.BlurClassifier` exported; or null, a new network.
            size_px: Short side at which it judges; null: at which it was trained, of a new network
                128.
            seed: Of a new network's weights.
        """
        self.weights, self.seed = weights, seed
        self.size_px = size_px

    def load(self) -> BlurModel:
        """Build the network, frozen, in evaluation mode.

        Raises:
            UserError: `weights` names a folder without a saved network, or with another one.
        """
        # A new network
        if self.weights is None:
            with seeded(self.seed):
                return BlurModel(ResNeXtFpn(ResNeXtFpnConfig()), self.size_px or 128)
        # A saved one: its sizes, then its weights
        folder = saved_folder(self.weights, "blur", "config.json", WEIGHTS_FILE)
        try:
            saved = json.loads((folder / "config.json").read_text())
            trained_size_px = saved.pop("size_px")
            config = ResNeXtFpnConfig(**saved | {"widths": tuple(saved["widths"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{folder}: config.json: this is no blur classifier; name a folder that a run of "
                "dofsuite.pretraining.BlurClassifier exported."
            ) from error
        network = ResNeXtFpn(config).float()
        load_weights(network, folder, "blur")
        return BlurModel(network, self.size_px or trained_size_px)


def save_blur(model: BlurModel, folder: Path) -> None:
    """Write a blur classifier: its sizes as JSON, its weights as 16-bit safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.network.config._asdict() | {"size_px": model.size_px}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_weights(model.network, folder)
