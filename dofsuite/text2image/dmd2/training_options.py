"""Micro-batches, clipping, warm-up, working copies and the EMA of alternating optimization."""

from dataclasses import dataclass

from dofsuite.training.lr_schedule import LrSchedule

OPTIMIZERS = ("generator", "critic", "focus", "teacher")


@dataclass(frozen=True)
class Training:
    """Optimization settings."""

    micro_batches: int = 1
    """Parts of a batch whose gradients are accumulated for one optimizer step."""
    gradient_clip: float = 10.0
    """Largest gradient norm of each optimizer (*inferred* from DMD2: 10)."""
    warmup_steps: int | dict[str, int] = 0
    """Steps of each optimizer with linear learning-rate warm-up, or by optimizer (`generator`,
    `critic`, `focus`, `teacher`; none where it is not named). *Ours*: 0. DMD2: 500 of a scheduler
    that its 64 processes advance together in every iteration, so 8 of the critic and 2 of the
    generator."""
    teacher_cooldown_steps: int = 0
    """Last steps of the teacher stage, in which the teacher's learning rate falls linearly to 0
    (*ours*)."""
    working_copies: bool = True
    """Under bf16-mixed without sharding, call the UNets from bfloat16 copies of their weights,
    refreshed once per optimizer step (*ours*): autocast would round each weight in every call. The
    norms then run in bfloat16 too, as at inference. 5 GB for each of SDXL's UNets in float32."""
    ema_decay: float | None = None
    """Decay of an EMA of the generator, which is then exported; null for none (as DMD2)."""

    def __post_init__(self) -> None:
        warmup = self.warmup_steps
        by_optimizer = warmup if isinstance(warmup, dict) else dict.fromkeys(OPTIMIZERS, warmup)
        fewest = min(by_optimizer.values(), default=0)
        if self.micro_batches < 1 or self.gradient_clip <= 0:
            raise ValueError("micro_batches must be 1 or more, gradient_clip above 0")
        if min(fewest, self.teacher_cooldown_steps) < 0:
            raise ValueError("warmup_steps and teacher_cooldown_steps must be 0 or more")
        if unknown := sorted(by_optimizer.keys() - set(OPTIMIZERS)):
            raise ValueError(
                f"warmup_steps: {unknown[0]} is no optimizer; name some of {', '.join(OPTIMIZERS)}"
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay: between 0 and 1 is expected, not {self.ema_decay}")

    @property
    def has_lr_schedules(self) -> bool:
        return bool(self.warmup_steps or self.teacher_cooldown_steps)

    def lr_schedule(self, optimizer: str) -> LrSchedule:
        """Return an optimizer's schedule; the teacher's ends with its stage."""
        warmup = self.warmup_steps
        return LrSchedule(
            warmup.get(optimizer, 0) if isinstance(warmup, dict) else warmup,
            self.teacher_cooldown_steps if optimizer == "teacher" else 0,
        )
