"""The focus predictor: learns what is salient, stays inside the depths, does not care for the
depth's unit.
"""

import math

import pytest
import torch
from scipy.stats import pearsonr

from dofsuite.errors import UserError
from dofsuite.text2image.camera.focus_predictor import FocusPredictor, check_focus, focus_target
from dofsuite.text2image.dmd2.losses import focus_loss

READOUTS = ("token", "weighted_sum")


def discs(count, seed):
    """Dark texture with a bright disc at a depth of its own: (image, depth, disc mask, depth of the
    disc).
    """
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(64) + 0.5
    center = 16 + 32 * torch.rand(count, 2, 1, 1, generator=generator)
    radius = 6 + 6 * torch.rand(count, 1, 1, generator=generator)
    disc = (
        (axis[:, None] - center[:, 0]).square() + (axis - center[:, 1]).square() < radius.square()
    ).float()[:, None]
    texture = (
        torch.nn.functional.interpolate(torch.rand(count, 3, 16, 16, generator=generator), size=64)
        / 2
    )
    ground = torch.nn.functional.interpolate(
        torch.rand(count, 1, 4, 4, generator=generator), size=64, mode="bilinear"
    )
    disc_depth = 10 ** torch.rand(count, 1, 1, 1, generator=generator)
    depth = torch.where(disc > 0, disc_depth, 10**ground)
    return texture * (1 - disc) + 0.95 * disc, depth, disc, disc_depth.flatten()


def moved(focus_readout, seed=0):
    """A small predictor whose heads are not at their zero start."""
    torch.manual_seed(seed)
    predictor = FocusPredictor.small(focus_readout=focus_readout)
    for head in (predictor.scale_head, predictor.focus_head):
        if head is not None:
            torch.nn.init.normal_(head.weight, std=0.1)
    return predictor


def scene(batch=2, height=48, width=80, seed=4):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, height, width, generator=generator)
    return image, 0.5 + 20 * torch.rand(batch, 1, height, width, generator=generator) ** 3


