"""FSDP2 trains as one process does: on two gloo ranks (slow), and on one rank compared with a
run without a strategy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy, ModelParallelStrategy
from safetensors.torch import load_file
from torch import distributed
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from dofsuite.errors import UserError
from dofsuite.text2image import Stages, Text2ImagePipeline, Training
from dofsuite.training.checkpoints.io import read_checkpoint
from dofsuite.training.sharding.strategy import full_state
from tests.text2image.tiny import RoughDepth, tiny_data, tiny_module, train
from tests.training.sharding.sharded_ranks import (
    HALF,
    HALF_STEPS,
    OPTIONS,
    RESUMED_STEPS,
    STEPS,
    STOPPED,
    data_of_both,
)

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


def checkpoint(folder: Path, steps: int) -> dict:
    return read_checkpoint(folder / "checkpoints" / f"step-{steps:08d}.ckpt")


def assert_same(
    one: dict, other: dict, parts=("state_dict", "optimizer_states", "lr_schedulers")
) -> None:
    """Two checkpoints are equal bit for bit."""
    for part in parts:
        torch.testing.assert_close(one[part], other[part], rtol=0, atol=0)


def distance(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """Norm of the difference."""
    return (
        sum(
            (a.double() - b.double()).square().sum().item() for a, b in zip(one, other, strict=True)
        )
        ** 0.5
    )


class Plain(pl.LightningModule):
    """Builds its network and does not shard it."""

    def configure_model(self) -> None:
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())


# --- one rank ---


@pytest.fixture
def one_rank(monkeypatch):
    """Leave no process group and no launcher's environment behind."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "RANK"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    yield {"strategy": "fsdp2", "limit_val_batches": 0}
    if distributed.is_initialized():
        distributed.destroy_process_group()


SHORT = {
    "stages": Stages(teacher=1, deep=0, critic_steps=1, critic_order="same_kind"),
    "training": Training(warmup_steps=2, ema_decay=0.5),
}


@pytest.mark.slow
def test_a_sharded_run_resumes_bit_for_bit_and_trains_as_a_plain_one(tmp_path, one_rank):
    begun, resumed = tmp_path / "begun", tmp_path / "resumed"
    losses = train(tiny_module(**SHORT), 3, begun, **one_rank)
    start = begun / "checkpoints" / "step-00000002.ckpt"  # before the critic's first step
    assert train(tiny_module(**SHORT), 3, resumed, start, **one_rank) == {2: losses[2]}
    assert_same(checkpoint(begun, 3), checkpoint(resumed, 3))
    for step, expected in train(tiny_module(**SHORT), 3).items():
        assert losses[step] == pytest.approx(expected, rel=1e-4), step
    assert train(tiny_module(**SHORT), 3, resume=start)[2] == pytest.approx(losses[2], rel=1e-5)


def test_a_sharded_run_loads_an_unsharded_checkpoint_as_it_is(tmp_path, one_rank):
    train(tiny_module(**SHORT), 2, tmp_path)
    module = tiny_module(**SHORT)
    train(
        module, 2, resume=tmp_path / "checkpoints" / "step-00000002.ckpt", **one_rank
    )  # no step is left
    state, expected = module.state_dict(), checkpoint(tmp_path, 2)
    loaded = {"state_dict": {name: full_state(state[name]) for name in expected["state_dict"]}}
    loaded["optimizer_states"] = [
        full_state(optimizer.state_dict()) for optimizer in module.trainer.optimizers
    ]
    assert_same(loaded, expected, ("state_dict", "optimizer_states"))
    assert all(isinstance(weight, DTensor) for weight in module.trained["generator"].parameters())
    assert isinstance(module.trainer.optimizers[0].state_dict()["state"][0]["exp_avg"], DTensor)


