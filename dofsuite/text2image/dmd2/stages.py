"""The stages of a run, and its cycles of one generator step and five critic steps (DMD2)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from dofsuite.data import CycleMix

Stage = Literal["teacher", "deep", "full"]


class Step(NamedTuple):
    """One optimizer step that Lightning counts."""

    # Lightning's `global_step`.
    index: int  # type: ignore[assignment]  # hides tuple.index
    stage: Stage
    # Position in the cycle: 0 is the generator's step, the others are the critic's.
    phase_index: int
    # Whether this cycle's real images are the Shallow DoF set's, and its samples go through the
    # lens.
    is_shallow: bool

    @property
    def kind(self) -> Literal["deep", "shallow"]:
        return "shallow" if self.is_shallow else "deep"

    @property
    def is_generator(self) -> bool:
        return self.stage != "teacher" and self.phase_index == 0

    @property
    def reuses_generator_sample(self) -> bool:
        """Whether the critic learns from the sample of the generator step just before."""
        return self.stage != "teacher" and self.phase_index == 1


@dataclass(frozen=True)
class Stages:
    """How a run is divided, in optimizer steps; `trainer.max_steps` ends it."""

    teacher: int = 0
    """First steps: the real score itself is trained on the real sets (*ours*: for small networks,
    and for users who adapt SDXL first). Generator and fake score start as its copies."""
    deep: int | None = None
    """Next steps: DMD2 on the Deep DoF set, full cycles. Null: all the rest. The paper gives days,
    not steps."""
    critic_steps: int = 5
    """Critic steps per generator step (*stated*: 5)."""

    def __post_init__(self) -> None:
        if self.teacher < 0 or self.critic_steps < 1 or (self.deep or 0) < 0:
            raise ValueError("teacher and deep must be 0 or more, critic_steps 1 or more")
        if self.deep is not None and self.deep % self.steps_per_cycle:
            raise ValueError(
                f"deep: must be a whole number of cycles of {self.steps_per_cycle} steps, not "
                f"{self.deep}"
            )

    @property
    def steps_per_cycle(self) -> int:
        return 1 + self.critic_steps

    @property
    def full_from(self) -> int | None:
        """First step of the full stage, in which Deep and Shallow cycles alternate."""
        return None if self.deep is None else self.teacher + self.deep

    @property
    def source_mix(self) -> CycleMix:
        """Return the mix of Deep and Shallow set by which each step sees the set it learns from.

        The teacher's steps draw both in turn, the deep stage's the Deep set, and from the full
        stage on cycles alternate.
        """
        return CycleMix(
            steps_per_cycle=self.steps_per_cycle,
            start_step=self.full_from,
            interleave_steps=self.teacher,
        )

    def generator_has_begun(self, step: int) -> bool:
        """Whether a step before `step` trained the generator; until then the teacher samples."""
        return self.teacher == 0 or step > self.teacher

    def step(self, index: int) -> Step:
        """Return what step `index`, from 0, trains; the full stage begins with a Deep cycle."""
        if index < self.teacher:
            return Step(index, "teacher", 0, False)
        phase_index = (index - self.teacher) % self.steps_per_cycle
        if self.full_from is None or index < self.full_from:
            return Step(index, "deep", phase_index, False)
        cycle = (index - self.full_from) // self.steps_per_cycle
        return Step(index, "full", phase_index, cycle % 2 == 1)
