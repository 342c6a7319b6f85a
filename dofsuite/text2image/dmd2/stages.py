"""Whose turn it is: the stages of a run, and cycles of one generator turn and five critic turns (DMD2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from dofsuite.data import CycleMix

Stage = Literal["teacher", "deep", "full"]


class Turn(NamedTuple):
    """One optimiser step that Lightning counts."""

    step: int
    """Number of the turn in the run: Lightning's `global_step`."""
    stage: Stage
    place: int
    """0 is the generator's turn, the others are the critic's."""
    is_shallow: bool
    """Whether this cycle's real pictures are the Shallow DoF set's, and its samples go through the lens."""

    @property
    def is_generator(self) -> bool:
        """Whether the generator learns; otherwise the critic (or the teacher) does."""
        return self.stage != "teacher" and self.place == 0

    @property
    def reuses_generator_sample(self) -> bool:
        """Whether the generator's own sample of the turn before is there to learn from."""
        return self.stage != "teacher" and self.place == 1


@dataclass(frozen=True)
class Stages:
    """How a run is divided, in turns; `trainer.max_steps` ends it.

    Attributes:
        teacher: First turns: the real score itself is trained on the real sets (*ours*: for small
            networks, and for users who adapt SDXL first). The generator and the fake score begin as
            its copies.
        deep: Next turns: DMD2 on the Deep DoF set. Null: all the rest. The paper gives days, not
            turns.
        critic_steps: Turns of the critic for each of the generator (*stated*: 5).

    Raises:
        ValueError: on a negative number, or a deep stage that ends inside a cycle.
    """

    teacher: int = 0
    deep: int | None = None
    critic_steps: int = 5

    def __post_init__(self) -> None:
        """Refuse what cannot be counted, in the words of the experiment file."""
        if self.teacher < 0 or self.critic_steps < 1 or (self.deep or 0) < 0:
            raise ValueError("teacher and deep must be 0 or more, critic_steps 1 or more")
        if self.deep is not None and self.deep % self.steps_per_cycle:
            raise ValueError(
                f"deep: must be a whole number of cycles of {self.steps_per_cycle} turns, not {self.deep}"
            )

    @property
    def steps_per_cycle(self) -> int:
        """Turns of a cycle."""
        return 1 + self.critic_steps

    @property
    def full_from(self) -> int | None:
        """First turn of the full stage, in which the cycles alternate between Deep and Shallow."""
        return None if self.deep is None else self.teacher + self.deep

    @property
    def source_mix(self) -> CycleMix:
        """Return the mix of Deep and Shallow set by which every step sees the set it learns from.

        The teacher's steps draw both in turn, the deep stage's the Deep set, and from the full
        stage on cycles alternate.
        """
        return CycleMix(
            steps_per_cycle=self.steps_per_cycle,
            start_step=self.full_from,
            interleave_steps=self.teacher,
        )

    def generator_has_begun(self, step: int) -> bool:
        """Whether turns before `step` have trained the generator; until then the teacher stands for it."""
        return self.teacher == 0 or step > self.teacher

    def turn(self, step: int) -> Turn:
        """Return whose turn step `step` is, counted from 0; the full stage begins with a Deep cycle."""
        if step < self.teacher:
            return Turn(step, "teacher", 0, False)
        place = (step - self.teacher) % self.steps_per_cycle
        if self.full_from is None or step < self.full_from:
            return Turn(step, "deep", place, False)
        return Turn(step, "full", place, (step - self.full_from) // self.steps_per_cycle % 2 == 1)
