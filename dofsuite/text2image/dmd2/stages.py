"""The stages of a run, and its cycles of one generator step and five critic steps (DMD2)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from dofsuite.data import CycleMix

Stage = Literal["teacher", "deep", "full"]
CriticOrder = Literal["same_kind", "mixed", "critic_first"]


class Step(NamedTuple):
    """One optimizer step that Lightning counts."""

    # Lightning's `global_step`.
    index: int  # type: ignore[assignment]  # hides tuple.index
    stage: Stage
    # Whether it trains the generator; otherwise fake score and discriminator, or the teacher.
    is_generator: bool
    # Whether its real images are the Shallow DoF set's, and its samples go through the lens.
    is_shallow: bool
    # Whether the critic learns from the sample of the generator step just before.
    reuses_generator_sample: bool

    @property
    def kind(self) -> Literal["deep", "shallow"]:
        return "shallow" if self.is_shallow else "deep"


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
    critic_order: CriticOrder = "critic_first"
    """Order of the full stage. `critic_first` (*ours*): in each cycle the critic's steps of a kind
    come before the generator's of that kind, on samples of their own. `same_kind` (*inferred* from
    "we alternate"): the generator's step, then the critic's of the same kind; the next generator
    step meets a fake score that has last seen the other kind. `mixed` (*ours*): the critic's steps
    alternate between both kinds in every cycle, the generator's between cycles. Paper: "we
    alternate", without an order within a cycle. Here: `critic_first`, because on the small run it
    is better than `same_kind` in KID and FID for each of three seeds (docs/training.md)."""

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
        pattern: tuple[bool, ...] = ()
        if self.critic_order == "mixed":
            pattern = tuple(self._place(place)[1] for place in range(2 * self.steps_per_cycle))
        return CycleMix(
            steps_per_cycle=self.steps_per_cycle,
            start_step=self.full_from,
            interleave_steps=self.teacher,
            draws_second=pattern,
        )

    @property
    def first_shallow(self) -> int | None:
        """First step that learns from the Shallow DoF set, after the teacher's."""
        if self.full_from is None:
            return None
        places = range(2 * self.steps_per_cycle)
        return self.full_from + next(place for place in places if self._place(place)[1])

    def generator_has_begun(self, step: int) -> bool:
        """Whether a step before `step` trained the generator; until then the teacher samples."""
        return self.teacher == 0 or step > self.teacher

    def step(self, index: int) -> Step:
        """Return what step `index`, from 0, trains; the full stage begins with a Deep cycle."""
        if index < self.teacher:
            return Step(index, "teacher", False, False, False)
        if self.full_from is None or index < self.full_from:
            place = (index - self.teacher) % self.steps_per_cycle
            return Step(index, "deep", place == 0, False, place == 1)
        place = (index - self.full_from) % (2 * self.steps_per_cycle)
        is_generator, is_shallow = self._place(place)
        reuses = place % self.steps_per_cycle == 1 and self.critic_order != "critic_first"
        return Step(index, "full", is_generator, is_shallow, reuses)

    def _place(self, place: int) -> tuple[bool, bool]:
        """Return (is_generator, is_shallow) of a place in the full stage's two cycles."""
        cycle, position = divmod(place, self.steps_per_cycle)
        is_shallow = cycle == 1
        if self.critic_order == "critic_first":
            return position == self.critic_steps, is_shallow
        # Its own kind at 0 (the generator) and at 1, whose sample is the generator's.
        if self.critic_order == "mixed" and position > 0 and position % 2 == 0:
            return False, not is_shallow
        return position == 0, is_shallow
