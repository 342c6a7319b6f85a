"""`make quickstart` in full: minutes of training, and control of level and point on unseen
scenes.
"""

import json
from pathlib import Path

import pytest

from dofsuite.fit import main

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_quickstart_learns_to_follow_level_and_point(tmp_path):
    folder = tmp_path / "quickstart"
    assert (
        main(
            [
                str(ROOT / "experiments" / "quickstart.yaml"),
                "--trainer.default_root_dir",
                str(folder),
            ]
        )
        == 0
    )
    probe = json.loads((folder / "metrics.json").read_text())["probe"]
    assert probe["lvcorr"] == pytest.approx(probe["lvcorr_truth"], abs=0.15)
    assert 0.5 <= probe["blur_gain"] <= 1.5
    assert probe["focus_hit_rate"] >= 0.8
    assert probe["mae"] < probe["mae_copy"]
