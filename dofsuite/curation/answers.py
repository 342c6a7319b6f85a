"""Recorded answers of networks: what a classifier, a vision-language model or a captioner said.

A file of JSON lines, `{"name": "photos/a.jpg", "blur": "none", "photograph": "yes", "caption":
"..."}`, each answer optional. A network is run only for the images that have no recorded answer.
"""

from pathlib import Path
from typing import Any

from dofsuite.curation.rules import BLUR_LABELS
from dofsuite.errors import UserError
from dofsuite.files import parse_json, read_bytes

QUESTIONS = ("blur", "photograph", "caption")
Answers = dict[str, dict[str, str]]


def read_answers(path: Path) -> Answers:
    """Read a file of recorded answers, by image name.

    Raises:
        UserError: It cannot be read, or a line is no such object; the line is named.
    """
    answers: Answers = {}
    lines = read_bytes(path, "--answers").decode("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}: --answers: line {number}"
        try:
            row = parse_json(line)
            name = row["name"]
        except (ValueError, TypeError, KeyError):
            raise UserError(f'{where}: it is no JSON object with a "name".') from None
        given = {key: _checked(key, row[key], where) for key in QUESTIONS if key in row}
        answers.setdefault(str(name), {}).update(given)
    return answers


def _checked(key: str, value: Any, where: str) -> str:
    if key == "photograph" and isinstance(value, bool):
        return "yes" if value else "no"
    if key == "blur" and value not in BLUR_LABELS:
        raise UserError(f"{where}: blur: {value!r} is none of {', '.join(BLUR_LABELS)}.")
    if not isinstance(value, str):
        raise UserError(f"{where}: {key}: a text is expected, not {value!r}.")
    return value
