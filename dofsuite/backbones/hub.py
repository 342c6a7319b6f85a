"""Loading from the hub or a folder, with one sentence when it cannot be done, and a small cache for constants."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from torch import Tensor

from dofsuite.errors import UserError


def from_pretrained(
    network: type[Any],
    path: str,
    subfolder: str,
    revision: str | None,
    dtype: torch.dtype | None,
    **more: Any,
) -> Any:
    """Load one part of a diffusers folder (or, with subfolder "", a model's own), hub or disk, safetensors only.

    Raises:
        UserError: Why it could not be loaded, and what to do.
    """
    options: dict[str, Any] = {"subfolder": subfolder, "revision": revision, **more}
    if not Path(path).exists() and not _reachable(path, revision):
        options["local_files_only"] = True
    if dtype is not None:
        options |= {"torch_dtype": dtype, "use_safetensors": True}
    try:
        return network.from_pretrained(path, **options)
    except Exception as error:
        part = f"{subfolder}: " if subfolder else ""
        raise UserError(f"{path}: {part}{reason_of(path, error)}") from error


def exported_part(network: type[Any], folder: Path, name: str) -> Any:
    """Load one of our own small networks that a run exported, in float32.

    Raises:
        UserError: It is missing or cannot be read.
    """
    return from_pretrained(network, str(folder), name, None, torch.float32, low_cpu_mem_usage=False)


def pretrained_tokenizer(
    network: type[Any], path: str, subfolder: str, revision: str | None
) -> Any:
    """Load a tokeniser, and make sure that it has words: without its files transformers 5 makes an empty one.

    Raises:
        UserError: It could not be loaded, or its vocabulary is missing.
    """
    tokenizer = from_pretrained(network, path, subfolder, revision, None)
    if tokenizer.vocab_size <= len(tokenizer.all_special_tokens) + 1:
        reason = "its vocabulary is missing; check the network, or give the path of a complete copy in diffusers layout"
        raise UserError(f"{path}: {subfolder}: {reason}.")
    return tokenizer


def _reachable(path: str, revision: str | None) -> bool:
    """Whether the hub answers at all; without it the libraries would retry every file of a part for minutes."""
    try:
        HfApi().model_info(path, revision=revision, timeout=10)
    except Exception as error:
        names = {cls.__name__ for exc in _chain(error) for cls in type(exc).__mro__}
        return not names & {"ConnectionError", "TransportError", "Timeout"}
    return True


def reason_of(path: str, error: Exception) -> str:
    """Say what went wrong and the mend, from whatever the hub client raised."""
    if packages := _missing_packages(error):
        return f"its code needs packages that are not installed; pip install {packages}."
    names = {cls.__name__ for exc in _chain(error) for cls in type(exc).__mro__}
    if names & {"GatedRepoError"}:
        return f"its licence has not been accepted; accept it on the model's page, then run `hf auth login` ({path})."
    if names & {"RepositoryNotFoundError", "RevisionNotFoundError"}:
        return "the hub has no such model or revision, or it needs `hf auth login`; check the id."
    if Path(path).exists():
        first = (str(error).splitlines() or ["no reason given"])[0]
        return (
            f"the folder lacks this part or it cannot be read ({first[:160]}); download it again."
        )
    return "it could not be downloaded; check the network, or give the path of a local copy in diffusers layout."


def _missing_packages(error: BaseException) -> str:
    """Name the packages whose absence stopped a model's own code; "" where it was something else."""
    for exc in _chain(error):
        if isinstance(exc, ModuleNotFoundError) and exc.name:
            return exc.name.split(".")[0]
        if isinstance(exc, ImportError) and (
            found := re.search(r"pip install `?([\w .-]+?)`?$", str(exc))
        ):
            return found[1]
    return ""


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an exception and those it came from."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen


def cache_folder() -> Path:
    """Return the folder for what dofsuite keeps between runs."""
    return Path(os.environ.get("DOFSUITE_CACHE") or Path.home() / ".cache" / "dofsuite")


def cached_tensor(name: str, compute: Callable[[], Tensor]) -> Tensor:
    """Return a constant tensor from the cache folder, computing and keeping it at first use."""
    root = cache_folder()
    file = root / f"constant-{hashlib.sha256(name.encode()).hexdigest()[:16]}.safetensors"
    if file.is_file():
        return load_file(file)["value"]
    value = compute().detach().float().cpu().contiguous()
    root.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".tmp-{os.getpid()}")
    save_file({"value": value}, temporary)
    temporary.replace(file)
    return value
