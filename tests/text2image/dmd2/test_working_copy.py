"""Working copies: the same gradients, no casts, and a run that differs by rounding alone."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from dofsuite.backbones import PromptEmbeds
from dofsuite.backbones.sdxl import unet_calls
from dofsuite.text2image import Stages, Training
from dofsuite.text2image.dmd2.working_copy import WorkingCopy
from tests.text2image.tiny import tiny_module, train
from tests.text2image.tiny_unet import POOLED_DIM, TOKEN_DIM, TOKENS, tiny_unet

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return tiny_unet().eval()


def loss_of(unet) -> torch.Tensor:
    """Of a forward and of a second one that ends after the mid-block, as a critic step's."""
    draw = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, unet.config.in_channels, 8, 8, generator=draw)
    prompt = PromptEmbeds(torch.ones(2, TOKENS, TOKEN_DIM), torch.ones(2, POOLED_DIM))
    t = torch.tensor([10, 700])
    predicted = unet_calls.predict(unet, noisy, t, prompt)
    features = unet_calls.features(unet, noisy.flip(0), t, prompt)
    return predicted.float().square().mean() + features.float().square().mean()


def gradients_of(unet) -> dict[str, torch.Tensor]:
    found = {name: weight.grad for name, weight in unet.named_parameters()}
    for weight in unet.parameters():
        weight.grad = None
    return found


class Casts(TorchDispatchMode):
    """Counts casts of floating-point tensors to another dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket.__name__ == "_to_copy" and args[0].is_floating_point():
            self.count += out.dtype != args[0].dtype
        return out


def test_a_copy_of_the_same_dtype_has_the_same_gradients_bit_for_bit(unet):
    loss = loss_of(unet)
    loss.backward()
    expected = gradients_of(unet)
    copy = WorkingCopy(unet, torch.float32)
    for _ in range(2):  # micro-batches: each has a graph of its own
        copy.bind()
        found = loss_of(copy.network)
        found.backward()
        assert torch.equal(found, loss)
    for name, gradient in gradients_of(unet).items():
        assert torch.equal(gradient, 2 * expected[name]), name


def test_bfloat16_gradients_are_those_of_autocast_to_rounding_and_arrive_in_float32(unet):
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        loss_of(unet).backward()
        expected = gradients_of(unet)
        copy = WorkingCopy(unet)
        copy.bind()
        loss_of(copy.network).backward()
    found = gradients_of(unet)
    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    error = sum((found[name] - expected[name]).square().sum() for name in found).sqrt()
    assert error < 0.02 * sum(each.square().sum() for each in expected.values()).sqrt()


def test_a_forward_casts_no_weight(unet):
    copy, counts = WorkingCopy(unet), []
    for called in (unet, copy.network):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False), Casts() as casts:
            loss_of(called)
        counts.append(casts.count)
    print(f"casts of two calls: {counts[0]} under autocast, {counts[1]} of the copy")
    assert counts[0] > 100
    assert counts[1] <= 12  # noise, prompt and time embedding of two calls, and the losses


def test_a_copy_is_refreshed_once_after_its_weights_changed(unet):
    copy = WorkingCopy(unet)
    assert not copy.refresh()
    torch.optim.SGD(unet.parameters(), lr=1.0)  # no step yet
    assert not copy.refresh()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-2)
    copy.bind()
    loss_of(copy.network).backward()
    optimizer.step()
    assert copy.refresh()
    assert not copy.refresh()
    copy.release()
    for weight, rounded in zip(unet.parameters(), copy.rounded, strict=True):
        assert torch.equal(weight.bfloat16(), rounded)
    unet.load_state_dict(tiny_unet().state_dict())
    assert copy.refresh()


@pytest.mark.slow
def test_compiled_blocks_of_a_copy_are_compiled_once_for_all_steps(unet):
    """By AOT autograd without code generation, which needs a GPU or a C++ compiler."""
    torch._dynamo.reset()
    optimizer, copy = torch.optim.SGD(unet.parameters(), lr=1e-3), WorkingCopy(unet)
    copy.bind()
    expected = loss_of(copy.network)
    copy.network.compile_repeated_blocks(fullgraph=True, dynamic=False, backend="aot_eager")
    graphs = []
    for step in range(3):
        copy.bind()
        loss = loss_of(copy.network)
        loss.backward()
        if step == 0:
            torch.testing.assert_close(loss, expected, rtol=1e-2, atol=0)
        optimizer.step()
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert graphs == graphs[:1] * 3
    assert not counters["graph_break"]


@pytest.mark.slow
def test_a_run_with_working_copies_learns_as_one_without():
    runs = []
    for working_copies in (True, False):
        options = {"stages": Stages(deep=0, critic_steps=1), "lens": None}
        module = tiny_module(training=Training(working_copies=working_copies), **options)
        losses = train(module, 4, precision="bf16-mixed")
        assert not module.networks.working
        assert all(weight.dtype == torch.float32 for weight in module.networks.parameters())
        runs.append((losses, module.networks.generator.state_dict()))
    for step in range(4):
        assert runs[0][0][step] == pytest.approx(runs[1][0][step], rel=2e-2, abs=1e-4)
    start = tiny_module(lens=None).networks.generator.state_dict()
    moved, other = (
        torch.cat([(state[name] - start[name]).flatten() for name in start]) for _, state in runs
    )
    assert torch.nn.functional.cosine_similarity(moved, other, dim=0) > 0.9
