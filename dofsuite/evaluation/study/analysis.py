"""What the answers of a study say: who is excluded, and the rate of each baseline."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from dofsuite.evaluation.statistics import wilson_interval
from dofsuite.evaluation.study.answers import Answer, Participant
from dofsuite.evaluation.study.statistics import (
    binomial_p,
    bootstrap_intervals,
    bradley_terry,
    holm,
)
from dofsuite.evaluation.study.study import NUM_CHECKS, Study

# Rules of exclusion, fixed before any answer is there (*ours*; the paper states none).
MAX_FAILED_CHECKS = 1
# Fewer answers on one side are no sign of anything: 8 are chance once in 128.
MIN_ANSWERS_ONE_SIDE = 8
# Nobody decides faster; the page allows no answer before the first loop is over.
MIN_REACTION_AFTER_LOOP_S = 0.1
# Added to each side's wins, so that strengths are finite where one side won every vote (*ours*).
HALF_A_VOTE = 0.5


class Preference(NamedTuple):
    """How often our method was preferred to a baseline; None where there is no number."""

    baseline: str
    votes: int
    wins: int
    rate: float | None
    wilson: tuple[float, float] | None
    # Over participants.
    bootstrap: tuple[float, float] | None
    # Exact, two-sided, against 1/2; then with Holm's correction over the baselines.
    p: float | None
    p_holm: float | None
    # Bradley-Terry, where ours has strength 1.
    strength: float | None


def reason_excluded(participant: Participant, study: Study) -> str | None:
    """Say why a participant's votes do not count; None where they do."""
    answers = participant.answers
    failed = failed_checks(answers)
    if failed > MAX_FAILED_CHECKS:
        return f"failed {failed} of {NUM_CHECKS} attention checks"
    sides = {answer.chosen for answer in answers}
    if len(answers) >= MIN_ANSWERS_ONE_SIDE and len(sides) == 1:
        return f"chose the {sides.pop()} side in all of {len(answers)} answers"
    times = [answer.reaction_s for answer in answers]
    least = study.loop_s + MIN_REACTION_AFTER_LOOP_S
    if times and median(times) < least:
        return f"took {median(times):.1f} s for half of the answers, less than {least:.1f} s"
    return None


def failed_checks(answers: Sequence[Answer]) -> int:
    return sum(each.question.kind == "check" and not each.prefers_ours for each in answers)


def repeats_agree(answers: Sequence[Answer]) -> tuple[int, int]:
    """Return how many repeated questions were answered as the first time, and how many there are.

    The same video has to be chosen, which is then on the other side.
    """
    votes = {
        each.question._replace(kind="repeat"): each.prefers_ours
        for each in answers
        if each.question.kind == "vote"
    }
    agree = []
    for each in answers:
        if each.question.kind == "repeat":
            first = each.question._replace(
                ours="left" if each.question.ours == "right" else "right"
            )
            agree.append(votes[first] == each.prefers_ours)
    return sum(agree), len(agree)


def preferences(study: Study, participants: Sequence[Participant]) -> list[Preference]:
    """Return one line a baseline; votes alone count, no repeats and no checks."""
    # Wins and votes, [participants, baselines]
    wins, votes = count_votes(study, participants)
    num_wins, num_votes = (each.sum(0).int().tolist() for each in (wins, votes))

    # Tests, corrected over the baselines that have votes; intervals over participants
    tested = [index for index, count in enumerate(num_votes) if count]
    p_values = [binomial_p(num_wins[index], num_votes[index]) for index in tested]
    p = dict(zip(tested, p_values, strict=True))
    adjusted = dict(zip(tested, holm(p_values), strict=True))
    intervals = bootstrap_intervals(wins, votes)
    strengths = strengths_of(num_wins, num_votes)

    # One line a baseline
    lines = []
    for index, baseline in enumerate(study.baselines):
        won, count = num_wins[index], num_votes[index]
        line = Preference(
            baseline=baseline,
            votes=count,
            wins=won,
            rate=won / count if count else None,
            wilson=wilson_interval(won, count) if count else None,
            bootstrap=intervals[index],
            p=p.get(index),
            p_holm=adjusted.get(index),
            strength=strengths[index] if count else None,
        )
        lines.append(line)
    return lines


def count_votes(study: Study, participants: Sequence[Participant]) -> tuple[Tensor, Tensor]:
    """Return ours' wins and the votes, [participants, baselines]."""
    wins = torch.zeros(len(participants), len(study.baselines), dtype=torch.float64)
    votes = torch.zeros_like(wins)
    for row, participant in enumerate(participants):
        for answer in participant.answers:
            if answer.question.kind == "vote":
                column = study.baselines.index(answer.question.baseline)
                votes[row, column] += 1
                wins[row, column] += answer.prefers_ours
    return wins, votes


def strengths_of(wins: Sequence[int], votes: Sequence[int]) -> list[float]:
    """Return the baselines' Bradley-Terry strengths, ours 1.

    Baselines were compared with ours alone, so that the strengths are the odds of the rates: they
    order the baselines on one scale and say no more than the rates do.
    """
    size = len(votes) + 1
    table = torch.zeros(size, size, dtype=torch.float64)
    for index, (won, count) in enumerate(zip(wins, votes, strict=True), 1):
        table[0, index] = won + HALF_A_VOTE
        table[index, 0] = count - won + HALF_A_VOTE
    return bradley_terry(table)[1:].tolist()
