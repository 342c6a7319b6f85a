"""The fused step is chosen on GPUs alone, and never against the experiment's own words."""

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch._subclasses.fake_tensor import FakeTensorMode

from dofsuite.training.optimizers import fuse


@pytest.mark.parametrize(
    ("device", "options", "fused"),
    [("cuda", {}, True), ("cpu", {}, None), ("cuda", {"foreach": True}, None)],
)
def test_adamw_is_fused_on_gpus_unless_the_experiment_says_otherwise(device, options, fused):
    with FakeTensorMode():
        weight = torch.nn.Parameter(torch.empty(2, device=device))
        optimizer = fuse(torch.optim.AdamW([weight], **options))
        assert optimizer.param_groups[0]["fused"] == fused
        # Lightning clips its gradients under bf16-mixed
        weight.grad = torch.zeros_like(weight)
        MixedPrecision("bf16-mixed", "cpu").clip_gradients(optimizer, 1.0)


def test_an_optimizer_without_a_fused_step_is_left_alone():
    optimizer = torch.optim.RMSprop([torch.nn.Parameter(torch.zeros(2))])
    assert "fused" not in fuse(optimizer).param_groups[0]
