"""LoRA on FLUX's transformer: target layers, attaching, saving and loading."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders import FluxLoraLoaderMixin
from diffusers.models.normalization import AdaLayerNormZero, AdaLayerNormZeroSingle
from diffusers.training_utils import _collate_lora_metadata, cast_training_params
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

# The attention and MLP linears of every block: 19 x 12 + 38 x 5 = 418 in FLUX.1-dev.
ATTENTION_AND_MLP = re.compile(
    r"(single_)?transformer_blocks\.\d+\.("
    r"attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
    r"|ff\.net\.(0\.proj|2)|ff_context\.net\.(0\.proj|2)|proj_mlp|proj_out)"
)


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation of the transformer (arXiv 2106.09685)."""

    rank: int = 64
    """Rank, and alpha: a scale of one, which no tool can drop (*stated* rank; alpha *ours*)."""
    targets: Literal["attention_and_mlp", "all_linear"] = "attention_and_mlp"
    """The 418 linears of the blocks (*inferred*), or all linears, as PEFT's all-linear."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank: must be at least 1, got {self.rank}")

    def target_names(self, transformer: FluxTransformer2DModel) -> list[str]:
        return [
            name
            for name, module in transformer.named_modules()
            if isinstance(module, torch.nn.Linear)
            and (self.targets == "all_linear" or ATTENTION_AND_MLP.fullmatch(name))
        ]

    def attach(self, transformer: FluxTransformer2DModel) -> None:
        attach_lora(transformer, self.rank, self.target_names(transformer))


def attach_lora(
    network: Any, rank: int, target_names: list[str], alpha: float | None = None
) -> None:
    """Freeze a network and add a float32 adapter; as B is zero, the output is unchanged.

    Alpha is the rank where it is not given: a scale of one.
    """
    network.requires_grad_(False)
    scale = {"r": rank, "lora_alpha": rank if alpha is None else alpha}
    network.add_adapter(LoraConfig(**scale, target_modules=target_names))
    cast_training_params(network)


def share_low_precision_inputs(transformer: FluxTransformer2DModel) -> None:
    """Let the linears that read one tensor keep one low-precision copy of it, under autocast.

    Autocast runs a block's norms in float32, and PEFT casts what a linear with an adapter gets to
    the adapter's float32; so q, k, v and the MLP each cast the same tensor down again and each save
    their own copy for the backward pass, 3 of the about 20 widths that a single block saves. Here
    the norms cast their output once and PEFT's cast is off: the same numbers bit for bit. Only for
    training under autocast: without it, a bfloat16 input would meet a float32 adapter.
    """
    for module in transformer.modules():
        if isinstance(module, AdaLayerNormZero | AdaLayerNormZeroSingle):
            module.register_forward_hook(_as_autocast_would)
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False


# Of a norm's outputs, the first is the input of the block's linears, the rest are modulations.
def _as_autocast_would(
    module: torch.nn.Module, inputs: Any, outputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    normed, *modulations = outputs
    device = normed.device.type
    if torch.is_autocast_enabled(device):
        normed = normed.to(torch.get_autocast_dtype(device))
    return normed, *modulations


def save_lora(
    transformer: FluxTransformer2DModel, folder: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write `pytorch_lora_weights.safetensors`, as stock diffusers loads it.

    Rank and alpha are in its header. The header's sets are sorted, so that the same weights are the
    same bytes.
    """
    metadata = _collate_lora_metadata({"transformer": transformer})
    for config in metadata.values():
        config |= {key: sorted(value) for key, value in config.items() if isinstance(value, set)}
    weights = get_peft_model_state_dict(transformer)
    FluxLoraLoaderMixin.save_lora_weights(
        folder,
        transformer_lora_layers={name: weight.to(dtype) for name, weight in weights.items()},
        **metadata,
    )


def load_lora(transformer: FluxTransformer2DModel, folder: Path) -> None:
    state, metadata = FluxLoraLoaderMixin.lora_state_dict(
        folder, use_safetensors=True, return_lora_metadata=True
    )
    FluxLoraLoaderMixin.load_lora_into_transformer(state, None, transformer, metadata=metadata)
