"""Runs and exports of the commit before the great renaming (fcb67ae) go on and load as they did.

The archive holds two run folders at step 2 with the old keys (text2image between a generator step
and the critic steps, so that its checkpoint holds the buffered sample), what that commit logged up
to step 4, its exports, and figures of what its pipelines made of them.
"""

from __future__ import annotations

import copy
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dofsuite.fit import main
from dofsuite.training.run.renamed_keys import translated

ARCHIVE = Path(__file__).parent / "fixtures" / "before_house.tar.xz"
LOG_NAMES = {
    "train/matching_deep": "train/dm/deep",
    "train/fooling_deep": "train/gan_generator/deep",
    "train/denoising": "train/fake_score",
    "train/discriminating": "train/gan_discriminator",
}
"""Old name -> new name of what text2image logs."""
SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.0}}
MODELS = {
    "text2image": {
        "class_path": "dofsuite.text2image.Text2Image",
        "init_args": {
            "backbone": {
                "class_path": "dofsuite.backbones.SmallSdxl",
                "init_args": {"weights": "base", "num_tokens": 6},
            },
            # The default of that day.
            "depth": {
                "class_path": "dofsuite.backbones.DepthAnything",
                "init_args": {"path": "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"},
            },
            "lens": None,
            "size_px": 32,
            "exif_conditioned": ["critic", "teacher"],
            "guidance_scale": 2.0,
            "stages": {"teacher": 1, "deep": 6},
            "training": {"ema_decay": 0.9, "warmup_steps": 2},
            "generator_optimizer": SGD,
            "critic_optimizer": SGD,
            "teacher_optimizer": SGD,
        },
    },
    "refocus": {
        "class_path": "dofsuite.refocus.Refocus",
        "init_args": {
            "backbone": {
                "class_path": "dofsuite.backbones.SmallFlux",
                "init_args": {"weights": None, "heads": 2, "single_blocks": 1, "downscale": 2},
            },
            "lora": {"rank": 2},
            "rendering": {"gamma": 2.2, "layers": 9, "reference_width_px": 256},
            "timestep_sampling": {"shift": 60.0},
            "split_backward": "losses",
            "stacking": {"weight": 0.5},
            "lr_schedule": {"warmup_steps": 1},
            "probe": {"scenes": 3, "sheet_scenes": 1},
            "num_inference_steps": 2,
        },
    },
}
DATA: dict[str, dict[str, Any]] = {
    "text2image": {
        "train": {"deep": "synthetic:deep", "shallow": "synthetic:shallow"},
        "batch_size": 2,
        "size_px": 32,
        "require_captions": True,
        "require_exif": True,
    },
    "refocus": {
        "train": {"photo": "synthetic:photo", "texture": "synthetic:texture"},
        "val": "synthetic:val",
        "batch_size": 2,
        "val_batch_size": 3,
        "size_px": 32,
        "source_mix": {
            "class_path": "dofsuite.data.ShareRamp",
            "init_args": {"start_share": 0.33, "end_share": 0.33},
        },
    },
}
WORKS = list(MODELS)
# Since the archive was made, refocus takes disparity from 0 to 1 over the square, not the frame.
TOLERANCE = {"text2image": 1e-5, "refocus": 1e-3}


def same(figure: Any) -> Any:
    """To six digits: another processor rounds its sums in another order."""
    return pytest.approx(figure, rel=1e-6)


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The unpacked archive, as the working directory (a run names its base relative to it)."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def experiment_of(work: str) -> dict[str, Any]:
    """The old experiment in the keys of today."""
    experiment = {
        "seed_everything": 0,
        "model": MODELS[work],
        "data": {"class_path": "dofsuite.data.ShardData", "init_args": DATA[work]},
        "trainer": {
            "max_steps": 4,
            "accelerator": "cpu",
            "limit_val_batches": 0,
            "log_every_n_steps": 1,
        },
    }
    return copy.deepcopy(experiment)


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("work", WORKS)
def test_an_old_run_goes_on_with_the_same_losses(work: str, before: Path) -> None:
    experiment = experiment_of(work)
    Path("now.yaml").write_text(yaml.safe_dump(experiment))
    assert [row["step"] for row in rows_of(before / work / "metrics.jsonl")] == [1, 2]
    assert main(["now.yaml", "--trainer.default_root_dir", work]) == 0
    expected = [
        {LOG_NAMES.get(name, name): value for name, value in row.items()}
        for row in rows_of(before / f"{work}_expected.jsonl")
    ]
    assert [row["step"] for row in expected] == [1, 2, 3, 4]
    went_on = rows_of(before / work / "metrics.jsonl")
    for now, before_then in zip(went_on[2:], expected[2:], strict=True):
        shared = {name: now[name] for name in before_then}  # more is logged now
        assert shared == pytest.approx(before_then, rel=TOLERANCE[work])


@pytest.mark.parametrize("work", WORKS)
def test_an_old_experiment_file_is_refused(
    work: str, before: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"{work}.yaml", "--trainer.default_root_dir", "elsewhere"]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"{work}.yaml" in sentence
    assert not Path("elsewhere").exists()


