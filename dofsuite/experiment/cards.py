"""GPUs by name: memory, matrix rate, and the share of it that training has reached."""

from typing import Literal, NamedTuple

import torch

# Names that an experiment file may say it is made for.
CardName = Literal["RTX4090", "A100-40", "A100", "H100", "H200"]
GIB = 2**30
# Left free for CUDA's context, libraries' workspaces and fragmentation.
SPARE_GIB = 3.0
# Measured peak over counted peak (dofsuite.training.footprint): one number for both works, the
# geometric mean of two rows measured on an H200 (refocus 512 px batch 1: 92.7 of 98.7 GiB; Shallow
# generator step: 104.0 of 100.5). The two rows held out: docs/performance.md.
MEASURED_OVER_COUNTED = 0.986


class Card(NamedTuple):
    """A GPU."""

    name: str
    memory_gib: float
    # bfloat16 TFLOP/s of large matrix products.
    gemm_tflops: float


# H200: measured (8192^3, torch 2.11). The others: their data sheet's dense rate times the share of
# it that the H200 reaches, 792 of 989.
CARDS: dict[CardName, Card] = {
    "RTX4090": Card("RTX4090", 23.5, 132),
    "A100-40": Card("A100-40", 39.4, 250),
    "A100": Card("A100", 79.1, 250),
    "H100": Card("H100", 78.0, 792),
    "H200": Card("H200", 139.8, 792),
}

# What the smallest common card of a size has: RTX 4080, RTX 4090, L40S, H100.
MEMORY_GIB_OF_GB = {16: 15.6, 24: 23.5, 48: 44.3, 80: 78.0}


def sizes_that_hold(peak_gib: float) -> str:
    """Say which of the sizes that cards are sold in hold a step."""
    fitting = [gb for gb, gib in MEMORY_GIB_OF_GB.items() if peak_gib <= gib - SPARE_GIB]
    others = [gb for gb in MEMORY_GIB_OF_GB if gb not in fitting]
    if not fitting:
        return f"fits no card of {_listed(others, 'or')} GB"
    without = f", not of {_listed(others, 'or')}" if others else ""
    return f"fits cards of {_listed(fitting, 'and')} GB{without}"


def _listed(sizes: list[int], word: str) -> str:
    *others, last = map(str, sizes)
    return f"{', '.join(others)} {word} {last}" if others else last


def card_here() -> Card | None:
    """Return this machine's first GPU, or None without one; an unknown one has no rate."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    known = [card for name, card in CARDS.items() if name.split("-")[0] in properties.name]
    rate = known[-1].gemm_tflops if known else float("nan")
    return Card(properties.name, properties.total_memory / GIB, rate)


def share_of_gemm(work: str, is_compiled: bool) -> tuple[float, str]:
    """Return the share of the matrix rate that a work's training reached, and where."""
    measured = "H200, 2026-11-28"
    if work == "refocus":
        return (0.53 if is_compiled else 0.35), f"measured: {measured}"
    return 0.056, f"measured: {measured}, before working copies and compiled blocks"
