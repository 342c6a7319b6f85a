"""The questions of a participant, a function of the study and the participant's number alone.

Paper: video pairs are randomly assigned, 20 a participant. Here: randomly, but balanced (*ours*),
because 500 votes at random would give a baseline 83 +- 8 of them. After any number of votes, the
counts of a participant's baselines differ by at most 1, and after all votes also those of all
participants together, and our method was as often left as right, with each baseline and in all
questions (a difference of 1 where a number is odd). Prompts are taken in turn too.

Beside the votes there are 3 attention checks, one in each third, and 2 repeats: votes of the first
half again near the end, with the sides exchanged.
"""

from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple

from dofsuite.evaluation.study.study import NUM_CHECKS, NUM_REPEATS, Study

Kind = Literal["vote", "check", "repeat"]
Side = Literal["left", "right"]


class Question(NamedTuple):
    kind: Kind
    prompt: str
    # Empty in an attention check.
    baseline: str
    # Side of our method.
    ours: Side


def draw_questions(study: Study, number: int) -> list[Question]:
    """Return the questions of participant `number` (0, 1, ...), in their order."""
    random = Random(f"{study.salt}/{number}")
    votes = _draw_votes(study, number, random)
    count = len(votes)

    # Repeats: of the first half, one a side where there are both, into the last quarter
    early = votes[: count // 2]
    by_side = [[each for each in early if each.ours == side] for side in ("left", "right")]
    one_each = [random.choice(each) for each in by_side if each]
    repeated = one_each if len(one_each) == NUM_REPEATS else random.sample(early, NUM_REPEATS)
    repeats = [each._replace(kind="repeat", ours=_side(each.ours == "right")) for each in repeated]
    questions: list[Question] = list(votes)
    for repeat in repeats:
        questions.insert(random.randint(count - count // 4, len(questions)), repeat)

    # Attention checks: one in each third, on the sides that balance those of all questions
    num_left = sum(each.ours == "left" for each in questions)
    wanted = (len(questions) + NUM_CHECKS + random.randrange(2)) // 2 - num_left
    sides = [index < wanted for index in range(NUM_CHECKS)]
    random.shuffle(sides)
    prompts = random.choices(study.prompts, k=NUM_CHECKS)
    for index in reversed(range(NUM_CHECKS)):
        first = index * len(votes) // NUM_CHECKS + 1
        position = random.randrange(first, first + max(1, len(votes) // NUM_CHECKS))
        questions.insert(position, Question("check", prompts[index], "", _side(sides[index])))
    return questions


def videos_of(study: Study, question: Question) -> tuple[str, str]:
    """Return the names of the left and the right video."""
    ours = study.video(study.ours, question.prompt)
    if question.kind == "check":
        other = study.check_video(question.prompt)
    else:
        other = study.video(question.baseline, question.prompt)
    return (ours, other) if question.ours == "left" else (other, ours)


def _draw_votes(study: Study, number: int, random: Random) -> list[Question]:
    # All participants' votes go on through one cycle of baselines and one of prompts
    first = number * study.votes
    baselines = _shuffle_in_blocks(first, study.votes, len(study.baselines), random)
    prompts = _shuffle_in_blocks(first, study.votes, len(study.prompts), random)
    sides = _balance_sides(baselines, random)
    return [
        Question("vote", study.prompts[prompt], study.baselines[baseline], _side(is_left))
        for baseline, prompt, is_left in zip(baselines, prompts, sides, strict=True)
    ]


def _shuffle_in_blocks(first: int, count: int, size: int, random: Random) -> list[int]:
    # Numbers first, first + 1, ... modulo size; each block of `size` holds each once, in any order
    shuffled = []
    for start in range(0, count, size):
        block = [(first + i) % size for i in range(start, min(start + size, count))]
        random.shuffle(block)
        shuffled += block
    return shuffled


def _balance_sides(groups: Sequence[int], random: Random) -> list[bool]:
    # Half of each group is left; of the groups of odd size, half have one more on the left
    members = {g: [i for i, each in enumerate(groups) if each == g] for g in sorted(set(groups))}
    odd = [g for g, positions in members.items() if len(positions) % 2]
    random.shuffle(odd)
    more_left = odd[random.randrange(2) :: 2]
    left: set[int] = set()
    for g, positions in members.items():
        left.update(random.sample(positions, len(positions) // 2 + (g in more_left)))
    return [index in left for index in range(len(groups))]


def _side(is_left: bool) -> Side:
    return "left" if is_left else "right"
