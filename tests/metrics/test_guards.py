"""Every metric, class and function, on inputs that others give: the right value or one sentence."""

from __future__ import annotations

import pickle
import re
import warnings

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torchmetrics import MetricCollection

from dofsuite.metrics import (
    BlurMonotonicity,
    CLIPImageSimilarity,
    ContentConsistency,
    LVCorr,
    blur_energy,
    laplacian_variance,
    lv_corr,
    precision,
)
from tests.metrics.conftest import LEVELS
from tests.metrics.every_metric import every_metric

CASES = every_metric()
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
TO_BE_REFUSED = {
    "0..255": (lambda images: images * 255, "display values in [0, 1], not"),
    "-1..1": (lambda images: images * 2 - 1, "take (x + 1) / 2"),
    "8 bit": (lambda images: (images * 255).byte(), "divide 8-bit by 255"),
    "numpy": (lambda images: images.numpy(), "must be a torch tensor, not ndarray"),
    "list": (lambda images: images.tolist(), "must be a torch tensor, not list"),
    "empty": (lambda images: images[:0], "not [0, "),
    "no pixels": (lambda images: images[..., :0], "at least one image"),
    "one picture alone": (lambda images: images.flatten(0, -4)[0], "must be ["),
    "gray": (lambda images: images[..., :1, :, :], "must be ["),
    "channels last": (lambda images: images.movedim(-3, -1), "must be ["),
    "NaN": (lambda images: images.masked_fill(images > 0.5, torch.nan), "must be finite"),
    "nothing": (lambda images: None, "must be"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("spoil", "words"), TO_BE_REFUSED.values(), ids=TO_BE_REFUSED)
@pytest.mark.parametrize("position", [0, 1])
def test_what_is_no_picture_is_one_short_sentence(spoil, words, position):
    for name, case in CASES.items():
        names_images = len(case.inputs) > position and case.inputs[position].ndim >= 4
        if position == 1 and (not names_images or name in ("lv_corr_level_mean", *PER_SCENE)):
            continue  # which look at one argument only, or at points
        inputs = list(case.inputs)
        inputs[position] = spoil(inputs[position])
        for score in (case.make().update, case.function):
            with pytest.raises(ValueError, match=re.escape(words)) as refusal:
                score(*inputs)
            assert len(str(refusal.value)) <= 200
            assert "\n" not in str(refusal.value)


PER_SCENE = ("lv_corr_level_per_scene",)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", ["blur_gain", "lv_corr_genphoto_diff"])
def test_a_truth_of_another_size_is_refused(name):
    preds, target = CASES[name].inputs
    for score in (CASES[name].make().update, CASES[name].function):
        with pytest.raises(ValueError, match="must have one size, not"):
            score(preds, target[..., 1:])


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("function", [laplacian_variance, blur_energy])
def test_functions_of_an_image_refuse_the_same(function):
    image = torch.rand(3, 9, 8)
    for value in (image * 255, image * 2 - 1, image.numpy(), image[:1], image[..., :0]):
        with pytest.raises(ValueError, match="image must") as refusal:
            function(value)
        assert len(str(refusal.value)) <= 200


@pytest.mark.usefixtures("as_users_run_it")
def test_a_truth_in_place_of_the_levels_is_a_short_sentence():
    preds, target = CASES["lv_corr_genphoto_diff"].inputs
    for levels in (target, target.numpy(), "levels", None, [*range(9999), float("nan")]):
        with pytest.raises(ValueError, match="bokeh_levels must") as refusal:
            lv_corr(preds, levels)
        assert len(str(refusal.value)) <= 200


@every_case
def test_one_scene_is_scored_and_nothing_is_nan(case):
    metric = case.make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(UserWarning, match="before the ``update``"):
            assert metric.compute().isnan()
    metric = case.make()
    metric.update(*(tensor[:1] for tensor in case.inputs))
    assert metric.compute().isfinite()


@every_case
def test_a_gradient_exactly_where_the_metric_says_so(case):
    images, *others = case.inputs
    images = images.clone().requires_grad_()
    for score in (case.make(), case.function):
        value = score(images, *others)
        assert value.requires_grad == case.make().is_differentiable
    if value.requires_grad:
        value.backward()
        assert images.grad.abs().max() > 0


@every_case
def test_scripting_is_refused_in_a_sentence(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TypeError, match="cannot be scripted; call it outside"):
            torch.jit.script(torch.nn.Sequential(case.make()))


class WithoutFloat64(TorchFunctionMode):
    """A device that refuses float64, as Apple's GPU does."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                raise TypeError(f"float64 in {func}")
        return result


@every_case
def test_a_device_without_float64_is_enough(case, monkeypatch):
    expected = case.function(*case.inputs).item()
    metric = case.make()
    monkeypatch.setattr(precision, "WITHOUT_FLOAT64", {"cpu"})
    metric.to("cpu")
    if hasattr(metric, "levels"):
        metric.levels = metric.levels.float()  # of the host
    with WithoutFloat64():
        metric.update(*case.inputs)
        score = metric.compute()
    assert score.dtype == torch.float32
    assert score.item() == pytest.approx(expected, rel=1e-3, abs=1e-4)


class Network(torch.nn.Module):
    """Two networks of one name: an embedder of colors, and of differences of colors."""

    name = "network"

    def __init__(self, differences: bool) -> None:
        super().__init__()
        self.differences = differences

    def forward(self, images):
        color = images.mean(dim=(-2, -1))
        return color - color.roll(1, 1) if self.differences else color


class Classes(Network):
    def forward(self, images):
        shown = images.flip(1) if self.differences else images
        return (shown[:, :1] * 40).long().clamp(0, 39)


@pytest.mark.parametrize("through", [lambda metric: metric, pickle.dumps, "clone"])
def test_two_networks_of_one_name_score_as_each_alone(through):
    def kept(metric):
        if through == "clone":
            return metric.clone()
        return pickle.loads(through(metric)) if through is pickle.dumps else metric

    generator = torch.Generator().manual_seed(0)
    images, others = torch.rand(2, 2, 3, 8, 8, generator=generator)
    sweeps = images[:, None].repeat(1, 3, 1, 1, 1), torch.rand(2, 3, 3, 8, 8, generator=generator)
    kinds = (
        (CLIPImageSimilarity, Network, [(images, images), (images, others)]),
        (lambda net: ContentConsistency(net, 1), Classes, [(sweeps[0],), (sweeps[1],)]),
    )
    for make, network, batches in kinds:
        together = MetricCollection(
            {"a": kept(make(network(False))), "b": kept(make(network(True)))}
        )
        alone = {"a": make(network(False)), "b": make(network(True))}
        for batch in batches:  # the first agrees
            together.update(*batch)
            for metric in alone.values():
                metric.update(*batch)
        expected = {name: metric.compute().item() for name, metric in alone.items()}
        assert expected["a"] != expected["b"]
        assert {name: score.item() for name, score in together.compute().items()} == expected


def test_copies_of_one_metric_are_not_merged_either():
    metric = CLIPImageSimilarity(Network(False))
    twin = metric.clone()
    twin.embedder.differences = True
    collection = MetricCollection({"a": metric, "b": twin})
    images, others = torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for reference in (images, others):
        collection.update(images, reference)
    scores = collection.compute()
    assert scores["a"] != scores["b"]


def test_metrics_without_a_network_and_of_the_same_settings_are_still_merged():
    collection = MetricCollection({"a": LVCorr(LEVELS), "b": LVCorr(LEVELS)})
    collection.update(CASES["blur_gain"].inputs[0])
    assert len(collection.compute_groups) == 1


def test_curves_are_drawn_from_all_scenes():
    from matplotlib import pyplot

    preds, target = CASES["lv_corr_genphoto_diff"].inputs
    for variant in ("level_mean", "level_per_scene", "genphoto_diff"):
        metric = LVCorr(LEVELS[::-1], variant)
        for scenes in (slice(0, 3), slice(3, None)):
            metric.update(preds[scenes], target[scenes])
        _, axis = metric.plot_curve()
        assert list(axis.lines[0].get_xdata()) == LEVELS
        expected = laplacian_variance(preds).mean(dim=0).flip(0).tolist()
        assert list(axis.lines[0].get_ydata()) == pytest.approx(expected, rel=1e-9)
    metric = BlurMonotonicity([2, 4, 8, 16], "ac")
    metric.update(preds)
    figure, axis = pyplot.subplots()
    assert metric.plot_curve(axis) == (figure, axis)
    energy = blur_energy(preds, "ac").sum(dim=0)
    assert list(axis.lines[0].get_ydata()) == pytest.approx(
        (energy / energy[-1]).tolist(), rel=1e-9
    )
    with pytest.raises(ValueError, match="plot_curve needs the settings"):
        BlurMonotonicity().plot_curve()
    pyplot.close("all")