def test_sharded_weights_are_exported_after_training_alone(tmp_path, one_rank):
    class Early(pl.Callback):
        def on_train_end(self, trainer, module) -> None:
            with pytest.raises(UserError, match="when training has ended"):
                module.export(tmp_path / "early")

    module = tiny_module(stages=Stages(deep=6))
    train(module, 1, callbacks=[Early()], **one_rank)
    module.export(tmp_path / "export")
    exported = load_file(tmp_path / "export" / "unet" / "diffusion_pytorch_model.safetensors")
    trained = {
        name: weight.full_tensor()
        for name, weight in module.networks.generator.state_dict().items()
    }
    torch.testing.assert_close(exported, trained, rtol=0, atol=0)


@pytest.mark.parametrize("strategy", [FSDPStrategy(), ModelParallelStrategy()])
def test_lightnings_own_sharding_is_an_error(strategy):
    module = tiny_module()
    module._trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module.trainer._accelerator_connector.strategy = strategy
    with pytest.raises(UserError, match=r"^trainer.strategy: .* write fsdp2"):
        module.setup("fit")


def test_a_module_that_does_not_shard_its_weights_is_an_error(one_rank):
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, **one_rank
    )
    with pytest.raises(UserError, match=r"^trainer.strategy: Plain .* choose ddp"):
        trainer.fit(Plain(), DataLoader([0]))


