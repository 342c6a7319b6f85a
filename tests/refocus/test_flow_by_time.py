"""The flow loss by flow time: bins against a loop, and held-out scenes at fixed times."""

import math

import pytest
import torch

from dofsuite.diffusion import velocity
from dofsuite.refocus.flow_by_time import VALIDATION_TIMES, FlowByTime, ValidationFlow
from tests.refocus.tiny import tiny_batches, tiny_module


def test_each_bin_has_the_mean_of_its_samples_over_several_steps():
    bins, seen = FlowByTime(), []
    steps = [[0.1, 0.3, 0.24, 0.7], [0.26, 0.6]]
    for t, loss in [(torch.tensor(times), torch.rand(len(times))) for times in steps]:
        bins.update(t, loss)
        seen += zip(t.tolist(), loss.tolist(), strict=True)
    means = bins.flush()
    for low, name in ((0.0, "flow_t0-0.25"), (0.25, "flow_t0.25-0.5"), (0.5, "flow_t0.5-0.75")):
        expected = [loss for t, loss in seen if low <= t < low + 0.25]
        assert means[name].item() == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert math.isnan(means["flow_t0.75-1"])  # no sample
    assert all(math.isnan(mean) for mean in bins.flush().values())  # begun anew


def test_a_resumed_run_goes_on_with_its_bins():
    bins, resumed = FlowByTime(), FlowByTime()
    bins.update(torch.tensor([0.1]), torch.tensor([2.0]))
    resumed.load_state_dict(bins.state_dict())
    for part in (bins, resumed):
        part.update(torch.tensor([0.2]), torch.tensor([1.0]))
    assert resumed.flush()["flow_t0-0.25"] == bins.flush()["flow_t0-0.25"] == 1.5


def test_validation_measures_a_perfect_network_as_zero_and_a_silent_one_as_its_velocity():
    (batch,) = tiny_batches(1)
    module = tiny_module()
    x = module.example(batch)
    v = velocity(x.first, x.noise)
    for predicted, expected in ((v, 0.0), (torch.zeros_like(v), v.square().mean().item())):
        module.velocity = lambda *inputs, predicted=predicted: predicted
        flow = ValidationFlow(torch.device("cpu"))
        module.measure_flow(batch, flow)
        values = flow.values()
        assert set(values) == {"flow", *(f"flow_t{t}" for t in VALIDATION_TIMES)}
        assert all(value == pytest.approx(expected, rel=1e-5) for value in values.values())


def test_both_targets_give_the_mean_of_their_losses(monkeypatch):
    (batch,) = tiny_batches(1)
    module = tiny_module(flow_targets="both")
    x = module.example(batch)
    monkeypatch.setattr(module, "velocity", lambda noisy, *inputs: torch.zeros_like(noisy))
    of_each = [velocity(clean, x.noise).square().mean().item() for clean in (x.first, x.second)]
    assert module.losses(x)["flow"].item() == pytest.approx(sum(of_each) / 2, rel=1e-5)
