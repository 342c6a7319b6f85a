"""What a project that uses torchmetrics expects of every metric of the room."""

import pickle

import pytest
import torch
from torchmetrics import MetricCollection

from dofsuite.metrics import BlurMonotonicity, FocusHitRate
from tests.metrics.every_metric import every_metric

CASES = every_metric()
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def first(case, scenes=3):
    return tuple(tensor[:scenes] for tensor in case.inputs)


def rest(case, scenes=3):
    return tuple(tensor[scenes:] for tensor in case.inputs)


@every_case
def test_two_batches_equal_one_and_the_function(case):
    metric = case.make()
    metric.update(*first(case))
    metric.update(*rest(case))
    assert metric.compute().item() == pytest.approx(case.function(*case.inputs).item(), rel=1e-9)


@every_case
def test_forward_gives_the_batch_and_keeps_the_whole(case):
    metric = case.make()
    for batch in (first(case), rest(case)):
        assert metric(*batch).item() == pytest.approx(case.function(*batch).item(), rel=1e-9)
    assert metric.compute().item() == pytest.approx(case.function(*case.inputs).item(), rel=1e-9)


@every_case
def test_reset_forgets(case):
    metric = case.make()
    metric.update(*first(case))
    metric.reset()
    metric.update(*rest(case))
    assert metric.compute().item() == pytest.approx(case.function(*rest(case)).item(), rel=1e-9)


@every_case
@pytest.mark.parametrize(
    "copy", [lambda metric: metric.clone(), lambda metric: pickle.loads(pickle.dumps(metric))]
)
def test_a_copy_goes_on_by_itself(case, copy):
    metric = case.make()
    metric.update(*first(case))
    before = metric.compute().item()
    twin = copy(metric)
    twin.update(*rest(case))
    assert twin.compute().item() == pytest.approx(case.function(*case.inputs).item(), rel=1e-9)
    assert metric.compute().item() == before


@every_case
def test_a_saved_state_is_continued(case):
    metric, later = case.make(), case.make()
    metric.persistent(True)
    later.persistent(True)
    metric.update(*first(case))
    later.load_state_dict(metric.state_dict())
    later.update(*rest(case))
    assert later.compute().item() == pytest.approx(case.function(*case.inputs).item(), rel=1e-9)
    assert case.make().state_dict() == {}


@every_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_images_of_any_precision_within_a_module_of_that_precision(case, dtype):
    metric = torch.nn.ModuleList([case.make()]).to(dtype)[0]
    images = tuple(tensor.to(dtype) for tensor in case.inputs)
    metric.update(*images)
    assert metric.compute().item() == pytest.approx(case.function(*images).item(), rel=1e-9)
    if not hasattr(metric, "embedder") and not hasattr(
        metric, "segmenter"
    ):  # which compute as they like
        in_full = case.function(*(tensor.double() for tensor in images))
        assert metric.compute().item() == pytest.approx(in_full.item(), rel=1e-9)


@every_case
def test_8_bit_and_empty_images_are_rejected_by_name(case):
    images, *others = case.inputs
    with pytest.raises(ValueError, match="preds must be floating-point"):
        case.make().update((images * 255).byte(), *others)
    with pytest.raises(ValueError, match="preds must hold at least one"):
        case.make().update(images[:0], *(other[:0] for other in others))


@every_case
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_rejected_and_not_summed(case, value):
    images, *others = case.inputs
    spoilt = images.clone()
    spoilt.view(-1)[7] = value
    metric = case.make()
    metric.update(*case.inputs)
    with pytest.raises(ValueError, match="preds must be finite"):
        metric.update(spoilt, *others)
    assert metric.compute().item() == pytest.approx(case.function(*case.inputs).item(), rel=1e-9)


@every_case
def test_the_repr_tells_the_settings(case):
    metric = case.make()
    assert all(f"{name}={value!r}" in repr(metric) for name, value in metric.settings.items())


@every_case
def test_plot_draws_the_score(case):
    from matplotlib import pyplot

    metric = case.make()
    metric.update(*case.inputs)
    _, axis = metric.plot()
    assert axis.lines[0].get_ydata()[0] == pytest.approx(metric.compute().item())
    _, axis = metric.plot([metric.compute(), metric.compute() / 2])
    assert axis.lines[0].get_ydata()[1] == pytest.approx(metric.compute().item() / 2)
    pyplot.close("all")


def test_a_collection_of_all_scores_as_each_alone():
    sweeps = {name: case for name, case in CASES.items() if name.startswith(("lv_corr", "blur"))}
    collection = MetricCollection({name: case.make() for name, case in sweeps.items()})
    preds, target = CASES["blur_gain"].inputs
    for scenes in (slice(0, 3), slice(3, None)):
        collection.update(preds=preds[scenes], target=target[scenes])
    expected = {
        name: case.function(*(preds, target)[: len(case.inputs)]).item()
        for name, case in sweeps.items()
    }
    assert {name: score.item() for name, score in collection.compute().items()} == pytest.approx(
        expected, rel=1e-9
    )


def test_a_collection_keeps_metrics_apart_that_agree_by_chance_on_the_first_batch():
    # torchmetrics merges metrics whose states have equal names and values after one batch, and
    # updates only one of them
    rising = CASES["blur_monotonicity_ac"].inputs[0][:2].flip(1)
    brighter = (rising.flip(1) * 0.5 + torch.linspace(0, 0.4, 4).reshape(1, -1, 1, 1, 1)).clamp(
        0, 1
    )
    collection = MetricCollection({mode: BlurMonotonicity(mode=mode) for mode in ("paper", "ac")})
    collection.update(rising)
    assert {score.item() for score in collection.compute().values()} == {1.0}
    collection.update(
        brighter
    )  # contrast falls while brightness rises: only the paper's energy goes up
    assert {name: score.item() for name, score in collection.compute().items()} == {
        "paper": 1.0,
        "ac": 0.5,
    }


def test_focus_hits_of_two_windows_are_kept_apart_too():
    collection = MetricCollection({"small": FocusHitRate(0.1), "large": FocusHitRate(0.9)})
    detail = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[[0.5, 0.5], [0.5, 0.1]]])
    collection.update(torch.stack([detail, torch.full_like(detail, 0.5)])[None], points)
    assert {score.item() for score in collection.compute().values()} == {0.5}
    faint_center, strong_top = torch.full((2, 3, 24, 20), 0.5)
    faint_center[:, 11:13, 9:11] = 0.6
    strong_top[:, :6] = detail[:, :6]
    collection.update(torch.stack([faint_center, strong_top])[None], points)
    assert {name: score.item() for name, score in collection.compute().items()} == {
        "small": 0.75,
        "large": 0.5,
    }
