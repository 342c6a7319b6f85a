"""Loading from the hub or a folder, with one-sentence errors."""

import fcntl
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi

from dofsuite.errors import UserError
from dofsuite.files import make_folder


def from_pretrained(
    network: type[Any],
    path: str,
    subfolder: str,
    revision: str | None,
    dtype: torch.dtype | None,
    **options: Any,
) -> Any:
    """Load one part of a model in diffusers layout, safetensors only.

    Args:
        network: A class of diffusers or transformers.
        path: Hub id or folder.
        subfolder: The part; "" for a model that is not in parts.
        revision: Hub revision.
        dtype: Of the weights; None for a part without weights.
        options: Further arguments of `network.from_pretrained`.

    Raises:
        UserError: Why it could not be loaded, and what to do.
    """
    options |= {"subfolder": subfolder, "revision": revision}
    # Weights are safetensors; a part without weights has no dtype.
    if dtype is not None:
        options |= {"dtype": dtype, "use_safetensors": True}
    # Code that lies beside the weights does not run (left out, transformers would ask on the way).
    if network.__module__.startswith("transformers.models.auto."):
        options.setdefault("trust_remote_code", False)
    # A folder at once; from the hub, one process of a node first. A load that fails leaves the
    # weights' dtype as torch's default (diffusers 0.42).
    default_dtype = torch.get_default_dtype()
    try:
        if Path(path).exists():
            with _without_bars():
                return network.from_pretrained(path, **options)
        with first_of_node(f"{network.__name__} {path} {subfolder} {revision}") as is_first:
            if not (is_first and _is_hub_reachable(path, revision)):
                options["local_files_only"] = True
            if is_first:
                return network.from_pretrained(path, **options)
        return network.from_pretrained(path, **options)
    except Exception as error:
        part = f"{subfolder}: " if subfolder else ""
        raise UserError(f"{path}: {part}{reason_of(path, error)}") from error
    finally:
        torch.set_default_dtype(default_dtype)


@contextmanager
def first_of_node(what: str) -> Iterator[bool]:
    """Yield whether this process is the first of its node and run to fetch something.

    The others wait until the first one has left the block, and read what it has put on disk: one
    process asks the hub and downloads. (Whichever comes first: not all ranks load everything.) A
    process on its own is the first. Where the first one fails, the next is the first.
    """
    run = _run_of_several_processes()
    if run is None:
        yield True
        return
    # A file that the first one locks meanwhile, and in which it then writes which start it is of.
    digest = hashlib.sha256(what.encode()).hexdigest()[:16]
    path = make_folder(cache_folder() / "downloads") / f"{digest}-{socket.gethostname()}"
    with open(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if file.read() == run:
            fcntl.flock(file, fcntl.LOCK_UN)
            yield False
            return
        yield True
        file.truncate(0)
        file.write(run)


# Which start this process belongs to, by its launcher; None for a process on its own.
def _run_of_several_processes() -> str | None:
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        names = ["SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"]
    elif int(os.environ.get("WORLD_SIZE", 1)) > 1:
        names = ["MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"]
    else:
        return None
    return " ".join(os.environ.get(name, "") for name in names)


@contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bars, of which the libraries show one for each part of a local folder."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    shown: list[Any] = [
        each for each in (of_diffusers, of_transformers) if each.is_progress_bar_enabled()
    ]
    for logging in shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging in shown:
            logging.enable_progress_bar()


@contextmanager
def errors_alone(logging: Any) -> Iterator[None]:
    """Silence the warnings of diffusers or transformers, whose `utils.logging` is given."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def exported_part(network: type[Any], folder: Path, name: str) -> Any:
    """Load one of our own small networks that a run exported, in float32.

    Raises:
        UserError: It is missing or cannot be read.
    """
    return from_pretrained(network, str(folder), name, None, torch.float32, low_cpu_mem_usage=False)


def load_complete(
    network: type[Any], path: str, revision: str | None, dtype: torch.dtype, **options: Any
) -> Any:
    """Load a network of transformers and check that no weight is missing.

    transformers would only warn, and initialize the rest at random.

    Raises:
        UserError: It cannot be loaded, or weights are missing or of another shape.
    """
    from transformers.utils import logging

    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    # Silence transformers' table of unused weights; missing ones are reported below.
    with errors_alone(logging):
        loaded, info = from_pretrained(network, path, "", revision, dtype, **options)
    absent = sorted(info["missing_keys"]) or sorted(str(key) for key in info["mismatched_keys"])
    if absent:
        raise UserError(
            f"{path}: {len(absent)} weights of {network.__name__} are missing or do not fit, such "
            f"as {absent[0]}; name a complete model of that type."
        )
    return loaded


class HubWeights:
    """A light description of weights on the hub or in a folder."""

    def __init__(self, path: str, revision: str | None, dtype: str) -> None:
        self.path, self.revision = path, revision
        self.dtype = dtype

    @property
    def name(self) -> str:
        """Name in reports: the hub id or a local folder's name, and the revision."""
        name = Path(self.path).resolve().name if Path(self.path).exists() else self.path
        return name if self.revision is None else f"{name}@{self.revision}"

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


def pretrained_tokenizer(
    network: type[Any], path: str, subfolder: str, revision: str | None
) -> Any:
    """Load a tokenizer and check its vocabulary: transformers 5 makes an empty one without files.

    Raises:
        UserError: It could not be loaded, or its vocabulary is missing.
    """
    tokenizer = from_pretrained(network, path, subfolder, revision, None)
    if tokenizer.vocab_size <= len(tokenizer.all_special_tokens) + 1:
        raise UserError(
            f"{path}: {subfolder}: its vocabulary is missing; check the network, or give the path "
            "of a complete copy in diffusers layout."
        )
    return tokenizer


# Whether the hub responds; if not, the libraries would retry every file for minutes.
def _is_hub_reachable(path: str, revision: str | None) -> bool:
    try:
        HfApi().model_info(path, revision=revision, timeout=10)
    except Exception as error:
        return not _class_names(error) & {"ConnectionError", "TransportError", "Timeout"}
    return True


def reason_of(path: str, error: Exception) -> str:
    """Return the cause and the fix as a sentence, from whatever the hub client raised."""
    if packages := _missing_packages(error):
        return f"its code needs packages that are not installed; pip install {packages}."
    # The hub refuses it.
    names = _class_names(error)
    if "GatedRepoError" in names:
        return (
            "its license has not been accepted; accept it on the model's page, then run "
            f"`hf auth login` ({path})."
        )
    if names & {"RepositoryNotFoundError", "RevisionNotFoundError"}:
        return "the hub has no such model or revision, or it needs `hf auth login`; check the id."
    # A broken local copy, or no connection.
    if Path(path).exists():
        first = (str(error).splitlines() or ["no reason given"])[0]
        return (
            f"the folder lacks this part or it cannot be read ({first[:160]}); download it again."
        )
    return (
        "it could not be downloaded; check the network, or give the path of a local copy in "
        "diffusers layout."
    )


def _missing_packages(error: BaseException) -> str:
    for exc in _chain(error):
        if isinstance(exc, ModuleNotFoundError) and exc.name:
            return exc.name.split(".")[0]
        if isinstance(exc, ImportError) and (
            found := re.search(r"pip install `?([\w .-]+?)`?$", str(exc))
        ):
            return found[1]
    return ""


def _class_names(error: BaseException) -> set[str]:
    return {cls.__name__ for exc in _chain(error) for cls in type(exc).__mro__}


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def cache_folder() -> Path:
    return Path(os.environ.get("DOFSUITE_CACHE") or Path.home() / ".cache" / "dofsuite")
