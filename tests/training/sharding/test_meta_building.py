"""Networks that are to be sharded are built without weights, and dealt those of the loaded one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from diffusers import UNet2DConditionModel
from torch import distributed
from torch.distributed.tensor import DTensor

from dofsuite.backbones import SmallSdxl
from dofsuite.text2image import FocusPredictorConfig, Stages, Text2Image, Training
from dofsuite.training.sharding.strategy import full_state
from tests.text2image.tiny import SIZE_PX, SIZES, RoughDepth, RoughSaliency, adam, train

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


class StoredSdxl(SmallSdxl):
    """A UNet in a file of safetensors, as a pretrained one."""

    unet_folder = Path()

    def load(self) -> Any:
        unet = UNet2DConditionModel.from_pretrained(self.unet_folder, torch_dtype=torch.float32)
        return super().load()._replace(unet=unet.eval().requires_grad_(False))


def module(folder: Path, **options: Any) -> Text2Image:
    """Not built yet: it is by the trainer, once there is a device mesh."""
    backbone = StoredSdxl(**SIZES, prediction="epsilon")
    backbone.unet_folder = folder
    optimizers = {f"{name}_optimizer": adam for name in ("generator", "critic", "teacher", "focus")}
    return Text2Image(
        backbone=backbone,
        depth=RoughDepth(weights=None),
        saliency=RoughSaliency(weights=None),
        focus=FocusPredictorConfig(small=True),
        size_px=SIZE_PX,
        **{"stages": Stages(teacher=1, deep=0), **optimizers, **options},
    )


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        SmallSdxl(**SIZES).load().unet.save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


@pytest.fixture
def one_rank(monkeypatch: pytest.MonkeyPatch):
    """Leave no process group and no launcher's environment behind."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "RANK"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    yield {"strategy": "fsdp2", "limit_val_batches": 0}
    if distributed.is_initialized():
        distributed.destroy_process_group()


class Begin(pl.Callback):
    """Keeps what training begins with, gathered."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        state = full_state(pl_module.state_dict())
        self.state = {name: value.clone() for name, value in state.items()}


@pytest.mark.parametrize(
    "options",
    [
        {"training": Training(ema_decay=0.5), "exif_conditioned": ("critic",)},
        pytest.param(
            {"teacher_dtype": "bfloat16", "stages": Stages(deep=0, critic_steps=1)},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["exif and ema", "bfloat16 teacher"],
)
def test_dealt_weights_are_those_of_an_unsharded_run_and_train(
    stored: Path, one_rank: dict[str, Any], options: dict[str, Any]
) -> None:
    plain = module(stored, **options)
    plain.configure_model()
    sharded, begin = module(stored, **options), Begin()
    losses = train(sharded, 1, callbacks=[begin], **one_rank)
    assert all(isinstance(weight, DTensor) for weight in sharded.networks.teacher.parameters())
    assert sharded.networks.loaded == {}
    expected = {name: value.clone() for name, value in plain.state_dict().items()}
    torch.testing.assert_close(begin.state, expected, rtol=0, atol=0)
    assert losses[0] == pytest.approx(train(plain, 1, limit_val_batches=0)[0], rel=1e-4)


@pytest.mark.slow
def test_a_rank_holds_its_part_of_three_unets_and_never_a_whole_one(tmp_path: Path) -> None:
    """The private memory of each of two processes while it builds; the loaded UNet is mapped."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.training.sharding.meta_ranks", str(tmp_path)],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    for rank in range(2):
        report = json.loads((tmp_path / f"{rank}.json").read_text())
        # Half of three UNets, the networks that are built before they are sharded, and half a UNet
        # for imports (.36 measured). Built whole, they took 2 before their shards and imports.
        expected = 1.5 * report["unet_bytes"] + 1.5 * report["other_bytes"]
        assert report["peak"] < expected + 0.5 * report["unet_bytes"], report
