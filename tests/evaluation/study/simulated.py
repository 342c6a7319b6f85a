"""Studies without pictures, and participants whose preference is known."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Thread

from dofsuite.evaluation.study.answers import Answer, AnswerLog, Participant
from dofsuite.evaluation.study.questions import Side, draw_questions
from dofsuite.evaluation.study.server import StudyServer
from dofsuite.evaluation.study.study import Study, open_or_create
from dofsuite.files import write_bytes

RATES = {
    "sdxl <base>": 0.95,
    "distilled": 0.9,
    "tokens": 0.83,
    "fixed": 0.75,
    "taf": 0.6,
    "deep": 0.5,
}
"""How often ours is preferred, by baseline."""
F_NUMBERS = [1.8, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0]


def make_study(
    folder: Path, baselines: Sequence[str] = tuple(RATES), num_prompts: int = 25, votes: int = 20
) -> Study:
    """A study whose videos are a few bytes: nothing here looks at them."""
    settings = {
        "ours": "our method",
        "baselines": list(baselines),
        "prompts": [f"{number:04d}-prompt" for number in range(num_prompts)],
        "f_numbers": F_NUMBERS,
        "width_px": 64,
        "height_px": 48,
        "votes": votes,
    }
    study = open_or_create(folder, settings, {"our method": "0"})
    for name in study.missing_videos:
        write_bytes(study.path(name), name.encode() * 10)
    return study


def participant_of(
    study: Study, number: int, rates: dict[str, float] = RATES, seed: int = 0
) -> Participant:
    """One who prefers ours with the probability of the baseline, and passes all checks."""
    random, answers = Random(f"{seed}/{number}"), []
    for question in draw_questions(study, number):
        likes_ours = question.kind == "check" or random.random() < rates[question.baseline]
        other: Side = "right" if question.ours == "left" else "left"
        answers.append(Answer(question, question.ours if likes_ours else other, 6.0))
    return Participant(number, answers)


class HttpParticipant:
    """Does what the page does, over a connection of its own."""

    def __init__(self, study: Study, port: int, seed: int) -> None:
        self.method_of = {
            name: (method, prompt)
            for method, by_prompt in study.names.items()
            for prompt, name in by_prompt.items()
        }
        self.port, self.random = port, Random(seed)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.received: list[bytes] = []
        self.id = self.request("POST", "/start", {})["participant"]

    def request(self, method: str, path: str, content: object = None) -> dict:
        body = None if content is None else json.dumps(content)
        headers = {"Content-Type": "application/json"} if body else {}
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        data = response.read()
        self.received.append(str(response.headers).encode() + data)
        assert response.status == 200, data
        return json.loads(data)

    def question(self) -> dict:
        return self.request("GET", f"/question?p={self.id}")

    def choice(self, question: dict) -> Side:
        method, prompt = self.method_of[question["left"]]
        other, other_prompt = self.method_of[question["right"]]
        assert prompt == other_prompt
        assert (method == "our method") != (other == "our method")
        rival = other if method == "our method" else method
        likes_ours = rival == "(check)" or self.random.random() < RATES[rival]
        return "left" if likes_ours == (method == "our method") else "right"

    def answer(self, question: dict, chosen: Side) -> dict:
        content = {"participant": self.id, "index": question["index"], "chosen": chosen}
        return self.request("POST", "/answer", content | {"reaction_s": 5 + self.random.random()})

    def take_part(self, stop_at: int = 99, times: int = 1) -> None:
        """Answer until the end or a question; `times` 2 clicks twice."""
        question = self.question()
        while question["index"] < min(question["total"], stop_at):
            chosen = self.choice(question)
            for _ in range(times):
                following = self.answer(question, chosen)
            question = following

    def close(self) -> None:
        self.connection.close()


@contextmanager
def serving(study: Study) -> Iterator[StudyServer]:
    with AnswerLog(study) as log, StudyServer(log, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def in_threads(functions: Sequence[Callable[[], object]]) -> None:
    """Run all at once; an error in one is an error here."""
    errors: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
