"""What is trained of a network: all of it, or with LoRA what is new in it.

A network with LoRA has modules of its own and, in place of a copy, the weights of the network that
it started as, the same tensors: real score, generator and fake score then hold SDXL once. No
adapter has to be switched off for the real score, which has none.
"""

import copy
from collections.abc import Iterator
from typing import Any

from torch import nn

from dofsuite.backbones.sdxl.adapters import UnetLora, has_lora


def is_trained(network: nn.Module, name: str) -> bool:
    """Whether a weight of a network that learns is trained: with LoRA, adapters and EXIF alone.

    The EXIF embedding starts at zero beside the UNet's weights, so it has nothing to adapt.
    """
    return not has_lora(network) or "lora_" in name or ".exif." in name


class TrainedWeights:
    """The weights of one optimizer.

    They are looked up at every call: FSDP2 and `to_empty` put others in their place.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self.networks = networks

    def parameters(self) -> Iterator[nn.Parameter]:
        for network in self.networks:
            for name, weight in network.named_parameters():
                if is_trained(network, name):
                    yield weight

    def requires_grad_(self, requires_grad: bool) -> None:
        for weight in self.parameters():
            weight.requires_grad_(requires_grad)


def with_lora(base: nn.Module, lora: UnetLora) -> Any:
    """Return a UNet with new adapters and the weights of `base`, the same tensors."""
    weights = {id(w): w for name, w in base.named_parameters() if ".exif." not in name}
    network: Any = copy.deepcopy(base, weights)
    lora.attach(network)
    return network


def frozen_to_bfloat16(network: nn.Module) -> None:
    """Store what is frozen of a UNet with LoRA in bfloat16; a shared weight changes for all."""
    for name, weight in network.named_parameters():
        if not is_trained(network, name):
            weight.data = weight.data.bfloat16()


def share_frozen(network: nn.Module, base: nn.Module) -> None:
    """Give a UNet with LoRA the frozen weights of `base` again, once it has got others.

    Args:
        network: With LoRA; copied, or emptied, since it was made.
        base: What it was made from, or another network that was.
    """
    weights = {_stock_name(name): weight for name, weight in base.named_parameters()}
    for path, module in network.named_modules():
        for name, weight in module._parameters.items():
            full_name = f"{path}.{name}"
            if weight is not None and not is_trained(network, full_name):
                module._parameters[name] = weights[_stock_name(full_name)]


def _stock_name(name: str) -> str:
    # PEFT puts a layer that it adapts one level down.
    return name.replace(".base_layer.", ".")