OLD_KEYS = [
    ("text2image", "model", "exif", ["critic"], "exif_conditioned"),
    ("text2image", "model", "guidance", 2.0, "guidance_scale"),
    ("text2image", "model", "teacher_bfloat16", True, "teacher_dtype"),
    ("text2image", "model", "head_float32", True, "discriminator_dtype"),
    ("text2image", "model", "stages", {"critic_turns": 5}, "stages.critic_steps"),
    ("text2image", "model", "training", {"warmup_turns": 2}, "training.warmup_steps"),
    ("text2image", "data", "schedule", {"turns": 6}, "source_mix"),
    ("text2image", "data", "train", {"deep": "embedded:deep"}, "synthetic:deep"),
    ("refocus", "model", "draws", {"grid": "continuous"}, "camera_sampling"),
    ("refocus", "model", "time", {"shift": 60.0}, "timestep_sampling"),
    ("refocus", "model", "schedule", {"warmup_steps": 1}, "lr_schedule"),
    ("refocus", "model", "guidance", 3.5, "guidance_embed"),
    ("refocus", "model", "rows", "apart", "split_backward"),
]


@pytest.mark.parametrize("key", ["cache_prompts", "keep_text_encoders"])
def test_a_key_that_is_gone_is_refused_with_the_reason(key: str, before: Path, capsys: Any) -> None:
    experiment = experiment_of("text2image")
    backbone = {"class_path": "dofsuite.backbones.PretrainedSdxl", "init_args": {key: True}}
    experiment["model"]["init_args"]["backbone"] = backbone
    Path("old.yaml").write_text(yaml.safe_dump(experiment))
    assert main(["old.yaml", "--trainer.default_root_dir", "elsewhere"]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"old.yaml: model.init_args.backbone.init_args.{key}: there is no such key" in sentence
    assert "both text encoders stay loaded" in sentence
    assert key not in str(translated(experiment))


@pytest.mark.parametrize(("work", "section", "key", "value", "new"), OLD_KEYS)
def test_each_old_key_or_value_is_refused_with_the_new_one(
    work: str, section: str, key: str, value: Any, new: str, before: Path, capsys: Any
) -> None:
    experiment = experiment_of(work)
    experiment[section]["init_args"][key] = value
    Path("old.yaml").write_text(yaml.safe_dump(experiment))
    assert main(["old.yaml", "--trainer.default_root_dir", "elsewhere"]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert new in sentence
    # A set's name is found by the data module, which does not know the file.
    assert "old.yaml" in sentence or key == "train"
    assert not Path("elsewhere").exists()


def test_an_old_text2image_export_photographs_the_same(before: Path) -> None:
    from dofsuite.text2image import Text2ImagePipeline

    expected = json.loads((before / "expected.json").read_text())["text2image"]
    pipe = Text2ImagePipeline.from_export(before / "export_text2image")
    scene = pipe("a red ball", seed=0, output_type="pt", f_number=2.8, focal_length_mm=85.0)
    assert torch.as_tensor(scene.images).double().sum().item() == same(expected["scene"])
    assert scene.focus_distance.tolist() == same(expected["focus_distance"])
    assert scene.scale_mm.tolist() == same(expected["scale_mm"])

    def photograph(f_number: float, focal_length_mm: float) -> torch.Tensor:
        images = pipe.photograph(
            scene, f_number=[f_number], focal_length_mm=focal_length_mm, output_type="pt"
        )
        return torch.as_tensor(images[0]).double()

    assert photograph(1.8, 85.0).sum().item() == same(expected["photograph"])
    wide = photograph(1.0, 200.0)
    assert wide.sum().item() == same(expected["photograph_f1_200mm"]["sum"])
    assert wide.square().sum().item() == same(expected["photograph_f1_200mm"]["sum_of_squares"])


def test_an_old_refocus_export_refocuses_the_same(before: Path) -> None:
    from dofsuite.refocus import RefocusPipeline

    expected = json.loads((before / "expected.json").read_text())["refocus"]
    pipe = RefocusPipeline.from_export("refocus")
    image = (np.random.default_rng(0).random((48, 48, 3)) * 255).astype("uint8")
    output = pipe(
        Image.fromarray(image),
        focus_point=(0.3, 0.6),
        bokeh_level=12.0,
        output_type="np",
        generator=torch.Generator().manual_seed(0),
    )
    assert float(np.asarray(output.images).astype("float64").sum()) == same(expected["sum"])


def test_an_old_camera_tokens_export_loads(before: Path) -> None:
    from dofsuite.baselines.camera_tokens.export import load

    expected = json.loads((before / "expected.json").read_text())["camera_tokens"]
    settings = json.loads((before / "export_camera_tokens" / "camera_tokens.json").read_text())
    assert sorted(settings) == expected["keys"]
    networks = load(before / "export_camera_tokens")
    assert networks.tokens(torch.tensor([[2.8, 50.0]])).isfinite().all()
