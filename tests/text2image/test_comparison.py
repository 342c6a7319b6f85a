"""KID and FID against torchmetrics, and an interval that finds what is there and nothing else."""

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from dofsuite.text2image.comparison import Features, compared, fid, kid, main_directions


@pytest.fixture(scope="module")
def features() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(300, 6, generator=draw, dtype=torch.float64)
    near = torch.randn(280, 6, generator=draw, dtype=torch.float64)
    return {"real": real, "near": near, "far": near * 1.3 + 0.4}


class Identity(torch.nn.Module):
    """Hands features to torchmetrics as if they were pictures."""

    num_features = 6

    def forward(self, pictures):
        return pictures[:, 0, 0, :6].double()


def test_fid_is_torchmetrics_s(features):
    metric = FrechetInceptionDistance(feature=Identity(), normalize=False, input_img_size=(3, 8, 8))
    metric.set_dtype(torch.float64)
    for name, is_real in (("real", True), ("far", False)):
        pictures = torch.zeros(len(features[name]), 3, 8, 8, dtype=torch.float64)
        pictures[:, 0, 0, :6] = features[name]
        metric.update(pictures, real=is_real)
    assert fid(features["far"], features["real"]) == pytest.approx(
        float(metric.compute()), rel=1e-5
    )


def test_kid_is_torchmetrics_s_on_sets_of_one_size(features):
    x, y = features["far"][:250], features["real"][:250]
    assert kid(x, y) == pytest.approx(float(poly_mmd(x, y)), rel=1e-9)


def test_the_interval_finds_the_nearer_generator_and_no_difference_where_there_is_none(features):
    nearer = compared(features["far"], features["near"], features["real"], seed=0)
    same = compared(features["near"], features["near"], features["real"], seed=0)
    for name in ("kid", "fid"):
        low, high = nearer[name]["second_minus_first"]
        assert low < high < 0
        assert same[name]["second_minus_first"] == [0, 0]
        assert nearer[name]["second"] < nearer[name]["first"]


def test_main_directions_whiten_the_photographs(features):
    real = features["real"] @ torch.diag(
        torch.tensor([5.0, 3, 2, 1, 0.5, 0.1], dtype=torch.float64)
    )
    seen = real @ main_directions(real, 4)
    assert torch.allclose(
        torch.cov(seen.T, correction=0), torch.eye(4, dtype=torch.float64), atol=1e-8
    )


def test_features_tell_a_blurred_picture_from_a_sharp_one():
    picture = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    blurred = torch.nn.functional.avg_pool2d(picture, 5, stride=1, padding=2)
    look = Features()
    sharp, soft, again = look(picture), look(blurred), look(picture)
    assert sharp.shape == (4, 192)
    assert torch.equal(sharp, again)
    assert (sharp - soft).norm() > 0.1 * sharp.norm()
