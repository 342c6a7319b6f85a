"""Which pair a participant sees, and on which side."""

from collections import Counter

import pytest

from dofsuite.evaluation.study.questions import draw_questions, videos_of
from tests.evaluation.study.simulated import RATES, make_study

PEOPLE = 25


def spread(counts, keys):
    found = [counts[key] for key in keys]
    return max(found) - min(found)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def drawn(study):
    return [draw_questions(study, number) for number in range(PEOPLE)]


def test_the_questions_depend_on_study_and_participant_alone(study, drawn):
    assert [draw_questions(study, number) for number in reversed(range(PEOPLE))] == drawn[::-1]
    assert len({tuple(questions) for questions in drawn}) == PEOPLE


def test_twenty_votes_three_checks_two_repeats(drawn):
    for questions in drawn:
        assert Counter(q.kind for q in questions) == {"vote": 20, "check": 3, "repeat": 2}
        assert questions[0].kind == "vote"
        checks = [i for i, q in enumerate(questions) if q.kind == "check"]
        assert checks[0] < 9 < checks[2] + 1
        assert len({questions[i].ours for i in checks}) == 2


def test_a_repeat_is_an_early_vote_with_the_sides_exchanged(drawn):
    for questions in drawn:
        for position, question in enumerate(questions):
            if question.kind == "repeat":
                other = "left" if question.ours == "right" else "right"
                first = questions.index(question._replace(kind="vote", ours=other))
                assert position - first > 5


@pytest.mark.parametrize("num_baselines", [1, 2, 3, 6])
@pytest.mark.parametrize(("num_prompts", "num_votes"), [(25, 20), (3, 20), (25, 7), (2, 4)])
def test_baselines_sides_and_prompts_are_balanced(tmp_path, num_baselines, num_prompts, num_votes):
    names = list(RATES)[:num_baselines]
    study = make_study(tmp_path, names, num_prompts, num_votes)
    total: Counter = Counter()
    for number in range(PEOPLE):
        questions = draw_questions(study, number)
        votes = [q for q in questions if q.kind == "vote"]
        # Baselines, also of one who stops early, and in all
        for stop in range(len(votes) + 1):
            assert spread(Counter(q.baseline for q in votes[:stop]), names) <= 1
        total.update(q.baseline for q in votes)
        assert spread(total, names) <= 1
        # Sides, in all and with each baseline
        for group in [votes, questions, *([q for q in votes if q.baseline == n] for n in names)]:
            assert spread(Counter(q.ours for q in group), ["left", "right"]) <= 1
        assert spread(Counter(q.prompt for q in votes), study.prompts) <= 1


def test_prompts_do_not_go_with_baselines(drawn):
    """Every pair of a prompt and a baseline is about as frequent: 500 votes over 150."""
    counts = Counter((q.prompt, q.baseline) for qs in drawn for q in qs if q.kind == "vote")
    assert len(counts) > 130
    assert max(counts.values()) < 12


def test_both_videos_are_of_the_prompt_and_one_is_ours(study, drawn):
    for question in drawn[0]:
        left, right = videos_of(study, question)
        ours, other = (left, right) if question.ours == "left" else (right, left)
        assert ours == study.video("our method", question.prompt)
        expected = study.names[question.baseline or "(check)"][question.prompt]
        assert other == expected
