"""Every shipped experiment and every sweep line parses and builds; the full-size ones on the meta
device.
"""

import importlib
import inspect
from pathlib import Path

import pytest
import torch
import yaml

from dofsuite.backbones import PretrainedFlux, PretrainedKlein, PretrainedSdxl, SmallSaliency
from dofsuite.experiment.command import read_command, read_sweep
from dofsuite.experiment.experiment import read_experiment
from dofsuite.text2image import Stages
from dofsuite.training import RunLog, RunProgress
from tests.full_size import RandomDepth, RandomFlux, RandomKlein, RandomSdxl

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "experiments", ROOT / "experiments" / "pretraining")
EXPERIMENTS = sorted(path for folder in FOLDERS for path in folder.glob("*.yaml"))
SWEEPS = sorted((ROOT / "experiments" / "sweeps").glob("*.txt"))
LINES = [(sweep, index) for sweep in SWEEPS for index in range(len(read_sweep(sweep)))]
ON_ONE_CPU = [
    "--trainer.accelerator",
    "cpu",
    "--trainer.devices",
    "1",
    "--trainer.precision",
    "32-true",
]


def base_of(sweep: Path) -> Path:
    """The experiment that a sweep's own header names."""
    (line,) = [line for line in sweep.read_text().splitlines() if "dofsuite.fit" in line]
    return ROOT / next(word for word in line.split() if word.endswith(".yaml"))


def build(command: list[str], tmp_path: Path):
    """The model with its networks; pretrained ones by their architecture alone, on the meta
    device.
    """
    experiment = read_experiment(
        read_command([*command, *ON_ONE_CPU, "--trainer.default_root_dir", str(tmp_path)])
    )
    experiment.build(RunLog(tmp_path), [], [], RunProgress())
    model = experiment.cli.model
    backbone = getattr(model, "backbone", None)
    if isinstance(backbone, PretrainedSdxl):
        model.backbone, model.depth, model.saliency = (
            RandomSdxl(),
            RandomDepth(),
            SmallSaliency(weights=None),
        )
    if isinstance(backbone, PretrainedFlux):
        model.backbone = RandomFlux()
    if isinstance(backbone, PretrainedKlein):
        model.backbone = RandomKlein()
    pretrained = PretrainedFlux | PretrainedKlein | PretrainedSdxl
    with torch.device("meta" if isinstance(backbone, pretrained) else "cpu"):
        model.configure_model()
    return model, experiment


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_an_experiment_builds(file, tmp_path):
    model, experiment = build([str(file)], tmp_path)
    assert any(parameter.requires_grad for parameter in model.parameters()) or model.trained
    assert experiment.config["trainer"]["max_steps"] > 0


LOOKED_FOR = {"lr", "batch_size", "size_px"}  # written even where they are the default


def repeated_defaults(section: object, name: str = "") -> list[str]:
    """Keys under a `class_path` whose value is the constructor's default already."""
    if not isinstance(section, dict):
        return []
    repeated = [key for key, value in section.items() for key in repeated_defaults(value, key)]
    if "class_path" in section:
        module, _, class_name = section["class_path"].rpartition(".")
        defaults = inspect.signature(getattr(importlib.import_module(module), class_name))
        for key, value in section.get("init_args", {}).items():
            parameter = defaults.parameters.get(key)
            if parameter is not None and parameter.default == value and key not in LOOKED_FOR:
                repeated.append(f"{name}.{key}: {value}")
    return repeated


@pytest.mark.parametrize(
    "file", sorted((ROOT / "experiments").rglob("*.yaml")), ids=lambda file: file.stem
)
def test_no_key_repeats_its_default(file):
    assert repeated_defaults(yaml.safe_load(file.read_text())) == []


@pytest.mark.parametrize(
    ("sweep", "index"), LINES, ids=lambda value: getattr(value, "stem", str(value))
)
def test_a_sweep_line_changes_what_it_names(sweep, index):
    command = read_command([str(base_of(sweep)), "--sweep", str(sweep), "--index", str(index)])
    experiment = read_experiment(command)
    assert experiment.folder == Path("runs") / sweep.stem / str(index)
    words = read_sweep(sweep)[index]
    for option, value in zip(words[::2], words[1::2], strict=True):
        found = experiment.config
        for key in option.removeprefix("--").split("."):
            found = found[key]
        assert found == yaml.safe_load(value)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.stem)
def test_a_sweep_has_every_setting_with_seed_0_first_and_then_with_two_more(sweep):
    lines = read_sweep(sweep)
    settings = [words[: words.index("--seed_everything")] for words in lines]
    count = len(lines) // 3
    assert settings == settings[:count] * 3
    assert len({tuple(words) for words in settings}) == count
    for index, words in enumerate(lines):
        seed = str(index // count)
        assert words[len(settings[index]) :: 2] == [
            "--seed_everything",
            "--model.init_args.seed",
            "--data.init_args.seed",
        ]
        assert words[len(settings[index]) + 1 :: 2] == [seed] * 3
    assert f"--array=0-{count - 1} is one seed, 0-{3 * count - 1} all" in sweep.read_text()


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_an_experiment_is_short_and_says_how_to_run_it(file):
    text = file.read_text()
    assert len(text.splitlines()) < 45
    assert text.startswith("# ")
    assert f"python -m dofsuite.fit {file.relative_to(ROOT)}" in text or "make quickstart" in text


@pytest.mark.parametrize("card", ["", "_h200"])
def test_the_paper_s_numbers_are_the_experiment_s(card):
    first, second = (
        read_experiment(
            read_command([str(ROOT / "experiments" / f"refocus_flux_{size}{card}.yaml")])
        ).config
        for size in (512, 1024)
    )
    for config, steps, batch in ((first, 3600, 256), (second, 6600, 128)):
        trainer, data, model = (
            config["trainer"],
            config["data"]["init_args"],
            config["model"]["init_args"],
        )
        assert trainer["max_steps"] == steps
        assert trainer["devices"] * trainer["accumulate_grad_batches"] * data["batch_size"] == batch
        assert model["lora"]["rank"] == 64
        assert model["optimizer"]["init_args"]["lr"] == 1e-4
        assert (model["stacking"]["weight"], model["depth_dropout"]) == (0.1, 0.5)
    mix = first["data"]["init_args"]["source_mix"]["init_args"]
    assert (mix["start_share"], mix["until_step"], mix["full_step"]) == (0.5, 1000, 2500)
    assert second["data"]["init_args"]["source_mix"]["init_args"]["start_share"] == 1.0
    assert second["data"]["init_args"]["source_mix"]["init_args"]["end_share"] == 1.0
    assert second["continue_from"] == f"runs/refocus_flux_512{card}"


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_a_run_that_reaches_the_shallow_set_has_one(file):
    config = yaml.safe_load(file.read_text())
    if config["model"]["class_path"] != "dofsuite.text2image.Text2Image":
        return
    stages = Stages(**config["model"]["init_args"].get("stages", {}))
    last = stages.step(config["trainer"]["max_steps"] - 1)
    assert last.stage != "full" or len(config["data"]["init_args"]["train"]) == 2
