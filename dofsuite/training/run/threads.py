"""As many CPU threads as this process may really use: more make training several times slower."""

from __future__ import annotations

import os
from pathlib import Path

import torch

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = QUOTA) -> int:
    """The cores that this process may use: its affinity, and the container's quota, which torch does not look at."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        limit, period = quota.read_text().split()
        return max(1, min(cores, int(limit) // int(period)))
    except (OSError, ValueError):  # no such file here, or "max": no quota
        return cores


def use_usable_cores() -> None:
    """Bound torch's threads by the usable cores, unless `OMP_NUM_THREADS` says how many the user wants."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
