"""A step that is not finite is stopped before it is made: in a tiny run, and in both works."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dofsuite.data import Batch, ShardData
from dofsuite.fit import main
from dofsuite.refocus import Refocus
from dofsuite.text2image import Text2Image
from dofsuite.text2image.dmd2.stages import Step
from dofsuite.training import AtomicCheckpointIO, NonfiniteGuard
from dofsuite.training.checkpoints.resume import checkpoints_of
from tests.refocus.tiny import EXPERIMENT as REFOCUS
from tests.tiny_runs import EXPERIMENT as TINY
from tests.tiny_runs import TinyModel

ROOT = Path(__file__).parents[3]
TEXT2IMAGE = yaml.safe_load((ROOT / "experiments" / "quickstart_text2image.yaml").read_text())
TEXT2IMAGE["model"]["init_args"] |= {
    "backbone": {
        "class_path": "dofsuite.backbones.SmallSdxl",
        "init_args": {"downscale": 2, "channels": [32, 32], "num_tokens": 6},
    },
    "size_px": 32,
    "stages": {"teacher": 1, "deep": 18},
}
TEXT2IMAGE["data"]["init_args"] |= {"batch_size": 2, "size_px": 32}
HERE = "tests.training.run.test_nonfinite"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Planted:
    """A module whose loss or gradient is no number at one step."""

    def plant(self) -> bool:
        return self.trainer.global_step == 2

    @property
    def where(self) -> str:
        return os.environ["PLANTED"]

    def in_losses(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.plant():
            return losses
        if self.where == "loss":
            return {name: loss * torch.inf for name, loss in losses.items()}
        if self.where == "gradient":
            weight = next(p for p in self.parameters() if p.requires_grad)
            weight.register_hook(lambda gradient: torch.full_like(gradient, torch.nan))
        return losses


class PlantedTiny(Planted, TinyModel):
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.in_losses({"loss": super().training_step(batch, batch_idx)})["loss"]


class PlantedRefocus(Planted, Refocus):
    def losses(self, *args: Any) -> dict[str, Tensor]:
        return self.in_losses(super().losses(*args))


class PlantedText2Image(Planted, Text2Image):
    def losses(self, *args: Any) -> Any:
        losses, sample = super().losses(*args)
        return self.in_losses(losses), sample


class PlantedData(ShardData):
    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        field = {"picture": "image_srgb", "depth": "disparity"}.get(os.environ["PLANTED"])
        if field is None or self.trainer.global_step != 2 or not self.trainer.training:
            return batch
        values = getattr(batch, field).clone()
        values[-1, 0, 3, 5] = torch.inf if field == "disparity" else torch.nan
        return batch._replace(**{field: values})


def fit(content: dict[str, Any], *words: str) -> int:
    content = copy.deepcopy(content)
    content["checkpoint"] = {"every_n_train_steps": 2}
    Path("x.yaml").write_text(yaml.safe_dump(content))
    return main(["x.yaml", "--trainer.max_steps", "5", *words, "--allow-import", "tests"])


PLANTED_TINY = TINY | {"model": {"class_path": f"{HERE}.PlantedTiny"}}


def last_state(folder: str = "runs/x") -> dict[str, Any]:
    return AtomicCheckpointIO().load_checkpoint(checkpoints_of(Path(folder))[0])


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_is_stopped_before_it_is_made(
    where: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", where)
    assert fit(PLANTED_TINY) == 2
    said = capsys.readouterr().err
    assert said.startswith("runs/x: step 2: not finite: ")
    assert "the step was not made" in said
    assert said.count("\n") == 1
    assert last_state()["global_step"] == 2
    assert len(list(Path("runs/x/nonfinite").iterdir())) == 1


def test_a_batch_that_cannot_be_written_hides_no_reason(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "loss")
    assert fit(PLANTED_TINY, "--trainer.max_steps", "1") == 0
    Path("runs/x/nonfinite").touch()
    assert fit(PLANTED_TINY) == 2
    said = capsys.readouterr().err
    assert said.startswith("runs/x: step 2: not finite: ")
    assert "which could not be written to runs/x/nonfinite/step-00000002-rank0.pt; " in said
    assert said.count("\n") == 1


def test_steps_are_left_out_where_that_is_asked_for(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "loss")
    assert fit(PLANTED_TINY, "--nonfinite.skip", "1") == 0
    assert "left out (1 of 1)" in capsys.readouterr().out
    state = last_state()
    # The step is counted as one of the run, and is none of the optimizer's.
    assert state["global_step"] == 5
    assert {float(each["step"]) for each in state["optimizer_states"][0]["state"].values()} == {4.0}
    assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_a_fused_optimizer_leaves_the_step_out_on_the_device() -> None:
    """What is done on a GPU, where nothing waits: `found_inf`, as a gradient scaler has it."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    for gradient, found in ((1.0, 0.0), (torch.nan, 1.0)):
        before = weight.detach().clone()
        weight.grad = torch.full((3,), gradient)
        optimizer.grad_scale, optimizer.found_inf = None, torch.tensor(found)
        optimizer.step()
        assert bool((weight == before).all()) == bool(found)
    assert float(optimizer.state[weight]["step"]) == 1


