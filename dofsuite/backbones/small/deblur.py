"""The deblurrer of `dofsuite.lens --deblur packaged`: inverse filters and 1.5 M weights."""

import json
from pathlib import Path

from dofsuite.backbones.perception.deblur import DeblurModel, RestorationConfig, RestorationNet
from dofsuite.backbones.small.build import (
    WEIGHTS_FILE,
    load_weights,
    save_weights,
    saved_folder,
    seeded,
)
from dofsuite.errors import UserError


class SmallDeblur:
    """A light description of a network that restores defocused photographs."""

    def __init__(
        self,
        weights: str | None = "packaged",
        width: int = 24,
        blocks: tuple[int, ...] = (2, 2),
        middle_blocks: int = 4,
        radius_px: tuple[float, float] = (0.8, 9.5),
        radii: int = 28,
        reach_px: int = 48,
        choice_width: int = 64,
        seed: int = 0,
    ) -> None:
        """Describe the network.

        Args:
            weights: `packaged`, the one that comes with dofsuite; a folder that a run of
                `dofsuite.pretraining.Deblurring` exported; or null, a new network of the values
                below.
            width: Channels at half the image's size, doubled at each coarser scale.
            blocks: Residual blocks of the encoder's scales, from fine to coarse; as many in the
                decoder.
            middle_blocks: Residual blocks at the coarsest scale.
            radius_px: Smallest and largest radius of the inverse filters.
            radii: Number of these.
            reach_px: Of these.
            choice_width: Channels of the network that chooses among them.
            seed: Of a new network's weights.
        """
        self.weights, self.seed = weights, seed
        self.config = RestorationConfig(
            (radius_px[0], radius_px[1]),
            radii,
            reach_px,
            choice_width,
            width,
            tuple(blocks),
            middle_blocks,
        )

    @property
    def weights_file(self) -> Path:
        """The saved weights.

        Raises:
            UserError: There are none.
        """
        if self.weights is None:
            raise UserError("weights: a new deblurrer has no file; name a folder.")
        return saved_folder(self.weights, "deblur", "config.json", WEIGHTS_FILE) / WEIGHTS_FILE

    def load(self) -> DeblurModel:
        """Build the network, frozen, in evaluation mode.

        Raises:
            UserError: `weights` names a folder without a saved network, or with another one.
        """
        # A new network
        if self.weights is None:
            with seeded(self.seed):
                return DeblurModel(RestorationNet(self.config))
        # A saved one: its sizes, then its weights
        folder = self.weights_file.parent
        try:
            saved = json.loads((folder / "config.json").read_text())
            pairs = {name: tuple(saved[name]) for name in ("radius_px", "blocks")}
            config = RestorationConfig(**saved | pairs)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder}: config.json: this is no deblurrer; name a folder that a run of "
                "dofsuite.pretraining.Deblurring exported."
            ) from error
        network = RestorationNet(config).float()
        load_weights(network, folder, "deblur")
        return DeblurModel(network)


def save_deblur(model: DeblurModel, folder: Path) -> None:
    """Write a deblurrer: its sizes as JSON, its weights as 16-bit safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.network.config._asdict()
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_weights(model.network, folder)
