"""An override of one key of a nested value leaves the file's other keys as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dofsuite.experiment.merging import merged
from dofsuite.fit import main

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CONTENT = {
    "model": {
        "class_path": "m.M",
        "init_args": {"stages": {"deep": 6}, "depth": {"class_path": "d.D"}},
    },
    "data": {
        "class_path": "d.D",
        "init_args": {"batch_size": 1, "schedule": {"samples_per_step": 16, "turns": 6}},
    },
    "trainer": {"max_steps": 3},
}


def schedule_of(capsys: pytest.CaptureFixture[str], file: str, *words: str) -> dict[str, float]:
    """The schedule that `fit` would take."""
    assert main([str(EXPERIMENTS / file), *words, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["schedule"]


@pytest.mark.parametrize(
    ("file", "words", "expected"),
    [
        (
            "text2image_full.yaml",
            [
                "--data.schedule.samples_per_step",
                "1",
                "--trainer.devices",
                "1",
                "--trainer.num_nodes",
                "1",
            ],
            {"samples_per_step": 1, "turns": 6, "start_step": 15000, "interleave_steps": 0},
        ),
        (
            "quickstart_text2image.yaml",
            ["--data.init_args.schedule.samples_per_step=8", "--data.schedule.turns", "12"],
            {"samples_per_step": 8, "turns": 12, "start_step": 2500, "interleave_steps": 1900},
        ),
        (
            "camera_tokens_sdxl.yaml",
            ["--data.schedule.samples_per_step", "1"],
            {
                "start_share": 0.5,
                "end_share": 0.5,
                "until_step": 1000,
                "full_step": 2500,
                "samples_per_step": 1,
            },
        ),
    ],
)
def test_either_schedule_takes_its_samples_per_step_from_the_command_line(
    capsys: pytest.CaptureFixture[str], file: str, words: list[str], expected: dict[str, float]
) -> None:
    assert schedule_of(capsys, file, *words) == expected


def test_a_sweep_line_is_put_in_and_the_command_line_wins(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep.txt"
    sweep.write_text("--data.schedule.samples_per_step 4 --data.schedule.start_step 12\n")
    words = ["--sweep", str(sweep), "--index", "0", "--data.schedule.samples_per_step", "2"]
    schedule = schedule_of(capsys, "text2image_full.yaml", *words)
    assert schedule == {"samples_per_step": 2, "turns": 6, "start_step": 12, "interleave_steps": 0}


def test_values_go_in_as_they_are_written_and_the_file_s_content_stays() -> None:
    content, rest = merged(
        CONTENT, ["--data.schedule.turns=a=b", "--model.init_args.stages.deep", "-1"]
    )
    assert content["data"]["init_args"]["schedule"] == {"samples_per_step": 16, "turns": "a=b"}
    assert content["model"]["init_args"]["stages"] == {"deep": "-1"}
    assert rest == []
    assert CONTENT["model"]["init_args"]["stages"] == {"deep": 6}


@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.max_steps", "4"],
        ["--data.batch_size", "2"],
        ["--data.init_args.batch_size=2"],
        ["--model.depth.weights", "null"],
        ["--model.lens.gamma", "1"],
        ["--data.schedule.turns"],
        ["--data.schedule", "cycles.yaml", "--data.schedule.turns", "4"],
        ["stray", "--trainer.max_steps", "3", "4"],
        [],
    ],
)
def test_what_belongs_into_no_plain_mapping_of_the_file_is_left_to_the_parser(
    words: list[str],
) -> None:
    assert merged(CONTENT, words) == (CONTENT, words)
