"""Participants and their answers: one JSON line each in `answers.jsonl`, only ever appended to.

A line is on disk before the participant sees the next question. Each question is answered once:
a double click, a reload or a second tab is no second answer.
"""

import errno
import fcntl
import json
import math
import os
import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from dofsuite.errors import UserError
from dofsuite.evaluation.study.questions import Kind, Question, Side, draw_questions
from dofsuite.evaluation.study.study import ANSWERS, Study
from dofsuite.files import as_user_error, parse_json, read_bytes


class Answer(NamedTuple):
    question: Question
    chosen: Side
    # From the first frame to the answer.
    reaction_s: float

    @property
    def prefers_ours(self) -> bool:
        return self.chosen == self.question.ours


class Participant(NamedTuple):
    # In order of arrival; the questions depend on it.
    number: int
    # In the order of the questions.
    answers: list[Answer]


def read_answers(study: Study) -> dict[str, Participant]:
    """Read the participants of a study, by id.

    Raises:
        UserError: A line is no line of this study.
    """
    participants: dict[str, Participant] = {}
    file = study.folder / ANSWERS
    for number, line in enumerate(_complete_lines(file), 1):
        try:
            _add_line(participants, parse_json(line))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: line {number}: it is no answer; repair that line.") from error
    return participants


def _complete_lines(file: Path) -> Iterator[bytes]:
    # A last line without its end was cut off before its participant was told that it is stored
    if file.is_file():
        yield from read_bytes(file).split(b"\n")[:-1]


def _add_line(participants: dict[str, Participant], line: dict[str, Any]) -> None:
    if line["event"] == "start":
        participants[line["participant"]] = Participant(int(line["number"]), [])
        return
    # Answers come in order, each once
    answers = participants[line["participant"]].answers
    if line["index"] != len(answers) or line["chosen"] not in ("left", "right"):
        raise ValueError("not the next answer")
    kind: Kind = line["kind"]
    question = Question(kind, line["prompt"], line["baseline"], line["ours"])
    answers.append(Answer(question, line["chosen"], float(line["reaction_s"])))


class AnswerLog:
    """The answers of a running study; its methods may be called from several threads.

    Raises:
        UserError: Another server has this study open, or the file cannot be read or written.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.lock = threading.Lock()
        path = study.folder / ANSWERS
        with as_user_error(path):
            self.file = open(path, "ab", buffering=0)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.file.close()
            raise UserError(f"{path}: another server has this study open; stop it.") from error

        # Drop a line that was cut off: nobody was told that it is stored
        data = read_bytes(path)
        if not data.endswith(b"\n"):
            self.file.truncate(data.rfind(b"\n") + 1)
        self.participants = read_answers(study)

    def __enter__(self) -> "AnswerLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def start(self) -> str:
        """Add a participant and return the id: random, so that nobody guesses another's."""
        with self.lock:
            participant, number = secrets.token_urlsafe(16), len(self.participants)
            line = {"event": "start", "participant": participant, "number": number}
            self._append(line)
            return participant

    def next_index(self, participant: str) -> int:
        """Return how many questions a participant has answered. KeyError: there is no such one."""
        return len(self.participants[participant].answers)

    def questions(self, participant: str) -> list[Question]:
        return draw_questions(self.study, self.participants[participant].number)

    def answer(self, participant: str, index: int, chosen: Side, reaction_s: float) -> bool:
        """Store an answer, unless it is stored already; return whether it is new.

        Raises:
            KeyError: There is no such participant.
            ValueError: The question is not the next one, or a value is none.
        """
        # What it answers, and whether it can be an answer
        questions = self.questions(participant)
        if chosen not in ("left", "right") or not 0 <= reaction_s < math.inf:
            raise ValueError("the side is left or right, the time in seconds")
        # Only the next question is open; an earlier one keeps its answer
        with self.lock:
            following = self.next_index(participant)
            if index < following:
                return False
            if index > following or index >= len(questions):
                raise ValueError("not the next question")
            question = questions[index]
            self._append(
                {"event": "answer", "participant": participant, "index": index}
                | question._asdict()
                | {"chosen": chosen, "reaction_s": round(reaction_s, 3)}
            )
            return True

    def _append(self, line: dict[str, Any]) -> None:
        # On disk first, then in memory; a full disk leaves no half line behind
        line = line | {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        data = json.dumps(line).encode() + b"\n"
        descriptor = self.file.fileno()
        length = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, length)
            raise
        _add_line(self.participants, line)
