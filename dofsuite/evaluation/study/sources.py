"""The methods of a study: folders `PROMPT/f1.8.png ...`, as `evaluate text2image` leaves them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import hash_named_files
from dofsuite.evaluation.study.config import MIN_PROMPTS
from dofsuite.images import IMAGE_EXTENSIONS


class Method(NamedTuple):
    name: str
    # Holds a folder of images for each prompt.
    folder: Path


def read_methods(sources: Sequence[str], ours: str | None) -> list[Method]:
    """Return the methods that `[NAME=]FOLDER` name, ours first.

    Args:
        sources: A FOLDER of `evaluate text2image` stands for all of its methods.
        ours: Name of our method; None for the first, where that is clear.

    Raises:
        UserError: A folder is missing, two methods have one name, there is no baseline, or it is
            not clear which method is ours.
    """
    methods = [method for source in sources for method in _methods_of(source)]
    names = [method.name for method in methods]
    if double := [name for name in names if names.count(name) > 1]:
        raise UserError(f"NAME=FOLDER: two methods are named {double[0]}; rename one.")
    if len(names) < 2:
        raise UserError("NAME=FOLDER: a study compares methods; name a baseline too.")

    # Ours: as said, or the first where it was named alone
    if ours is None and len(methods) > len(sources):
        raise UserError(f"--ours: say which method is yours: {', '.join(names)}.")
    if ours is not None and ours not in names:
        raise UserError(f"--ours: there is no {ours}; choose one of {', '.join(names)}.")
    return sorted(methods, key=lambda method: method.name != (ours or names[0]))


def _methods_of(source: str) -> list[Method]:
    # A path may have an = in it
    name, _, path = source.partition("=")
    if Path(source).is_dir():
        name, path = "", source
    folder = Path(path)
    if not path or not folder.is_dir():
        raise UserError(f"{source}: there is no such folder; give [NAME=]FOLDER.")

    # A folder of `evaluate text2image` has a folder for each of its methods
    if not (folder / "pictures").is_dir():
        return [Method(name or folder.resolve().name, folder)]
    folders = folders_in(folder / "pictures")
    if name and len(folders) != 1:
        found = ", ".join(each.name for each in folders)
        raise UserError(
            f"{source}: it holds {found}; leave out {name}=, or name one of them, as in "
            f"{name}={folder}/pictures/METHOD."
        )
    return [Method(name or each.name, each) for each in folders]


def folders_in(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir())


def read_prompt_names(method: Method, count: int) -> list[str]:
    """Return the names of a method's first `count` prompts.

    Raises:
        UserError: There are fewer than three, which the attention checks need.
    """
    names = [each.name for each in folders_in(method.folder)][:count]
    if len(names) < MIN_PROMPTS:
        raise UserError(
            f"{method.folder}: a study needs {MIN_PROMPTS} prompts at least; each is a folder of "
            "images f1.8.png, f2.8.png ...."
        )
    return names


def image_files(method: Method, prompt: str, f_numbers: Sequence[float]) -> list[Path]:
    """Return the images of a method and prompt, one an f-number.

    Raises:
        UserError: One is missing.
    """
    folder, files = method.folder / prompt, []
    for number in f_numbers:
        choices = [folder / f"f{number:g}.{each}" for each in IMAGE_EXTENSIONS]
        found = [file for file in choices if file.is_file()]
        if not found:
            raise UserError(
                f"{folder}: f{number:g}.png is missing, of method {method.name}; generate it, or "
                "change --f-numbers or --count."
            )
        files.append(found[0])
    return files


def hash_images(method: Method, prompts: Sequence[str], f_numbers: Sequence[float]) -> str:
    return hash_named_files(
        (f"{prompt}/{file.stem}", file)
        for prompt in prompts
        for file in image_files(method, prompt, f_numbers)
    )