class GradientNorms(TorchDispatchMode):
    """Counts the norms that are computed of the gradients of a module's weights."""

    def __init__(self, module: LightningModule) -> None:
        super().__init__()
        self.module, self.count = module, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._overloadpacket.__name__
        if name in ("linalg_vector_norm", "_foreach_norm"):
            grads = [w.grad for w in self.module.parameters() if w.grad is not None]
            places = {grad.data_ptr() for grad in grads}
            normed = args[0] if isinstance(args[0], list) else [args[0]]
            self.count += len(places & {each.data_ptr() for each in normed})
        return func(*args, **(kwargs or {}))


class CountedRefocus(Refocus):
    """Notes how often a step computes a norm of each gradient."""

    counts: ClassVar[list[float]] = []

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        with GradientNorms(self) as norms:
            super().optimizer_step(*args, **options)
        self.counts.append(norms.count / sum(w.grad is not None for w in self.parameters()))


class CountedText2Image(Text2Image):
    counts: ClassVar[list[float]] = []

    def step_optimizers(self, step: Step, active: list[str]) -> None:
        graded = sum(w.grad is not None for name in active for w in self.trained[name].parameters())
        with GradientNorms(self) as norms:
            super().step_optimizers(step, active)
        self.counts.append(norms.count / graded)


@pytest.mark.parametrize(
    ("content", "model", "words"),
    [
        (REFOCUS, CountedRefocus, ("--trainer.gradient_clip_val", "1.0")),
        pytest.param(TEXT2IMAGE, CountedText2Image, (), marks=pytest.mark.slow),
    ],
)
def test_a_step_that_is_checked_clipped_and_logged_computes_one_norm(
    content: dict[str, Any], model: Any, words: tuple[str, ...]
) -> None:
    content = copy.deepcopy(content)
    content["model"]["class_path"] = f"{HERE}.{model.__name__}"
    model.counts.clear()
    words += ("--trainer.limit_val_batches", "0", "--trainer.log_every_n_steps", "1")
    assert fit(content, *words, "--trainer.max_steps", "3") == 0
    assert model.counts == [1.0] * 3


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="skip must be at least 0, not -1"):
        NonfiniteGuard(skip=-1)


WORKS = {
    "refocus": (REFOCUS, "PlantedRefocus", "flow"),
    "text2image": (TEXT2IMAGE, "PlantedText2Image", "teacher"),
}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["picture", "depth", "loss", "gradient"])
@pytest.mark.parametrize(("content", "model", "term"), WORKS.values(), ids=WORKS)
def test_in_both_works_the_sample_or_the_term_is_named(
    content: dict[str, Any],
    model: str,
    term: str,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setenv("PLANTED", where)
    content = copy.deepcopy(content)
    content["model"]["class_path"] = f"{HERE}.{model}"
    content["data"]["class_path"] = f"{HERE}.PlantedData"
    assert fit(content, "--trainer.limit_val_batches", "0") == 2
    said = capsys.readouterr().err
    assert said.startswith("runs/x: step 2: not finite: ")
    assert said.count("\n") == 1
    named = {"picture": "image_srgb", "depth": "disparity", "loss": "loss ", "gradient": "gradient"}
    assert named[where] in said
    # The batch lies beside the run, and the one bad sample is named.
    (path,) = Path("runs/x/nonfinite").iterdir()
    (batch,) = torch.load(path, weights_only=True)["batches"]
    if where in ("picture", "depth"):
        assert f"of the samples {batch['key'][-1]}, which" in said
    assert last_state()["global_step"] == 2
    assert all(value.isfinite().all() for value in last_state()["state_dict"].values())
