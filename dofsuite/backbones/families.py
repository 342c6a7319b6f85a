"""The families, by the class of their transformer. A new one is a file, and a line here."""

from typing import Any

from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel

from dofsuite.backbones.family import Family
from dofsuite.backbones.flux.family import Flux1
from dofsuite.backbones.klein.family import Flux2Klein

FAMILIES: dict[type, Family] = {
    FluxTransformer2DModel: Flux1(),
    Flux2Transformer2DModel: Flux2Klein(),
}


def family_of(transformer: Any) -> Family:
    """Return the family of a transformer.

    Raises:
        TypeError: It belongs to none.
    """
    for network, family in FAMILIES.items():
        if isinstance(transformer, network):
            return family
    raise TypeError(f"{type(transformer).__name__} is no transformer of a backbone family")
