"""No more CPU threads than cores that this process may use: more make training much slower."""

import os
from pathlib import Path

import torch

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = QUOTA) -> int:
    """Return the cores of this process: by its affinity and the container's quota."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        limit, period = quota.read_text().split()
        return max(1, min(cores, int(limit) // int(period)))
    except (OSError, ValueError):  # no such file here, or "max": no quota
        return cores


def use_usable_cores() -> None:
    """Limit torch's threads to the usable cores, unless `OMP_NUM_THREADS` is set."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