@pytest.mark.parametrize("focus_readout", READOUTS)
def test_it_learns_to_focus_on_an_unseen_bright_disc(focus_readout):
    torch.manual_seed(0)
    predictor = FocusPredictor.small(focus_readout=focus_readout)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=2e-3)
    image, depth, _, disc_depth = discs(64, seed=1000)
    with torch.no_grad():
        before = pearsonr(predictor(image, depth).focus_distance, disc_depth).statistic
    for step in range(12):
        train_image, train_depth, disc, _ = discs(8, seed=step)
        loss = focus_loss(
            predictor(train_image, train_depth).focus_distance, focus_target(disc, train_depth)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        after = pearsonr(predictor(image, depth).focus_distance, disc_depth).statistic
    assert before < 0.7
    assert after > 0.9


@pytest.mark.parametrize("focus_readout", READOUTS)
@pytest.mark.parametrize("unit", [1e-3, 0.1, 1000.0])
def test_the_depth_s_unit_scales_the_focus_distance_and_nothing_else(focus_readout, unit):
    predictor = moved(focus_readout)
    image, depth = scene()
    with torch.no_grad():
        one, other = predictor(image, depth), predictor(image, unit * depth)
    assert torch.allclose(other.focus_distance, unit * one.focus_distance, rtol=1e-4)
    assert torch.allclose(other.scale_mm, one.scale_mm, rtol=1e-4)
    assert torch.allclose(other.saliency, one.saliency, atol=1e-4)


@pytest.mark.parametrize("focus_readout", READOUTS)
def test_the_focus_lies_inside_the_depths_whatever_the_head_says(focus_readout):
    predictor = moved(focus_readout)
    image, depth = scene()
    for bias in (-50.0, 50.0):
        if predictor.focus_head is not None:
            torch.nn.init.constant_(predictor.focus_head.bias, bias)
        check_focus(predictor(image, depth).focus_distance.detach(), depth)


def test_the_weighted_sum_is_that_of_its_own_saliency():
    predictor = moved("weighted_sum")
    image, depth = scene()
    focus = predictor(image, depth)
    expected = (focus.saliency * depth).sum((1, 2, 3)) / focus.saliency.sum((1, 2, 3))
    assert torch.allclose(focus.focus_distance, expected, rtol=1e-5)


def test_the_scale_starts_at_a_metre_a_unit_and_is_bounded():
    image, depth = scene()
    predictor = FocusPredictor.small()
    assert predictor(image, depth).scale_mm.tolist() == [1000.0, 1000.0]
    for bias, bound in ((-1e6, 1000 / 30), (1e6, 30_000.0)):
        torch.nn.init.constant_(predictor.scale_head.bias, bias)
        assert predictor(image, depth).scale_mm.tolist() == pytest.approx([bound, bound], rel=1e-4)


def test_focus_and_scale_train_every_weight_after_the_start():
    predictor = moved("token")
    image, depth = scene()
    focus = predictor(image, depth)
    (focus.focus_distance.sum() + focus.scale_mm.sum()).backward()
    untrained = [
        name for name, weight in predictor.named_parameters() if not weight.grad.abs().max() > 0
    ]
    assert untrained == []


@pytest.mark.parametrize("focus_readout", READOUTS)
@pytest.mark.parametrize("kind", ["infinite", "flat", "zero", "all zero", "all infinite"])
def test_odd_depths_have_finite_outputs_and_gradients(focus_readout, kind):
    predictor = moved(focus_readout)
    image, depth = scene()
    if kind == "infinite":
        depth[:, :, :20] = math.inf
    elif kind == "zero":
        depth[:, :, :20] = 0.0
    else:
        depth = torch.full_like(
            depth, {"flat": 3.0, "all zero": 0.0, "all infinite": math.inf}[kind]
        )
    image, depth = image.requires_grad_(), depth.requires_grad_()
    focus = predictor(image, depth)
    sum(part.sum() for part in focus).backward()
    tensors = [*focus, image.grad, depth.grad, *(weight.grad for weight in predictor.parameters())]
    assert all(torch.isfinite(tensor).all() for tensor in tensors if tensor is not None)
    assert image.grad.abs().max() > 0


def test_any_size_goes_in_and_its_saliency_comes_out():
    predictor = FocusPredictor.small()
    for height, width in ((64, 64), (31, 97), (200, 130)):
        saliency = predictor(*scene(1, height, width)).saliency
        assert saliency.shape == (1, 1, height, width)
        assert saliency.min() >= 0
        assert saliency.max() <= 1


def test_a_saved_predictor_comes_back_bit_for_bit(tmp_path):
    predictor = moved("weighted_sum")
    predictor.save_pretrained(tmp_path)
    loaded = FocusPredictor.from_pretrained(tmp_path)
    assert loaded.config.focus_readout == "weighted_sum"
    for one, other in zip(predictor(*scene()), loaded(*scene()), strict=True):
        assert torch.equal(one, other)


def test_sizes_are_as_said():
    def millions(predictor):
        return sum(weight.numel() for weight in predictor.parameters()) / 1e6

    assert millions(FocusPredictor.small()) < 0.5
    with torch.device("meta"):
        assert 50 < millions(FocusPredictor()) < 84


def test_a_bfloat16_predictor_gives_float32_numbers_near_those_of_float32():
    predictor = moved("token")
    image, depth = scene()
    with torch.no_grad():
        exact = predictor(image, depth)
        rough = predictor.to(torch.bfloat16)(image.bfloat16(), depth)
    assert {part.dtype for part in rough} == {torch.float32}
    assert torch.allclose(rough.focus_distance, exact.focus_distance, rtol=0.05)


def test_target_is_the_mean_depth_of_what_is_salient():
    depth = torch.tensor([[1.0, 2.0], [4.0, math.inf]]).reshape(1, 1, 2, 2)
    saliency = torch.tensor([[0.5, 0.0], [1.0, 0.0]]).reshape(1, 1, 2, 2)
    assert focus_target(saliency, depth).tolist() == [3.0]
    assert focus_target(1e-4 * saliency, depth).item() == pytest.approx(3.0)


def test_where_nothing_is_salient_the_target_is_the_mean_depth():
    depth = torch.tensor([[1.0, 2.0], [4.0, math.inf]]).reshape(1, 1, 2, 2)
    assert focus_target(torch.zeros(1, 1, 2, 2), depth).tolist() == [(1 + 2 + 4 + 4) / 4]


@pytest.mark.parametrize(
    "focus", [0.4, 7.0, -1.0, 0.0, math.nan, math.inf, torch.tensor([1.0, 9.0])]
)
def test_a_focus_beyond_the_scene_is_an_error_of_one_sentence(focus):
    depth = torch.linspace(0.5, 6.0, 24).reshape(2, 1, 3, 4)
    with pytest.raises(
        UserError, match=r"^focus: .* lies outside the scene's depths, .* within them\.$"
    ):
        check_focus(focus, depth)


def test_a_focus_within_the_scene_passes():
    depth = torch.linspace(0.5, 6.0, 24).reshape(2, 1, 3, 4)
    check_focus(torch.tensor([0.5, 6.0]), depth)
