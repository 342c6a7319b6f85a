"""A refocus step waits for the device nowhere: the meta device plays the GPU."""

import pytest
import torch

from tests.refocus.tiny import tiny_batches, tiny_module
from tests.text2image.test_host_waits import Waits


@pytest.mark.parametrize("split_backward", ["none", "rows"])
def test_a_step_waits_for_the_device_nowhere(split_backward):
    (batch,) = tiny_batches(1)
    module = tiny_module(split_backward=split_backward).to("meta")
    tensors = {
        name: value.to("meta")
        for name, value in batch._asdict().items()
        if isinstance(value, torch.Tensor) and name != "index"  # `ShardData` keeps it on the CPU
    }
    with Waits() as waits:
        module.losses(module.example(batch._replace(**tensors)))["loss"].backward()
    assert waits.found == []
    assert waits.copies > 3  # noise, times, cameras: the mode sees them
