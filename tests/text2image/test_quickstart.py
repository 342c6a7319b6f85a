"""The synthetic text-to-image run in full, and its baseline: apertures change the blur, and with a
lens nothing else.
"""

import json
from pathlib import Path

import pytest

from dofsuite.fit import main

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_lens_follows_the_aperture_and_keeps_the_scene_and_the_baseline_does_less(tmp_path):
    probes = {}
    for name in ("quickstart_text2image", "quickstart_text2image_exif"):
        experiment = ROOT / "experiments" / f"{name}.yaml"
        assert main([str(experiment), "--trainer.default_root_dir", str(tmp_path / name)]) == 0
        probes[name] = json.loads((tmp_path / name / "metrics.json").read_text())["probe"]
    ours, baseline = probes.values()
    assert ours["blur_monotonicity_ac"] >= 0.9
    assert ours["blur_monotonicity_ac"] > baseline["blur_monotonicity_ac"]
    assert ours["content_consistency"] > baseline["content_consistency"]
