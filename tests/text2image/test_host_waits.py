"""A step waits for the device nowhere: seen by a dispatch mode on the meta device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dofsuite.text2image.dmd2.stages import Stages
from tests.text2image.steps_by_hand import photographs, take_step, tiny

READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}


def tensors_of(values) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


class Waits(TorchDispatchMode):
    """Notes operators whose result the host must have, and copies between host and device that are
    not asynchronous. The meta device plays the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        on_meta = [tensor.is_meta for tensor in tensors_of((args, kwargs))]
        if name in READS and any(on_meta):
            self.found.append(name)
        out = func(*args, **(kwargs or {}))
        devices = {*on_meta, *(tensor.is_meta for tensor in tensors_of(out))}
        if name in ("_to_copy", "copy_") and devices == {True, False}:
            self.copies += 1
            if not (kwargs or {}).get("non_blocking") and args[-1] is not True:
                self.found.append(f"{name} of {tuple(args[0].shape)}")
        return out


@pytest.mark.slow
@pytest.mark.parametrize("cycle", [0, 1], ids=["deep", "shallow"])
def test_a_cycle_waits_for_the_device_nowhere(cycle):
    module = tiny(stages=Stages(deep=0), exif_conditioned=("critic",), teacher_dtype="bfloat16")
    module.to("meta")
    sample = None
    waits = Waits()
    for index in range(6 * cycle, 6 * cycle + 6):
        batch = photographs(64, index, bool(cycle), captions=f"a red ball {index}")
        tensors = {
            name: value.to("meta")
            for name, value in batch._asdict().items()
            if isinstance(value, torch.Tensor) and name != "index"
        }
        with waits:
            sample = take_step(module, batch._replace(**tensors), index, sample)
            for name in module.active_optimizers(module.stages.step(index)):
                torch.nn.utils.clip_grad_norm_(module.trained[name].parameters(), 10.0)
    assert waits.found == []
    assert waits.copies > 30  # noise, times, sizes and prompts: the mode sees them
