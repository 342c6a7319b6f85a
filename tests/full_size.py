"""The published architectures at full size with random weights, for counting and timing."""

from dofsuite.backbones.architectures import (
    RandomDepth,
    RandomFlux,
    RandomKlein,
    RandomSaliency,
    RandomSdxl,
    default_dtype,
)

__all__ = [
    "RandomDepth",
    "RandomFlux",
    "RandomKlein",
    "RandomSaliency",
    "RandomSdxl",
    "default_dtype",
]
