"""Building small networks: new ones from a seed, trained ones from the package or a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dofsuite.errors import UserError

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
