"""The file of answers: appended to, each answer once, nothing lost."""

import json
import resource

import pytest

from dofsuite.errors import UserError
from dofsuite.evaluation.study.answers import AnswerLog, read_answers
from tests.evaluation.study.simulated import make_study


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path, num_prompts=3)


def test_an_answer_is_stored_once_and_the_first_one_stays(study):
    with AnswerLog(study) as log:
        person = log.start()
        assert log.answer(person, 0, "left", 5.0)
        assert not log.answer(person, 0, "right", 6.0)
        with pytest.raises(ValueError, match="not the next"):
            log.answer(person, 2, "left", 5.0)
        with pytest.raises(KeyError):
            log.answer("nobody", 0, "left", 5.0)
    (stored,) = read_answers(study)[person].answers
    assert (stored.chosen, stored.reaction_s) == ("left", 5.0)


def test_ids_cannot_be_guessed(study):
    with AnswerLog(study) as log:
        ids = {log.start() for _ in range(20)}
    assert len(ids) == 20
    assert min(map(len, ids)) >= 22  # 128 bits in base 64


def test_what_is_stored_comes_back(study):
    with AnswerLog(study) as log:
        person = log.start()
        for index in range(study.num_questions):
            log.answer(person, index, "right", 5.0)
        assert read_answers(study) == log.participants
        with pytest.raises(ValueError, match="not the next"):
            log.answer(person, study.num_questions, "left", 5.0)


def test_a_full_disk_stores_nothing_of_the_answer_and_loses_none(study):
    file = study.folder / "answers.jsonl"
    with AnswerLog(study) as log:
        person = log.start()
        log.answer(person, 0, "left", 5.0)
        before = file.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Half of the next line fits
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 60, limits[1]))
        try:
            with pytest.raises(OSError, match="No space"):
                log.answer(person, 1, "left", 5.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert file.read_bytes() == before
        assert log.answer(person, 1, "right", 5.0)
    assert [a.chosen for a in read_answers(study)[person].answers] == ["left", "right"]


@pytest.mark.parametrize("line", ["no JSON", "{}", '{"event": "answer", "participant": "x"}'])
def test_a_damaged_line_is_named(study, line):
    with AnswerLog(study) as log:
        log.start()
    with (study.folder / "answers.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"answers.jsonl: line 2: it is no answer"):
        read_answers(study)


def test_an_answer_that_stands_twice_is_named(study):
    with AnswerLog(study) as log:
        log.answer(log.start(), 0, "left", 5.0)
    file = study.folder / "answers.jsonl"
    start, answer = file.read_text().splitlines()
    assert json.loads(answer)["index"] == 0
    file.write_text("\n".join([start, answer, answer, ""]))
    with pytest.raises(UserError, match="line 3"):
        read_answers(study)
