"""The average of a LoRA on a frozen base, by Lightning's callback: closed form, resume, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml

from dofsuite.data import ShardData
from dofsuite.experiment.command import read_command
from dofsuite.experiment.experiment import read_experiment
from dofsuite.training import EmaWeights, RunCheckpoint
from dofsuite.training.checkpoints.io import read_checkpoint
from dofsuite.training.checkpoints.resume import checkpoint_path
from tests.cpu_trainer import cpu_trainer
from tests.refocus.tiny import EXPERIMENT, tiny_module

STATE = "EmaWeights"


def train(folder: Path, steps: int, resume: Path | None = None) -> pl.LightningModule:
    module = tiny_module()
    callbacks = [EmaWeights(decay=0.5), RunCheckpoint(every_n_train_steps=1, keep=100)]
    trainer = cpu_trainer(folder, steps, callbacks, limit_val_batches=0)
    data = ShardData(train={"photo": "synthetic:photo"}, batch_size=2, size_px=32)
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    return module


def average_in(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    (state,) = [value for key, value in checkpoint["callbacks"].items() if STATE in key]
    return state["average"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_average_of_a_lora_is_the_closed_form_is_resumed_and_is_exported(
    tmp_path: Path,
) -> None:
    module = train(tmp_path / "run", 4)
    saved = [read_checkpoint(checkpoint_path(tmp_path / "run", step)) for step in range(1, 5)]
    # Closed form: the first weights, then half of the old average and half of the new weights.
    expected = saved[0]["state_dict"]
    for checkpoint in saved[1:]:
        weights = checkpoint["state_dict"]
        expected = {k: 0.5 * expected[k] + 0.5 * weights[k] for k in expected}
        torch.testing.assert_close(average_in(checkpoint), expected)
    # The base is in no checkpoint, and the weights are their own, not the average.
    trained = {name for name, weight in module.named_parameters() if weight.requires_grad}
    assert saved[-1]["state_dict"].keys() == average_in(saved[-1]).keys() == trained
    assert len(trained) < len(dict(module.named_parameters()))
    difference = [
        (saved[-1]["state_dict"][k] - average_in(saved[-1])[k]).abs().max() for k in trained
    ]
    assert max(difference) > 0
    # After training the module has the average, which is exported.
    for name, weight in module.named_parameters():
        if name in trained:
            assert torch.equal(weight, average_in(saved[-1])[name])
    # Resumed in the middle, bit for bit.
    train(tmp_path / "resumed", 4, checkpoint_path(tmp_path / "run", 2))
    resumed = read_checkpoint(checkpoint_path(tmp_path / "resumed", 4))
    for part in ("state_dict", "optimizer_states", "callbacks"):
        torch.testing.assert_close(resumed[part], saved[-1][part], rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_checkpoint_in_a_validation_holds_the_weights_and_the_average(tmp_path: Path) -> None:
    ema, checkpoint = EmaWeights(decay=0.5), {"state_dict": {"w": torch.ones(1)}}
    ema._trained = {"w": torch.nn.Parameter(torch.ones(1))}
    ema._average_model = torch.optim.swa_utils.AveragedModel(ema._weights())
    next(ema._average_model.module.parameters()).data.fill_(3)
    before = ema.state_dict()
    ema._swap_models(ema._weights())
    assert ema._trained["w"].item() == 3
    checkpoint["state_dict"]["w"] = ema._trained["w"].detach()
    ema.on_save_checkpoint(None, None, checkpoint)
    assert checkpoint["state_dict"]["w"].item() == 1
    torch.testing.assert_close(ema.state_dict(), before)


def test_an_experiment_names_it(tmp_path: Path) -> None:
    callback = {"class_path": "dofsuite.training.EmaWeights", "init_args": {"decay": 0.99}}
    content = {**EXPERIMENT, "trainer": {**EXPERIMENT["trainer"], "callbacks": [callback]}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    config = read_experiment(read_command([str(tmp_path / "x.yaml")])).config
    assert config["trainer"]["callbacks"][0]["init_args"]["decay"] == 0.99
    with pytest.raises(ValueError, match="decay: between 0 and 1"):
        EmaWeights(decay=1.0)
