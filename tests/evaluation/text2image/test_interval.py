"""KID and FID against closed forms; an interval that finds a difference and nothing else."""

import json

import pytest
import torch

from dofsuite.evaluate import main
from dofsuite.evaluation.text2image.features import SmallFeatures, main_directions
from dofsuite.evaluation.text2image.interval import DISTANCES, compare
from dofsuite.text2image.comparison import main as old_main
from tests.evaluation.text2image.tiny_text2image import make_runs


@pytest.fixture(scope="module")
def features() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(300, 6, generator=draw, dtype=torch.float64)
    near = torch.randn(280, 6, generator=draw, dtype=torch.float64)
    return {"real": real, "near": near, "far": near * 1.3 + 0.4}


def test_fid_is_the_closed_form(features):
    x, y = features["far"], features["real"]
    c_x, c_y = torch.cov(x.T), torch.cov(y.T)
    root = torch.linalg.eigvals(c_x @ c_y).real.clamp(min=0).sqrt().sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + c_x.trace() + c_y.trace() - 2 * root
    assert DISTANCES["FID"](y, x) == pytest.approx(float(expected), rel=1e-6)


def test_kid_is_the_unbiased_estimate(features):
    x, y = features["far"][:250], features["real"][:250]

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a):
        k = kernel(a, a)
        return (k.sum() - k.diagonal().sum()) / (len(a) * (len(a) - 1))

    expected = within(x) + within(y) - 2 * kernel(x, y).mean()
    assert DISTANCES["KID"](y, x) == pytest.approx(float(expected), rel=1e-9)


def test_the_interval_finds_the_nearer_run_and_no_difference_where_there_is_none(features):
    real = features["real"][:280]
    nearer = compare(features["far"], features["near"], real, seed=0)
    same = compare(features["near"], features["near"], real, seed=0)
    for name in ("KID", "FID"):
        assert nearer[f"{name} difference, low"] < nearer[f"{name} difference, high"] < 0
        assert same[f"{name} difference, low"] == same[f"{name} difference, high"] == 0
        assert nearer[f"{name} second"] < nearer[f"{name} first"]


def test_main_directions_whiten_the_photographs(features):
    real = features["real"] @ torch.diag(
        torch.tensor([5.0, 3, 2, 1, 0.5, 0.1], dtype=torch.float64)
    )
    whitened = real @ main_directions(real, 4)
    assert torch.allclose(
        torch.cov(whitened.T, correction=0), torch.eye(4, dtype=torch.float64), atol=1e-8
    )


def test_features_tell_a_blurred_image_from_a_sharp_one():
    image = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    blurred = torch.nn.functional.avg_pool2d(image, 5, stride=1, padding=2)
    extract = SmallFeatures()
    sharp, soft, again = extract(image), extract(blurred), extract(image)
    assert sharp.shape == (4, 192)
    assert torch.equal(sharp, again)
    assert (sharp - soft).norm() > 0.1 * sharp.norm()


def test_the_old_command_names_the_new_one(capsys):
    assert old_main() == 2
    assert "evaluate text2image --interval" in capsys.readouterr().err


def test_two_runs_are_compared_through_the_second_one_s_lens(tmp_path, capsys):
    runs = make_runs(tmp_path / "runs")
    pair = [str(runs["text2image_deep"]), str(runs["text2image_full"])]
    words = [
        "text2image",
        "--interval",
        *pair,
        "--photographs",
        "synthetic:prompts",
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    rows = json.loads((tmp_path / "out" / "report.json").read_text())["tables"][0]["rows"]
    assert [row["name"] for row in rows] == ["seed 0", "seed 1", "seed 2"]
