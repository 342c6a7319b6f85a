"""Who is excluded, and whether the intervals hold in simulated studies of known rates."""

from dataclasses import replace
from random import Random

import pytest

from dofsuite.evaluation.study.analysis import (
    failed_checks,
    preferences,
    reason_excluded,
    repeats_agree,
)
from dofsuite.evaluation.study.answers import Participant
from tests.evaluation.study.simulated import RATES, make_study, participant_of


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    # Of one salt: a new one would draw other studies
    return replace(make_study(tmp_path_factory.mktemp("study")), salt="0")


def test_in_100_studies_the_interval_covers_the_planted_rate(study):
    covered = dict.fromkeys(RATES, 0)
    for seed in range(100):
        # Other 25 people each time
        people = [participant_of(study, 25 * seed + n, seed=seed) for n in range(25)]
        for line in preferences(study, people):
            assert line.votes in (83, 84)
            low, high = line.wilson
            covered[line.baseline] += low <= RATES[line.baseline] <= high
    # 95 of 100, within three standard deviations for a baseline and for all six
    assert min(covered.values()) >= 88, covered
    assert sum(covered.values()) >= 554, covered


def test_where_persons_differ_the_interval_over_persons_holds(study):
    """Each person prefers ours with a probability of their own, uniform around the mean."""
    covered = {"wilson": 0, "bootstrap": 0}
    random = Random(0)
    for seed in range(60):
        people = []
        for n in range(25):
            own = dict.fromkeys(RATES, random.choice([0.2, 0.8, 0.8, 1.0, 1.0]))
            people.append(participant_of(study, 25 * seed + n, own, seed))
        for line in preferences(study, people):
            for kind in covered:
                low, high = getattr(line, kind)
                covered[kind] += low <= 0.76 <= high
    assert covered["bootstrap"] / (60 * len(RATES)) >= 0.88
    assert covered["wilson"] < covered["bootstrap"]


def test_votes_alone_count(study):
    """Without repeats and checks nothing changes."""
    people = [participant_of(study, n) for n in range(6)]
    only_votes = [
        Participant(p.number, [a for a in p.answers if a.question.kind == "vote"]) for p in people
    ]
    assert preferences(study, people) == preferences(study, only_votes)
    assert sum(line.votes for line in preferences(study, people)) == 6 * 20


def test_strengths_are_the_odds(study):
    """Half a vote is added to either side."""
    for line in preferences(study, [participant_of(study, n) for n in range(25)]):
        odds = (line.votes - line.wins + 0.5) / (line.wins + 0.5)
        assert line.strength == pytest.approx(odds, rel=1e-6)


def changed(participant, change):
    return participant._replace(answers=[change(i, a) for i, a in enumerate(participant.answers)])


def test_who_fails_two_checks_is_excluded(study):
    def fail(count):
        kept = iter([False] * count + [True] * 25)

        def change(_, answer):
            if answer.question.kind != "check" or next(kept):
                return answer
            return answer._replace(chosen="left" if answer.question.ours == "right" else "right")

        return changed(participant_of(study, 3), change)

    assert [reason_excluded(fail(n), study) for n in (0, 1)] == [None, None]
    assert reason_excluded(fail(2), study) == "failed 2 of 3 attention checks"
    assert failed_checks(fail(3).answers) == 3


def test_who_chooses_one_side_only_is_excluded(study):
    always = changed(participant_of(study, 3), lambda _, a: a._replace(chosen="left"))
    passed = [a for a in always.answers if a.question.kind != "check"]
    reason = reason_excluded(Participant(3, passed), study)
    assert reason == "chose the left side in all of 22 answers"
    assert reason_excluded(Participant(3, passed[:7]), study) is None


def test_who_is_faster_than_the_page_allows_is_excluded(study):
    def taking(seconds):
        return changed(participant_of(study, 3), lambda i, a: a._replace(reaction_s=seconds(i)))

    assert study.loop_s == 4
    assert reason_excluded(taking(lambda i: 4.3), study) is None
    assert reason_excluded(taking(lambda i: 4.3 if i < 13 else 0.1), study) is None
    assert "took 1.0 s for half" in reason_excluded(taking(lambda i: 1.0), study)


def test_repeats_are_consistent_where_the_same_video_is_chosen(study):
    person = participant_of(study, 3, dict.fromkeys(RATES, 1.0))
    assert repeats_agree(person.answers) == (2, 2)
    flipped = changed(
        person,
        lambda _, a: a._replace(chosen="left") if a.question.kind == "repeat" else a,
    )
    lefts = sum(a.question.ours == "left" for a in person.answers if a.question.kind == "repeat")
    assert repeats_agree(flipped.answers) == (lefts, 2)
    assert reason_excluded(flipped, study) is None
    assert repeats_agree(person.answers[:5]) == (0, 0)
