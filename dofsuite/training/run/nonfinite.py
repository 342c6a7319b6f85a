"""A step whose batch, loss or gradient is not finite is not made, and its samples are named.

The check is one number on the device, from the gradient's norm, the losses and the batch, and
nothing waits for it: a fused optimizer leaves its step out where the number says so
(`Optimizer.found_inf`, as a gradient scaler would have it), and the number is read a step later. On
a CPU, and for an optimizer that is not fused, it is read at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from dofsuite.errors import UserError
from dofsuite.files import write_atomic
from dofsuite.training.sharding.fsdp import full

# Fields of a batch that are NaN where a photograph's EXIF says nothing.
MAY_BE_NAN = ("f_number", "focal_length_mm", "sensor_width_mm", "width_px")
MOST_KEYS = 8


@dataclass
class _Step:
    """What went into one optimizer step."""

    number: int
    batches: list[Any] = field(default_factory=list)
    terms: list[Mapping[str, Tensor]] = field(default_factory=list)
    # [] bool on the device, each true where something is not finite.
    flags: list[Tensor] = field(default_factory=list)
    # [] on the CPU, once the copy `is_read` is done: whether any of them was.
    found: Tensor | None = None
    is_read: Any = None
    is_reported: bool = False


class NonfiniteGuard(Callback):
    """Stop before an optimizer step that is not finite; write its batch beside the run.

    A module may keep the terms of its last loss as `loss_terms`; those that are not finite are
    named.
    """

    def __init__(self, skip: int = 0) -> None:
        """Choose how many such steps a start may leave out.

        Args:
            skip: Steps that are left out, and said, before the run ends (*ours*: none).
        """
        if skip < 0:
            raise ValueError(f"skip must be at least 0, not {skip}")
        self.skip, self.skipped = skip, 0
        self._step: _Step | None = None
        self._pending: list[_Step] = []
        # [] of each optimizer's gradients, from the first who wants it to the next backward pass.
        self._norms: dict[Optimizer, Tensor] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # A new step begins when the last one was made; the one before may have been read by now.
        if self._step is None or self._step.number != trainer.global_step:
            self._read(trainer, wait=False)
            self._step = _Step(trainer.global_step)
        self._step.batches.append(batch)
        self._step.flags += [~each.isfinite().all() for each in _floats(batch).values()]

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        self._norms.clear()
        if self._step is not None:
            self._step.flags.append(~loss.detach().isfinite().all())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Check the step that is about to be made, of all ranks."""
        # A gradient scaler has a check of its own, and infinities are its daily business.
        if self._step is None or getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        self.check_step(trainer, pl_module, optimizer)

    def check_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Check a step of `optimizer`, which a module may also make past Lightning.

        Raises:
            UserError: It is not finite, and no more such steps may be left out.
        """
        step = self._step
        if step is None:
            return
        # One number, of all ranks.
        norm = full(self.gradient_norm(optimizer))
        device = norm.device
        found = torch.stack([~norm.isfinite(), *(each.to(device) for each in step.flags)]).any()
        if trainer.world_size > 1:
            found = trainer.strategy.reduce(found.float(), reduce_op="sum") > 0
        if not step.terms or step.terms[-1] is not getattr(pl_module, "loss_terms", None):
            step.terms.append(getattr(pl_module, "loss_terms", {}))

        # Left out on the device, and read later.
        if device.type == "cuda" and optimizer.param_groups[0].get("fused"):
            optimizer.grad_scale = None  # type: ignore[attr-defined]
            optimizer.found_inf = found.float()  # type: ignore[attr-defined]
            step.found = torch.empty((), dtype=torch.bool, pin_memory=True)
            step.found.copy_(found, non_blocking=True)
            step.is_read = torch.cuda.Event()
            step.is_read.record()
            self._pending.append(step)
        # Read at once: a step without gradients changes nothing.
        elif bool(found):
            self._report(trainer, step)
            for weight in _weights(optimizer):
                weight.grad = None

    def gradient_norm(self, optimizer: Optimizer) -> Tensor:
        """Return the norm of an optimizer's gradients, computed once after a backward pass.

        Clipping changes it no more: it is that before.
        """
        if optimizer not in self._norms:
            self._norms[optimizer] = _total_norm(optimizer)
        return self._norms[optimizer]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read(trainer, wait=True)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._read(trainer, wait=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read(trainer, wait=True)
        self._step = None

    def _read(self, trainer: Trainer, wait: bool) -> None:
        """Read what has arrived of earlier steps, or all of them."""
        while self._pending and (wait or self._pending[0].is_read.query()):
            step = self._pending.pop(0)
            step.is_read.synchronize()
            if step.found is not None and bool(step.found):
                self._report(trainer, step)

    def _report(self, trainer: Trainer, step: _Step) -> None:
        # Once, where a batch makes several steps.
        if step.is_reported:
            return
        step.is_reported = True
        folder = Path(trainer.default_root_dir)
        # The batch beside the run, and what of it is not finite.
        path = folder / "nonfinite" / f"step-{step.number:08d}-rank{trainer.global_rank}.pt"
        try:
            _write(path, step)
            kept = f"which lie in {path}"
        except UserError:  # a full disk, say: what is not finite is said all the same
            kept = f"which could not be written to {path}"
        what = (
            f"{folder}: step {step.number}: not finite: {', '.join(_causes(step))}; of the samples "
            f"{_keys(step)}, {kept}"
        )
        if self.skipped >= self.skip:
            raise UserError(
                f"{what}; the step was not made: mend or leave out the samples, lower the learning "
                "rate (in another folder), or add --nonfinite.skip 1."
            )
        self.skipped += 1
        print(f"{what}; left out ({self.skipped} of {self.skip}).", flush=True)


def make_step(module: LightningModule, optimizer: Optimizer) -> None:
    """Make a step past Lightning, checked like others. Raises as `NonfiniteGuard.check_step`."""
    for guard in _guards(module):
        guard.check_step(module.trainer, module, optimizer)
    optimizer.step()


def gradient_norm(module: LightningModule, optimizer: Optimizer) -> Tensor:
    """Return the norm [] of an optimizer's gradients before clipping, the guard's where one is."""
    for guard in _guards(module):
        return guard.gradient_norm(optimizer)
    return _total_norm(optimizer)


def clip_gradients(module: LightningModule, optimizer: Optimizer, max_norm: float) -> Tensor:
    """Clip as `nn.utils.clip_grad_norm_`, by `gradient_norm`; return that norm."""
    norm = gradient_norm(module, optimizer)
    nn.utils.clip_grads_with_norm_(_weights(optimizer), max_norm, norm)
    return norm


def _guards(module: LightningModule) -> list[NonfiniteGuard]:
    callbacks: list[Any] = getattr(module.trainer, "callbacks", [])
    return [each for each in callbacks if isinstance(each, NonfiniteGuard)]


def _weights(optimizer: Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _total_norm(optimizer: Optimizer) -> Tensor:
    gradients = [weight.grad for weight in _weights(optimizer) if weight.grad is not None]
    return nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())


# Tensors of a batch that should be finite, by name.
def _floats(batch: Any) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in _fields(batch)
        if isinstance(value, Tensor) and value.is_floating_point() and name not in MAY_BE_NAN
    }


def _fields(batch: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(batch, "_asdict"):
        yield from batch._asdict().items()
    elif isinstance(batch, Mapping):
        yield from ((str(name), value) for name, value in batch.items())
    else:
        yield from ((f"batch[{i}]", value) for i, value in enumerate(_as_list(batch)))


def _as_list(batch: Any) -> list[Any]:
    return list(batch) if isinstance(batch, list | tuple) else [batch]


def _causes(step: _Step) -> list[str]:
    """Name what is not finite: fields of the batch, terms of the loss, or the gradient alone."""
    fields = dict.fromkeys(
        name
        for batch in step.batches
        for name, value in _floats(batch).items()
        if not bool(value.isfinite().all())
    )
    terms = dict.fromkeys(
        name
        for each in step.terms
        for name, value in each.items()
        if not bool(torch.as_tensor(value).isfinite().all())
    )
    found = [*fields, *(f"loss {name}" for name in terms)]
    return found or ["the gradient or the loss"]


def _keys(step: _Step) -> str:
    """Return the keys of the samples that are not finite themselves, or else of all."""
    bad, every = [], []
    for batch in step.batches:
        keys = list(getattr(batch, "key", ()))
        every += keys
        for value in _floats(batch).values():
            if value.ndim and len(value) == len(keys):
                finite = value.isfinite().flatten(1).all(1) if value.ndim > 1 else value.isfinite()
                bad += [key for key, good in zip(keys, finite.tolist(), strict=True) if not good]
    keys = list(dict.fromkeys(bad or every))
    more = f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else ""
    return (", ".join(keys[:MOST_KEYS]) + more) or "of this step"


def _write(path: Path, step: _Step) -> None:
    """Write a step's batches as plain values and tensors, which `torch.load` reads alone."""
    batches = [
        {
            name: value.detach().cpu() if isinstance(value, Tensor) else value
            for name, value in _fields(batch)
        }
        for batch in step.batches
    ]
    write_atomic(path, lambda file: torch.save({"step": step.number, "batches": batches}, file))
