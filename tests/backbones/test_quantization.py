"""The base's blocks in 8 or 4 bits, or in the host's memory: their velocity and gradients."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from dofsuite.backbones import Lora, SmallFlux, SmallKlein, family_of
from dofsuite.backbones.frozen_linear import FrozenLinear
from dofsuite.backbones.quantization import PACKAGES, check_can_quantize, store_blocks
from dofsuite.errors import UserError

BACKBONES = {
    "FLUX.1": SmallFlux(weights=None, heads=4, single_blocks=2, downscale=2),
    "klein": SmallKlein(heads=4),
}


def stored(backbone, quantization="none", on_host=False, dtype=torch.float32):
    """A transformer with an adapter of random weights, and the empty prompt."""
    transformer, _, pooled_text, _ = backbone.load()
    for parameter in transformer.parameters():
        parameter.data = parameter.data.to(dtype)
    store_blocks(transformer, quantization, on_host)
    torch.manual_seed(0)
    Lora(rank=4).attach(transformer)
    for name, parameter in transformer.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    return transformer, pooled_text


def velocity_and_gradients(transformer, pooled_text, is_mixed=False):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(3, 2, 12, 16, 16, generator=generator)
    prompt = torch.randn(2, 1, 64, generator=generator)
    t = torch.rand(2, generator=generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
        velocity = family_of(transformer).predict_velocity(
            transformer, *latents, prompt, t, pooled_text
        )
    trained = [p for p in transformer.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(velocity.square().sum(), trained)
    return velocity.detach(), torch.cat([each.flatten().float() for each in gradients])


# By bits: the largest rounding error of a value is 1 / 254 of its row's largest (int8), 1 / 16 of
# itself (e4m3), and about a tenth of its block's largest (nf4).
ERROR = {"int8": 0.01, "fp8": 0.02, "nf4": 0.05}


@pytest.mark.parametrize("is_mixed", [False, True], ids=["32-true", "bf16-mixed"])
@pytest.mark.parametrize("quantization", ERROR)
@pytest.mark.parametrize("name", BACKBONES)
def test_a_quantized_base_has_nearly_the_velocity_and_the_adapter_s_gradients(
    name, quantization, is_mixed
):
    pytest.importorskip(PACKAGES[quantization])
    backbone, dtype = BACKBONES[name], torch.bfloat16 if is_mixed else torch.float32
    expected, gradients = velocity_and_gradients(*stored(backbone, dtype=dtype), is_mixed)
    velocity, of_quantized = velocity_and_gradients(
        *stored(backbone, quantization, dtype=dtype), is_mixed
    )
    error = float((velocity - expected).norm() / expected.norm())
    cosine = float(cosine_similarity(of_quantized, gradients, dim=0))
    print(f"velocity {error:.2e}, gradients' cosine {cosine:.5f}")
    assert 0 < error <= ERROR[quantization]
    assert cosine >= 0.99


@pytest.mark.parametrize("name", BACKBONES)
def test_blocks_in_the_host_s_memory_change_no_bit(name):
    results = []
    for on_host in (False, True):
        transformer, pooled_text = stored(BACKBONES[name], on_host=on_host)
        results.append(velocity_and_gradients(transformer, pooled_text))
        weights = sum(p.nbytes for n, p in transformer.named_parameters() if "base_layer" in n)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    # Biases alone are left of what has an adapter
    biases = sum(p.nbytes for n, p in transformer.named_parameters() if "base_layer.bias" in n)
    assert weights == biases


@pytest.mark.parametrize(
    ("quantization", "on_host"), [("none", True), ("int8", True), ("int8", False), ("fp8", False)]
)
def test_a_network_that_is_moved_multiplies_where_it_has_come(quantization, on_host):
    """The meta device stands for an accelerator: what stays on the CPU does not mix with it."""
    if quantization != "none":
        pytest.importorskip("torchao")
    transformer, pooled_text = stored(BACKBONES["FLUX.1"], quantization, on_host)
    velocity_and_gradients(transformer, pooled_text)
    transformer.to("meta")
    with torch.device("meta"):
        latent, prompt = torch.empty(1, 12, 16, 16), torch.empty(1, 1, 64)
        velocity = family_of(transformer).predict_velocity(
            transformer, latent, latent, latent, prompt, torch.empty(1), pooled_text.to("meta")
        )
    trained = [p for p in transformer.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(velocity.sum(), trained)
    assert {each.device.type for each in (velocity, *gradients)} == {"meta"}
    linears = [module for module in transformer.modules() if isinstance(module, FrozenLinear)]
    stayed = {linear._on_host[0].device.type for linear in linears if on_host}
    assert stayed == ({"cpu"} if on_host else set())


def test_a_frozen_linear_has_a_dense_one_s_gradient_and_keeps_no_dense_weight():
    """Against autograd on what torchao dequantizes; and what each keeps until the backward pass."""
    torchao = pytest.importorskip("torchao.quantization")
    torch.manual_seed(0)
    blocks = nn.ModuleList([nn.Linear(256, 512)]).requires_grad_(False)
    of_torchao = copy.deepcopy(blocks[0])
    torchao.quantize_(of_torchao, torchao.Int8WeightOnlyConfig(set_inductor_config=False))
    transformer = nn.Module()
    transformer.blocks, transformer.device, transformer.dtype = (
        nn.ModuleList([nn.Sequential(*blocks)]),
        torch.device("cpu"),
        torch.float32,
    )
    store_blocks(transformer, "int8")
    frozen = transformer.blocks[0][0]
    assert isinstance(frozen, FrozenLinear)
    x = torch.randn(8, 256, requires_grad=True)
    dense = of_torchao.weight.dequantize()
    expected = x @ dense.T + of_torchao.bias
    torch.testing.assert_close(frozen(x), expected)
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(frozen(x), x, upstream), torch.autograd.grad(expected, x, upstream)
    )
    kept = []

    def keep(tensor):
        kept.append(tensor.nbytes)
        return tensor

    for linear, least in ((frozen, 0), (of_torchao, dense.nbytes)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            linear(x)
        assert sum(kept) == 0 if linear is frozen else sum(kept) >= least


def bytes_of(weight):
    if not hasattr(weight, "tensor_data_names"):
        return weight.nbytes
    names = [*weight.tensor_data_names, *getattr(weight, "optional_tensor_data_names", ())]
    return sum(part.nbytes for name in names if (part := getattr(weight, name)) is not None)


@pytest.mark.parametrize(
    ("quantization", "is_on_host"),
    [("none", True), ("int8", False), ("fp8", False), ("nf4", False), ("int8", True)],
)
def test_what_is_counted_without_weights_has_the_stored_weights_bytes(quantization, is_on_host):
    """To 2 %: torchao's int8 has a zero point for each row beside its scale."""
    if quantization in PACKAGES:
        pytest.importorskip(PACKAGES[quantization])
    sizes = []
    for device in ("cpu", "meta"):
        with torch.device("meta"):
            counted = SmallKlein(heads=8).load().transformer
        transformer = counted if device == "meta" else SmallKlein(heads=8).load().transformer
        store_blocks(transformer, quantization, is_on_host)
        size = sum(map(bytes_of, transformer.parameters()))
        for module in transformer.modules():
            state = getattr(getattr(module, "weight", None), "quant_state", None)
            if state is not None:
                size += state.absmax.nbytes + state.state2.absmax.nbytes
        sizes.append(size)
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_a_missing_package_names_the_extra(quantization, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sentence = rf"model\.quantize: {quantization} needs \w+: pip install 'dofsuite\[quantize\]'\."
    with pytest.raises(UserError, match=sentence):
        store_blocks(BACKBONES["klein"].load().transformer, quantization)


def test_fp8_is_refused_before_ada(monkeypatch):
    pytest.importorskip("torchao")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (8, 6))
    with pytest.raises(UserError, match=r"^--quantize: fp8 needs a GPU .* has 8\.6: set int8\.$"):
        check_can_quantize("fp8", "--quantize")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (8, 9))
    check_can_quantize("fp8", "--quantize")


def test_no_adapter_is_merged_into_a_quantized_base():
    pytest.importorskip("torchao")
    transformer, _ = stored(BACKBONES["klein"], "int8")
    with pytest.raises(TypeError, match="the base is quantized"):
        transformer.fuse_lora()


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["int8", "fp8", "nf4"])
def test_a_block_of_quantized_linears_compiles_to_one_graph(quantization):
    """Where blocks are recomputed, run by eager kernels as in `test_acceleration`."""
    pytest.importorskip(PACKAGES[quantization])
    results = []
    for compiled in (False, True):
        transformer, pooled_text = stored(BACKBONES["FLUX.1"], quantization)
        transformer.enable_gradient_checkpointing()
        if compiled:
            transformer.compile_repeated_blocks(backend="eager", fullgraph=True, dynamic=False)
        results.append(velocity_and_gradients(transformer, pooled_text))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
