"""The published architectures at full size with random weights, for counting and timing."""

from dofsuite.backbones.architectures import (
    RandomDepth,
    RandomFlux,
    RandomSaliency,
    RandomSdxl,
    default_dtype,
)

__all__ = ["RandomDepth", "RandomFlux", "RandomSaliency", "RandomSdxl", "default_dtype"]
