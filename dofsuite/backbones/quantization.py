"""The frozen weights of a transformer's blocks in 8 or 4 bits, by diffusers' own quantizers."""

import importlib.util
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dofsuite.backbones.frozen_linear import HostLinear, QuantizedLinear, SizedLinear
from dofsuite.errors import UserError

# Of the weights alone: what they are multiplied with stays in 16 or 32 bits. `int8` and `fp8` have
# a scale for each row (torchao), `nf4` one for 64 values, itself in 8 bits (bitsandbytes; QLoRA,
# arXiv 2305.14314).
Quantization = Literal["none", "int8", "fp8", "nf4"]

BITS: dict[Quantization, Literal[4, 8] | None] = {"none": None, "int8": 8, "fp8": 8, "nf4": 4}
PACKAGES = {"int8": "torchao", "fp8": "torchao", "nf4": "bitsandbytes"}
# The first with arithmetic in 8-bit floating point: Ada; before it torchao converts in software.
FP8_CAPABILITY = (8, 9)


def check_can_quantize(quantization: Quantization, key: str) -> None:
    """Check that a quantization's package is installed, and that the GPU that is here has it.

    Args:
        quantization: How.
        key: What chose it, for the error: `model.quantize` or `--quantize`.

    Raises:
        UserError: One of both is missing.
    """
    package = PACKAGES.get(quantization)
    if package is not None and importlib.util.find_spec(package) is None:
        raise UserError(f"{key}: {quantization} needs {package}: pip install 'dofsuite[quantize]'.")
    if quantization == "fp8" and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        if (major, minor) < FP8_CAPABILITY:
            raise UserError(
                f"{key}: fp8 needs a GPU of compute capability 8.9 (Ada, Hopper), and this one has "
                f"{major}.{minor}: set int8."
            )


def store_blocks(
    transformer: Any,
    quantization: Quantization,
    on_host: bool = False,
    key: str = "model.quantize",
) -> None:
    """Store the weights of a transformer's blocks for less memory; before an adapter is attached.

    Their linears alone, in place. Embeddings and output layers, which lie outside of the blocks,
    stay as they are. On the meta device, where there are no weights, linears that are counted as
    these stand for them.

    Args:
        transformer: A frozen model of diffusers.
        quantization: In how many bits.
        on_host: In the host's memory, from where every product copies its own.
        key: What chose the quantization, for the errors.

    Raises:
        UserError: Its package is not installed, or the GPU has no such arithmetic.
    """
    block_lists = [child for child in transformer.children() if isinstance(child, nn.ModuleList)]
    # Without weights
    if transformer.device.type == "meta":
        if quantization != "none" or on_host:
            bits = BITS[quantization]
            for blocks in block_lists:
                _replace_linears(blocks, lambda each: SizedLinear(each, bits, on_host))
        return
    # In fewer bits, one after the other: no second copy of the network is in memory
    if quantization != "none":
        check_can_quantize(quantization, key)
        quantizer = _quantizer(quantization, transformer.dtype)
        for blocks in block_lists:
            _quantize_weights(blocks, quantizer)
        _describe(transformer, quantizer)
    # bitsandbytes has linears of its own
    if on_host or quantization in ("int8", "fp8"):
        for blocks in block_lists:
            _replace_linears(blocks, HostLinear if on_host else QuantizedLinear)


def is_quantized(transformer: Any) -> bool:
    return bool(getattr(transformer, "is_quantized", False))


# What diffusers and PEFT read of a model that was quantized while it was loaded.
def _describe(transformer: Any, quantizer: Any) -> None:
    method = quantizer.quantization_config.quant_method
    transformer.hf_quantizer, transformer.is_quantized = quantizer, True
    transformer.quantization_method = method
    transformer.is_loaded_in_4bit = method == "bitsandbytes"
    transformer.fuse_lora = _refuse_to_merge


def _refuse_to_merge(*_: Any, **__: Any) -> None:
    raise TypeError(
        "the base is quantized, and merging would round the adapter to its few levels; load the "
        "export without quantize, and merge there"
    )


def _quantizer(quantization: Quantization, dtype: torch.dtype) -> Any:
    from diffusers import BitsAndBytesConfig, TorchAoConfig
    from diffusers.quantizers.auto import DiffusersAutoQuantizer

    if quantization == "nf4":
        config: Any = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    else:
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

        of_weights = Int8WeightOnlyConfig if quantization == "int8" else Float8WeightOnlyConfig
        # Not torch's switches: TF32 products, and a compiler that searches for hours
        config = TorchAoConfig(of_weights(set_inductor_config=False))
    return DiffusersAutoQuantizer.from_config(config, pre_quantized=False)


# What `from_pretrained` does with a quantizer, for the blocks alone: it leaves layers out by parts
# of their names, and FLUX's blocks have a `proj_out` as the network has.
def _quantize_weights(blocks: nn.ModuleList, quantizer: Any) -> None:
    weights = dict(blocks.named_parameters())
    if quantizer.quantization_config.quant_method == "bitsandbytes":
        from diffusers.quantizers.bitsandbytes.utils import replace_with_bnb_linear

        replace_with_bnb_linear(blocks, [], quantization_config=quantizer.quantization_config)
    device = torch.get_default_device()
    for name in list(weights):
        value = weights.pop(name).detach()
        if quantizer.check_if_quantized_param(blocks, value, name, {}):
            quantizer.create_quantized_param(
                blocks, _without_zero_rows(value), name, device, {}, []
            )
    # On a CPU bitsandbytes repacks what it runs without gradients, for good
    of_bitsandbytes: Any
    for of_bitsandbytes in blocks.modules():
        if hasattr(of_bitsandbytes, "support_avx512bf16_for_cpu"):
            of_bitsandbytes.support_avx512bf16_for_cpu = False


# torchao divides a row of zeros by its largest value in fp8: one of them becomes next to nothing.
def _without_zero_rows(value: Tensor) -> Tensor:
    if value.ndim != 2 or not (is_zero := (value == 0).all(dim=1)).any():
        return value
    value = value.clone()
    value[is_zero, 0] = 1e-12
    return value


def _replace_linears(blocks: nn.ModuleList, replacement: Any) -> None:
    linears = {name: each for name, each in blocks.named_modules() if isinstance(each, nn.Linear)}
    for name, each in linears.items():
        parent, _, child = name.rpartition(".")
        setattr(blocks.get_submodule(parent), child, replacement(each))
