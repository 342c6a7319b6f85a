"""A study's folder: `key.json`, `videos/HASH.mp4`, `answers.jsonl`, and the report.

The names of the videos are salted hashes. Which method a video is of stands in `key.json`, which
the server never serves.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dofsuite.errors import UserError
from dofsuite.evaluation.job import first_difference, shorten
from dofsuite.files import make_folder, parse_json, read_bytes, write_json

KEY = "key.json"
VIDEOS = "videos"
ANSWERS = "answers.jsonl"
# Beside the votes (*ours*): pairs with an unmistakable answer, and votes with the sides exchanged.
NUM_CHECKS, NUM_REPEATS = 3, 2
# Of each aperture in a video (*ours*).
FRAMES_PER_SECOND = 2
NAME_DIGITS = 24


@dataclass(frozen=True)
class Study:
    """What is compared."""

    folder: Path
    # Random, of this study; without it, a video's name says nothing.
    salt: str
    ours: str
    baselines: tuple[str, ...]
    prompts: tuple[str, ...]
    f_numbers: tuple[float, ...]
    width_px: int
    height_px: int
    # Of each participant.
    votes: int

    @property
    def num_questions(self) -> int:
        return self.votes + NUM_CHECKS + NUM_REPEATS

    @property
    def loop_s(self) -> float:
        return len(self.f_numbers) / FRAMES_PER_SECOND

    def video(self, method: str, prompt: str) -> str:
        return self._hash("method", method, prompt)

    # Of the attention checks: our method, with the wrong scene at every aperture.
    def check_video(self, prompt: str) -> str:
        return self._hash("check", prompt)

    def _hash(self, *words: str) -> str:
        digest = hashlib.sha256(json.dumps([self.salt, *words]).encode()).hexdigest()
        return f"{digest[:NAME_DIGITS]}.mp4"

    def path(self, video: str) -> Path:
        return self.folder / VIDEOS / video

    @property
    def names(self) -> dict[str, dict[str, str]]:
        """Return every video's name, by method and prompt; the attention checks are `(check)`."""
        methods = {
            method: {prompt: self.video(method, prompt) for prompt in self.prompts}
            for method in (self.ours, *self.baselines)
        }
        return methods | {"(check)": {prompt: self.check_video(prompt) for prompt in self.prompts}}

    @property
    def missing_videos(self) -> list[str]:
        every = [name for by_prompt in self.names.values() for name in by_prompt.values()]
        return [name for name in every if not self.path(name).is_file()]


def open_or_create(folder: Path, settings: dict[str, Any], image_hashes: dict[str, str]) -> Study:
    """Write a study's key, or check that the one that is there has these settings.

    Args:
        folder: Of the study.
        settings: Fields of `Study`, plain data.
        image_hashes: Of the images, by method.

    Raises:
        UserError: Another study is in this folder, or it cannot be written.
    """
    # The key is written once: answers refer to it
    content = json.loads(json.dumps({"settings": settings, "image_hashes": image_hashes}))
    file = make_folder(folder) / KEY
    if not file.is_file():
        salt = secrets.token_hex(16)
        study = Study(folder=folder, salt=salt, **_with_tuples(settings))
        write_json(file, {"salt": salt, **content, "videos": study.names})
        return study

    # An older one is of the same study
    stored = _read_key(file)
    for part, what in (("settings", "setting"), ("image_hashes", "images of")):
        if stored[part] != content[part]:
            name, old, new = first_difference(stored[part], content[part])
            raise UserError(
                f"{file}: {what} {name}: this study has {shorten(old)}, not {shorten(new)}; name "
                "another folder for another study."
            )
    return Study(folder=folder, salt=stored["salt"], **_with_tuples(stored["settings"]))


def open_study(folder: Path) -> Study:
    """Open a study that `study build` made.

    Raises:
        UserError: There is none, or a video is missing.
    """
    stored = _read_key(folder / KEY)
    study = Study(folder=folder, salt=stored["salt"], **_with_tuples(stored["settings"]))
    if missing := study.missing_videos:
        raise UserError(
            f"{folder}: {len(missing)} videos are missing; run its `study build` command again."
        )
    return study


def _read_key(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"{file.parent}: there is no study; make one by `evaluate study build`.")
    try:
        stored = parse_json(read_bytes(file))
        return {name: stored[name] for name in ("salt", "settings", "image_hashes", "videos")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: it is damaged; build the study in another folder.") from error


def _with_tuples(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
