"""Loading from the hub or a folder, with one sentence when it cannot be done, and a small cache for constants."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dofsuite.errors import UserError


def from_pretrained(
    network: type[Any], path: str, subfolder: str, revision: str | None, dtype: torch.dtype | None
) -> Any:
    """Load one part of a diffusers folder, from the hub or from disk, safetensors only.

    Raises:
        UserError: Why it could not be loaded, and what to do.
    """
    options: dict[str, Any] = {"subfolder": subfolder, "revision": revision}
    if dtype is not None:
        options |= {"torch_dtype": dtype, "use_safetensors": True}
    try:
        return network.from_pretrained(path, **options)
    except Exception as error:
        raise UserError(f"{path}: {subfolder}: {_reason(path, error)}") from error


def _reason(path: str, error: Exception) -> str:
    """Say what went wrong and the mend, from whatever the hub client raised."""
    names = {cls.__name__ for exc in _chain(error) for cls in type(exc).__mro__}
    if names & {"GatedRepoError"}:
        return f"its licence has not been accepted; accept it on the model's page, then run `hf auth login` ({path})."
    if names & {"RepositoryNotFoundError", "RevisionNotFoundError"}:
        return "the hub has no such model or revision, or it needs `hf auth login`; check the id."
    if Path(path).exists():
        first = (str(error).splitlines() or ["no reason given"])[0]
        return f"the folder lacks this part or it cannot be read ({first[:160]}); download it again."
    return "it could not be downloaded; check the network, or give the path of a local copy in diffusers layout."


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an exception and those it came from."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen


def cached_tensor(name: str, compute: Callable[[], Tensor]) -> Tensor:
    """Return a constant tensor from the cache folder, computing and keeping it at first use."""
    root = Path(os.environ.get("DOFSUITE_CACHE", Path.home() / ".cache" / "dofsuite"))
    file = root / f"constant-{hashlib.sha256(name.encode()).hexdigest()[:16]}.safetensors"
    if file.is_file():
        return load_file(file)["value"]
    value = compute().detach().float().cpu().contiguous()
    root.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".tmp-{os.getpid()}")
    save_file({"value": value}, temporary)
    temporary.replace(file)
    return value
