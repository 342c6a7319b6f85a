"""The low-rank adapter: which linears of FLUX it sits on, how it is made, saved and read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders import FluxLoraLoaderMixin
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, get_peft_model_state_dict

ATTENTION_AND_MLP = re.compile(
    r"(single_)?transformer_blocks\.\d+\.("
    r"attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
    r"|ff\.net\.(0\.proj|2)|ff_context\.net\.(0\.proj|2)|proj_mlp|proj_out)"
)
"""The attention and MLP linears of every block: 19 x 12 + 38 x 5 = 418 in FLUX.1-dev."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation of the transformer (arXiv 2106.09685)."""

    rank: int = 64
    """Rank, and alpha: a scale of one, so that no tool can lose it (*stated* rank; alpha *ours*)."""
    targets: Literal["attention_and_mlp", "all_linear"] = "attention_and_mlp"
    """Which linears: the 418 of the blocks (*inferred*), or every linear of the transformer, as PEFT's all-linear."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank: must be at least 1, got {self.rank}")

    def target_names(self, transformer: FluxTransformer2DModel) -> list[str]:
        """Return the full names of the linears that get an adapter."""
        linears = [
            name
            for name, module in transformer.named_modules()
            if isinstance(module, torch.nn.Linear)
        ]
        if self.targets == "all_linear":
            return linears
        return [name for name in linears if ATTENTION_AND_MLP.fullmatch(name)]

    def attach(self, transformer: FluxTransformer2DModel) -> None:
        """Freeze `transformer` and add a new adapter in float32, B zero: the output stays as it was."""
        transformer.requires_grad_(False)
        names = self.target_names(transformer)
        transformer.add_adapter(LoraConfig(r=self.rank, lora_alpha=self.rank, target_modules=names))
        for parameter in transformer.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def save_lora(transformer: FluxTransformer2DModel, folder: Path) -> None:
    """Write `pytorch_lora_weights.safetensors`, as stock diffusers loads it (rank and alpha in its header).

    The header's sets are sorted, so that the same weights are the same bytes.
    """
    metadata = {
        part: {
            key: sorted(value) if isinstance(value, set) else value for key, value in config.items()
        }
        for part, config in _collate_lora_metadata({"transformer": transformer}).items()
    }
    FluxLoraLoaderMixin.save_lora_weights(
        folder, transformer_lora_layers=get_peft_model_state_dict(transformer), **metadata
    )


def load_lora(transformer: FluxTransformer2DModel, folder: Path) -> None:
    """Read an adapter that `save_lora` wrote, safetensors only."""
    state, metadata = FluxLoraLoaderMixin.lora_state_dict(
        folder, use_safetensors=True, return_lora_metadata=True
    )
    FluxLoraLoaderMixin.load_lora_into_transformer(state, None, transformer, metadata=metadata)
