"""Micro-batches, clipping, warm-up and the EMA, on a tiny real network."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch

from dofsuite.text2image import Stages, Training
from tests.text2image.tiny import still, tiny_module, train

pytestmark = pytest.mark.filterwarnings(
    "ignore:Found .* eval mode",
    "ignore:The '.*_dataloader' does not have many",
    "ignore:Total length of `list`",
)


class Gradients(pl.Callback):
    """Records the gradients that each step steps with."""

    def __init__(self) -> None:
        self.of: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        named = module.networks.named_parameters()
        self.of.append(
            {name: weight.grad.clone() for name, weight in named if weight.grad is not None}
        )


def test_micro_batches_give_the_gradient_of_the_whole_batch():
    """Of generator and critic, on a Deep and a Shallow cycle; no step changes any weight."""
    found = []
    for parts in (1, 2):
        options = {
            "stages": Stages(deep=0, critic_steps=1),
            "training": Training(micro_batches=parts),
        }
        gradients = Gradients()
        losses = train(tiny_module(still, **options), 4, callbacks=[gradients])
        found.append((gradients.of, losses))
    for step in range(4):
        (total, losses), (parts, part_losses) = ((of[step], losses[step]) for of, losses in found)
        assert part_losses == pytest.approx(losses, rel=1e-4, abs=1e-6)
        assert total.keys() == parts.keys()
        distance = sum((total[name] - parts[name]).square().sum() for name in total).sqrt()
        assert (
            distance < 1e-3 * sum(gradient.square().sum() for gradient in total.values()).sqrt()
        ), step


def test_gradients_are_clipped_to_their_largest_norm():
    """Without a lens, whose focus predictor's gradients are clipped separately, after those of the
    counted optimizer.
    """
    gradients = Gradients()
    train(
        tiny_module(still, lens=None, training=Training(gradient_clip=1e-3)),
        4,
        callbacks=[gradients],
    )
    free = Gradients()
    train(tiny_module(still, lens=None), 4, callbacks=[free])
    for clipped, unclipped in zip(gradients.of, free.of, strict=True):
        norm = torch.cat([gradient.flatten() for gradient in unclipped.values()]).norm()
        assert norm > 1e-3
        for name, gradient in clipped.items():
            torch.testing.assert_close(
                gradient, unclipped[name] * 1e-3 / norm, rtol=1e-3, atol=1e-9
            )


def test_each_optimizer_has_a_warm_up_of_its_own():
    options = Training(warmup_steps={"generator": 2, "critic": 4})
    factors = {
        name: [options.lr_schedule(name).factor(done, 8) for done in range(5)]
        for name in ("generator", "critic", "focus")
    }
    assert factors == {
        "generator": [0.5, 1, 1, 1, 1],
        "critic": [0.25, 0.5, 0.75, 1, 1],
        "focus": [1] * 5,
    }


def test_the_teacher_alone_cools_down_until_its_stage_ends():
    options = Training(warmup_steps={"teacher": 2}, teacher_cooldown_steps=4)
    schedule = options.lr_schedule("teacher")
    assert [schedule.factor(done, 8) for done in range(9)] == [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]
    assert [options.lr_schedule("critic").factor(done, 8) for done in range(9)] == [1] * 9


@pytest.mark.parametrize("steps", [{"critic": -1}, {"fake": 2}, -1])
def test_a_wrong_warm_up_names_its_key(steps):
    with pytest.raises(ValueError, match="warmup_steps"):
        Training(warmup_steps=steps)


class Rates(pl.Callback):
    """Records every optimizer's rate before each step."""

    def __init__(self) -> None:
        self.before: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer, module, *args) -> None:
        rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
        self.before.append(dict(zip(module.trained, rates, strict=True)))


def test_every_optimizers_rate_rises_with_its_own_steps_and_a_resumed_run_goes_on(tmp_path):
    stages = Stages(deep=0, critic_steps=1, critic_order="same_kind")
    options = {"training": Training(warmup_steps=2), "stages": stages}
    rates, resumed = Rates(), Rates()
    train(tiny_module(**options), 4, tmp_path, callbacks=[rates])
    halves = [
        {name: round(rate / 1e-4 * 2, 6) for name, rate in values.items()}
        for values in rates.before
    ]
    assert [values["generator"] for values in halves] == [1, 2, 2, 2]
    assert [values["critic"] for values in halves] == [1, 1, 2, 2]
    assert [values["focus"] for values in halves] == [1, 2, 2, 2]
    train(
        tiny_module(**options),
        4,
        resume=tmp_path / "checkpoints" / "step-00000001.ckpt",
        callbacks=[resumed],
    )
    assert resumed.before == rates.before[1:]


def test_the_ema_is_of_the_generator_alone_and_moves_on_its_steps():
    module = tiny_module(training=Training(ema_decay=0.75), stages=Stages(deep=6, critic_steps=1))
    snapshots = []

    class Snapshots(pl.Callback):
        def on_train_batch_end(self, trainer, module, *args) -> None:
            snapshots.append(
                [weight.detach().clone() for weight in module.networks.generator.parameters()]
            )

    train(module, 5, callbacks=[Snapshots()])
    first, second, third = snapshots[0], snapshots[2], snapshots[4]
    for ema, *weights in zip(
        module.ema_generator.module.parameters(), first, second, third, strict=True
    ):
        expected = 0.75 * (0.75 * weights[0] + 0.25 * weights[1]) + 0.25 * weights[2]
        torch.testing.assert_close(ema, expected, rtol=1e-5, atol=1e-7)
        assert not ema.requires_grad
