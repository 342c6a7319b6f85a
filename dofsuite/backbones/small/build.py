"""Building small networks: new ones from a seed, trained ones from the package or a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dofsuite.errors import UserError

WEIGHTS_FILE = "model.safetensors"
# Weights that come with dofsuite; the modules of `dofsuite.pretraining` trained them.
PACKAGED = Path(__file__).with_name("weights")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed random weights; torch's global CPU generator is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def saved_folder(weights: str, packaged: str, *files: str) -> Path:
    """Return the folder of a saved small network: PACKAGED / `packaged` if `weights` is "packaged".

    Raises:
        UserError: One of its `files` is missing.
    """
    folder = PACKAGED / packaged if weights == "packaged" else Path(weights)
    for name in files:
        if not (folder / name).is_file():
            raise UserError(
                f"{folder}: weights: holds no small {packaged} network ({name} is missing); "
                "train one first."
            )
    return folder


def load_weights(network: nn.Module, folder: Path, packaged: str) -> None:
    """Load the saved weights of a small network.

    Raises:
        UserError: They are damaged or another network's.
    """
    try:
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{folder / WEIGHTS_FILE}: weights: not those of a small {packaged} network; take a "
            "whole copy of the folder."
        ) from error


def save_weights(network: nn.Module, folder: Path) -> None:
    """Write the weights of a small network in float16."""
    weights = {
        name: value.detach().half().contiguous() for name, value in network.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
