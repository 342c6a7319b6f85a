"""The probe's numbers for predictors whose scores are known: the ground truth, the reference."""

import json

import pytest
import torch

from dofsuite.data import Batch, ShardData
from dofsuite.errors import UserError
from dofsuite.images import draw_marker
from dofsuite.refocus.probe import Probe, ProbeRun, near_and_far_cameras
from dofsuite.refocus.rendering import Rendering


@pytest.fixture(scope="module")
def scenes() -> Batch:
    data = ShardData(
        train={"photo": "synthetic:photo"}, val="synthetic:val", val_batch_size=8, size_px=64
    )
    data.setup("fit")
    return next(iter(data.val_dataloader()))


RENDERING = Rendering(gamma=2.2, layers=21, reference_width_px=256.0)


def scores(predict, scenes):
    run = ProbeRun(Probe(scenes=8), RENDERING, 0, predict)
    run.update(scenes)
    return run, run.values()


def test_the_truth_scores_its_own_numbers(scenes, tmp_path):
    run, values = scores(lambda _, query: query.target, scenes)
    assert values["lvcorr"] == values["lvcorr_truth"] > 0.8
    assert values["blur_gain"] == pytest.approx(1, abs=1e-6)
    assert (
        values["focus_hit_rate"]
        == values["refocus_hit_rate"]
        == values["focus_hit_rate_truth"]
        > 0.8
    )
    assert values["mae"] == 0
    assert 0 < values["mae_oracle"] < 0.002  # BokehMe's exact kernel confirms the training renderer
    run.write(tmp_path, 7, values)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["step"] == 7
    assert record["levels"] == [5, 10, 15, 20]
    assert (tmp_path / "sheets" / "step-00000007.png").is_file()


@pytest.mark.filterwarnings("ignore:LVCorr")
def test_the_reference_unchanged_shows_no_control(scenes):
    _, values = scores(lambda _, query: query.reference, scenes)
    assert values["lvcorr"] == 0
    assert values["blur_gain"] == 0
    # two equal images: every comparison is a tie, and a tie is a miss
    assert values["focus_hit_rate"] == 0
    assert values["refocus_hit_rate"] < 0.2  # the reference is focused on the other plane
    assert values["mae"] == values["mae_copy"] > 0


def test_a_model_that_moves_what_it_refocuses_is_told_by_how_much(scenes):
    run, values = scores(lambda _, query: query.target.roll((1, 2), dims=(-2, -1)), scenes)
    assert values["shift_px"] == pytest.approx(5**0.5, abs=0.2)
    assert run.baselines["copy"]["shift_px"] == 0
    assert run.baselines["truth"]["shift_px"] < 0.05


def test_a_model_that_diverged_is_one_sentence(scenes):
    with pytest.raises(UserError, match=r"no longer finite: lower the learning rate"):
        scores(lambda _, query: query.target / 0, scenes)


def test_no_more_scenes_are_probed_than_configured(scenes, tmp_path):
    batch_sizes = []
    run = ProbeRun(
        Probe(scenes=3),
        RENDERING,
        0,
        lambda batch, query: batch_sizes.append(len(batch.key)) or query.target,
    )
    run.update(scenes)
    run.update(scenes)
    assert batch_sizes == [3] * 8
    run.values()
    run.write(tmp_path, 0, {})
    assert json.loads((tmp_path / "metrics.json").read_text())["scenes"] == 3


@pytest.mark.filterwarnings("ignore:LVCorr")
def test_the_record_counts_the_probed_scenes(scenes, tmp_path):
    run, values = scores(
        lambda _, query: query.target,
        scenes._replace(**{n: f[:2] for n, f in scenes._asdict().items()}),
    )
    run.write(tmp_path, 0, values)
    assert json.loads((tmp_path / "metrics.json").read_text())["scenes"] == 2  # of 8


def test_ranks_share_the_scenes():
    shares = [
        ProbeRun(Probe(), RENDERING, 0, lambda _, query: query.target, 64, rank).scenes_left
        for rank in range(64)
    ]
    assert sum(shares) == Probe().scenes == 32


def test_the_two_points_lie_on_the_nearest_and_the_farthest_tenth(scenes):
    near, far = near_and_far_cameras(scenes.disparity, torch.rand(len(scenes.key), 2))
    low, high = scenes.disparity.flatten(1).aminmax(dim=1)
    assert (near.focus_disparity >= high - 0.1 * (high - low)).all()
    assert (far.focus_disparity <= low + 0.1 * (high - low)).all()


def test_a_marker_stays_inside_the_image():
    image = torch.zeros(3, 16, 16)
    assert draw_marker(image, torch.tensor([0.99, 0.01]))[0].sum() > 0
    assert image.sum() == 0


def test_a_run_without_sheets_writes_its_numbers_alone(scenes, tmp_path):
    run = ProbeRun(Probe(scenes=2, sheet_scenes=0), RENDERING, 0, lambda _, query: query.target)
    run.update(scenes)
    run.write(tmp_path, 7, run.values())
    assert [path.name for path in tmp_path.rglob("*")] == ["metrics.json"]


@pytest.mark.parametrize(
    ("name", "number"), [("sheet_scenes", -1), ("sheet_scale", 0), ("pair_level", 0)]
)
def test_numbers_that_no_probe_has_are_errors_that_name_it(name, number):
    with pytest.raises(ValueError, match=name):
        Probe(**{name: number})


@pytest.mark.parametrize("levels", [(5,), (10, 5), (0, 5)])
def test_levels_that_make_no_curve_are_an_error(levels):
    with pytest.raises(ValueError, match="levels"):
        Probe(levels=levels)