# --- two ranks ---


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Give the folder of the program's runs on two ranks."""
    folder = tmp_path_factory.mktemp("two")
    run = subprocess.run(
        [sys.executable, "-m", "tests.training.sharding.sharded_ranks", str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Give the same run in one process, with a batch of both ranks' images: its folder, losses
    and module.
    """
    folder, module = tmp_path_factory.mktemp("one"), tiny_module(**OPTIONS)
    data = data_of_both(OPTIONS["stages"], 4, world_size=1)
    losses = train(module, STEPS, folder, data=data, limit_val_batches=0)
    module.export(folder / "export")
    return folder, losses


def reports_of(two: Path, name: str) -> list[dict]:
    """Both ranks' reports of a run."""
    return [json.loads((two / f"{name}-{rank}.json").read_text()) for rank in range(2)]


def assert_mean_losses(
    ranks: list[dict], losses: dict[int, dict[str, float]], tolerance: float
) -> None:
    assert ranks[0]["losses"] != ranks[1]["losses"]
    for step, expected in losses.items():
        mean = {
            name: sum(rank["losses"][str(step)][name] for rank in ranks) / 2 for name in expected
        }
        assert mean == pytest.approx(expected, rel=tolerance, abs=1e-5), step


@pytest.mark.slow
def test_two_ranks_train_as_one_with_checkpointing_micro_batches_clipping_and_ema(two, one):
    folder, losses = one
    assert_mean_losses(reports_of(two, "full"), losses, 1e-3)
    begin = tiny_module(**OPTIONS).state_dict()
    for steps in range(1, STEPS + 1):
        of_two, of_one = checkpoint(two / "full", steps), checkpoint(folder, steps)
        names = list(of_one["state_dict"])
        assert list(of_two["state_dict"]) == names
        states = (of_two["state_dict"], of_one["state_dict"], begin)
        weights, expected, first = ([state[name] for name in names] for state in states)
        assert distance(weights, expected) < 1e-3 * distance(first, expected), steps
        for moments, moments_of_one in zip(
            of_two["optimizer_states"], of_one["optimizer_states"], strict=True
        ):
            both = [state["state"] for state in (moments, moments_of_one)]
            assert both[0].keys() == both[1].keys()
            for name in ("exp_avg", "exp_avg_sq") if both[0] else ():
                mean, mean_of_one = ([values[name] for values in state.values()] for state in both)
                size = distance(mean_of_one, [torch.zeros_like(values) for values in mean_of_one])
                assert distance(mean, mean_of_one) < 3e-4 * size, (steps, name)


@pytest.mark.slow
def test_two_ranks_resume_bit_for_bit(two):
    for uninterrupted, resumed in zip(
        reports_of(two, "full"), reports_of(two, "resumed"), strict=True
    ):
        steps = map(str, range(STOPPED, RESUMED_STEPS))
        assert resumed["losses"] == {step: uninterrupted["losses"][step] for step in steps}
    assert_same(checkpoint(two / "full", RESUMED_STEPS), checkpoint(two / "resumed", RESUMED_STEPS))


@pytest.mark.slow
def test_each_rank_holds_half_of_what_is_sharded(two):
    for rank in reports_of(two, "full"):
        assert rank["share"].keys() == {"generator", "critic", "teacher", "discriminator", "focus"}
        assert all(share == pytest.approx(0.5, abs=0.01) for share in rank["share"].values())
        assert rank["frozen"] == 1


@pytest.mark.slow
def test_gradients_are_reduced_by_the_last_micro_batch(two):
    """A Deep step of the generator, two of the critic, a Shallow one: in two parts, and in one.

    The critic is called twice before its backward pass, so its units have two occasions to send in
    the last part.
    """
    for rank in range(2):
        in_batches, in_one = (reports_of(two, name)[rank]["sent"] for name in ("full", "half"))
        assert min(in_one) > 0
        assert [in_batches[4], in_batches[7]] == [in_one[0], in_one[3]]
        assert all(in_one[step] <= in_batches[4 + step] < 2 * in_one[step] for step in (1, 2))


@pytest.mark.slow
def test_two_ranks_export_what_one_would_and_the_pipeline_loads_it(two, one, tmp_path):
    last = two / "full" / "checkpoints" / f"step-{STEPS:08d}.ckpt"
    module = tiny_module(**OPTIONS)
    train(
        module,
        STEPS,
        resume=last,
        data=data_of_both(OPTIONS["stages"], 4, world_size=1),
        limit_val_batches=0,
    )
    module.export(tmp_path)
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        path.relative_to(two / "export") for path in (two / "export").rglob("*") if path.is_file()
    }
    for file in files:
        if file.suffix == ".safetensors":
            exported = load_file(two / "export" / file)
            torch.testing.assert_close(exported, load_file(tmp_path / file), rtol=0, atol=0)
            torch.testing.assert_close(
                exported, load_file(one[0] / "export" / file), rtol=1e-3, atol=1e-4
            )
        else:
            assert (two / "export" / file).read_bytes() == (tmp_path / file).read_bytes()
    scenes = []
    for folder in (two / "export", one[0] / "export"):
        pipe = Text2ImagePipeline.from_export(folder, depth=RoughDepth(weights=None))
        scenes.append(pipe("a red ball", 4, 100, seed=0, output_type="pt"))
    torch.testing.assert_close(scenes[0].images, scenes[1].images, rtol=0, atol=2e-3)
    torch.testing.assert_close(
        scenes[0].focus_distance, scenes[1].focus_distance, rtol=2e-3, atol=0
    )


@pytest.mark.slow
def test_mixed_precision_with_a_frozen_teacher_in_bfloat16(two, tmp_path):
    """Nearly the same first step; then bfloat16 parts runs as it parts two plain ones with other
    micro-batches.
    """
    module = tiny_module(**HALF)
    begin = {name: value.clone() for name, value in module.state_dict().items()}
    data = tiny_data(HALF["stages"], 4)
    losses = train(
        module, HALF_STEPS, tmp_path, data=data, precision="bf16-mixed", limit_val_batches=0
    )
    assert_mean_losses(reports_of(two, "half"), losses, 0.05)
    first_steps = (
        checkpoint(folder, 1)["optimizer_states"][0]["state"] for folder in (two / "half", tmp_path)
    )
    found, expected = ([state["exp_avg"] for state in states.values()] for states in first_steps)
    assert distance(found, expected) < 0.01 * distance(
        expected, [torch.zeros_like(moment) for moment in expected]
    )
    state = checkpoint(two / "half", HALF_STEPS)["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float32}
    for net in ("generator", "critic", "discriminator", "focus"):
        names = [name for name in state if name.startswith(f"networks.{net}.")]
        found, expected, first = (
            [values[name] for name in names] for values in (state, module.state_dict(), begin)
        )
        assert distance(found, expected) < 0.5 * distance(first, expected), net
