"""`null` reaches every key whose type takes it, however deep, and is refused by every other."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest

from dofsuite.experiment.command import read_command
from dofsuite.experiment.experiment import read_experiment
from dofsuite.experiment.nulls import nulls_as_content
from dofsuite.training.run.dotted_keys import flat

ROOT = Path(__file__).parents[2] / "experiments"
SHIPPED = sorted([*ROOT.glob("*.yaml"), *ROOT.glob("pretraining/*.yaml")])


def object_at(path: str) -> Any:
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def optional_keys(node: dict[str, Any], types: dict[str, Any], path: str) -> Iterator[str]:
    """The keys below `node` whose annotation has None in it, by Python's own introspection."""
    for name, value in node.items():
        hint, key = types.get(name), f"{path}.{name}"
        if NoneType in get_args(hint):
            yield key
        kinds = [hint, *get_args(hint)]
        if isinstance(value, dict) and "class_path" in value:
            kind = object_at(value["class_path"])
            types_below = get_type_hints(getattr(kind, "__init__", kind))
            yield from optional_keys(value.get("init_args", {}), types_below, f"{key}.init_args")
        elif isinstance(value, dict) and (
            found := [k for k in kinds if dataclasses.is_dataclass(k)]
        ):
            yield from optional_keys(value, get_type_hints(found[0]), key)


def optional_keys_of(config: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for section in ("model", "data"):
        kind = object_at(config[section]["class_path"])
        types = get_type_hints(kind.__init__)
        found |= set(optional_keys(config[section]["init_args"], types, f"{section}.init_args"))
    trainer = get_type_hints(object_at("pytorch_lightning.Trainer").__init__)
    return found | set(optional_keys(config["trainer"], trainer, "trainer"))


def config_of(words: list[str]) -> dict[str, Any]:
    return read_experiment(read_command(words)).config


@pytest.mark.slow
@pytest.mark.parametrize("experiment", SHIPPED, ids=lambda path: path.stem)
def test_null_reaches_every_optional_key_of_a_shipped_experiment(
    experiment: Path, tmp_path: Path
) -> None:
    keys = optional_keys_of(config_of([str(experiment)])) | {"continue_from"}
    parents = {key for key in keys if any(other.startswith(f"{key}.") for other in keys)}
    keys -= {"trainer.default_root_dir"}  # of which a run has one in any case, see below
    assert len(keys) > 20
    # On the command line, without `init_args` as the documents write keys; parents of others apart.
    for chosen in (sorted(keys - parents), sorted(parents)):
        words = [w for key in chosen for w in (f"--{key.replace('.init_args', '')}", "null")]
        config = config_of([str(experiment), *words])
        assert [key for key in chosen if flat(config)[key] is not None] == []
    # As a line of a sweep, with whole keys and an equals sign; the command line wins over it.
    sweep = tmp_path / "sweep.txt"
    sweep.write_text(shlex.join(f"--{key}=null" for key in sorted(keys - parents)))
    words = [str(experiment), "--sweep", str(sweep), "--index", "0"]
    values = flat(config_of([*words, "--data.size_px", "64"]))
    assert {values[key] for key in keys - parents - {"data.init_args.size_px"}} == {None}
    assert values["data.init_args.size_px"] == 64


@pytest.mark.parametrize(
    ("experiment", "keys"),
    [
        (
            "text2image_full",
            "backbone.vae saliency.revision probe.segmenter stages.deep training.ema_decay "
            "depth.size_px lens",
        ),
        ("refocus_flux_512", "backbone.revision camera_sampling.all_in_focus_targets lora"),
    ],
)
def test_null_reaches_keys_at_any_depth_from_the_command_line_and_a_sweep(
    experiment: str, keys: str, tmp_path: Path
) -> None:
    chosen = [f"model.{key}" for key in keys.split()]
    sweep = tmp_path / "sweep.txt"
    sweep.write_text(shlex.join(f"--{key}=null" for key in chosen[:2]))
    words = [str(ROOT / f"{experiment}.yaml"), "--sweep", str(sweep), "--index", "0"]
    for key in chosen[2:]:
        words += [f"--{key}", "null"]
    values = flat(config_of(words))
    shortened = {key.replace(".init_args", ""): value for key, value in values.items()}
    assert {key: shortened[key] for key in chosen} == dict.fromkeys(chosen)


def test_a_run_without_a_folder_lies_in_that_of_its_file() -> None:
    words = [str(ROOT / "quickstart.yaml"), "--trainer.default_root_dir", "null"]
    assert config_of(words)["trainer"]["default_root_dir"] == "runs/quickstart"


def test_a_later_override_wins_over_a_null_and_a_null_over_an_earlier_one() -> None:
    words = ["--model.backbone.vae", "null", "--model.backbone.vae", "a"]
    words += ["--model.depth.revision", "main", "--model.depth.revision", "null"]
    model = config_of([str(ROOT / "text2image_full.yaml"), *words])["model"]["init_args"]
    assert model["backbone"]["init_args"]["vae"] == "a"
    assert model["depth"]["init_args"]["revision"] is None


def test_only_nulls_are_rewritten() -> None:
    words = ["--a.b", "None", "--a.c", "", "--a.d=x", "--a.e+", "null", "--f", "null", "--g.h", "~"]
    assert nulls_as_content(words) == [*words[:-2], "--config", '{"g": {"h": null}}']


def test_a_mapping_that_is_given_whole_takes_the_place_of_the_files() -> None:
    """One's own set instead of the file's two; the file's other name is no mistake then."""
    own = ["--data.init_args.train", "{own: shards}", "--data.source_mix", "null"]
    data = config_of([str(ROOT / "quickstart.yaml"), *own])["data"]["init_args"]
    assert data["train"] == {"own": "shards"}
