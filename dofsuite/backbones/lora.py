"""LoRA on a backbone's transformer: target layers, attaching, saving and loading."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.training_utils import _collate_lora_metadata, cast_training_params
from peft import LoraConfig, get_peft_model_state_dict

from dofsuite.backbones.families import family_of


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation of the transformer (arXiv 2106.09685)."""

    rank: int = 64
    """Rank, and alpha: a scale of one, which no tool can drop (*stated* rank; alpha *ours*)."""
    targets: Literal["attention_and_mlp", "all_linear"] = "attention_and_mlp"
    """The linears of attention and MLPs (*inferred*; 418 in FLUX.1-dev, 100 in FLUX.2 klein 4B), or
    all linears, as PEFT's all-linear."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank: must be at least 1, got {self.rank}")

    def target_names(self, transformer: Any) -> list[str]:
        pattern = family_of(transformer).lora_targets
        return [
            name
            for name, module in transformer.named_modules()
            if isinstance(module, torch.nn.Linear)
            and (self.targets == "all_linear" or pattern.fullmatch(name))
        ]

    def attach(self, transformer: Any) -> None:
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


def save_lora(transformer: Any, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write `pytorch_lora_weights.safetensors`, as stock diffusers loads it.

    Rank and alpha are in its header. The header's sets are sorted, so that the same weights are the
    same bytes.
    """
    metadata = _collate_lora_metadata({"transformer": transformer})
    for config in metadata.values():
        config |= {key: sorted(value) for key, value in config.items() if isinstance(value, set)}
    weights = get_peft_model_state_dict(transformer)
    family_of(transformer).lora_mixin.save_lora_weights(
        folder,
        transformer_lora_layers={name: weight.to(dtype) for name, weight in weights.items()},
        **metadata,
    )


def load_lora(transformer: Any, folder: Path) -> None:
    loader = family_of(transformer).lora_mixin
    state, metadata = loader.lora_state_dict(
        folder, use_safetensors=True, return_lora_metadata=True
    )
    transformer.load_lora_adapter(state, network_alphas=None, metadata=metadata)
