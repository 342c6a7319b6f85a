"""What a refocus run cannot learn from is refused in one sentence: images without depth, another
adapter.
"""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from dofsuite.data import write_shards
from dofsuite.fit import main
from tests.data.conftest import encoded
from tests.refocus.tiny import EXPERIMENT


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(yaml.safe_dump(copy.deepcopy(EXPERIMENT)))


def fit(folder, *more):
    short = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"]
    return main(["x.yaml", "--trainer.default_root_dir", folder, *short, *more])


def one_line(capsys):
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    return output


def test_pictures_without_depth_are_not_trained_on_as_if_they_were_flat(capsys):
    grey = encoded(np.full((32, 32, 3), 128, dtype=np.uint8))
    bare = [
        (f"bare{number}", {"png": grey, "json": json.dumps({}).encode()}) for number in range(4)
    ]
    write_shards(
        Path("bare"),
        bare,
        source="bare",
        licence="CC0",
        split="train",
        depth_kind=None,
        depth_unit=None,
    )
    words = ["--data.init_args.train", '{"photo": "bare"}']
    assert fit("run", *words) == 2
    assert "only for a model that does without, set data.require_depth to false" in one_line(capsys)
    assert fit("run", *words, "--data.init_args.require_depth", "false") == 2
    assert one_line(capsys).startswith("data.require_depth: the image bare")


def test_a_run_of_another_adapter_is_not_continued(capsys):
    assert fit("first") == 0
    capsys.readouterr()
    continued = ["--continue_from", "first", "--trainer.max_steps", "2"]
    assert fit("second", *continued, "--model.init_args.lora.rank", "8") == 2
    assert "in that run and [8, " in (output := one_line(capsys))
    assert "set model.lora.rank or model.backbone as that run's config.yaml has it." in output
    assert fit("third", *continued, "--model.init_args.lora.targets", "all_linear") == 2
    assert "set model.lora (its targets, or null) as that run's config.yaml has it." in one_line(
        capsys
    )
