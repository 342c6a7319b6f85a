"""The machine under test: its device, its own rates, and how a call is timed on it.

The floor of a benchmark follows from the rates of one large matrix product and one large copy,
measured in the same process: a ratio to it means the same on every GPU.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

GEMM_SIZE = {"cuda": 8192, "cpu": 1024}
COPY_BYTES = {"cuda": 2**30, "cpu": 2**26}


@dataclass(frozen=True)
class Timed:
    """Median milliseconds of a call, and the memory that it took beyond what was in use."""

    time_ms: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Machine:
    """A GPU where there is one, else the CPU."""

    device: torch.device

    @classmethod
    def here(cls) -> "Machine":
        return cls(torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @cached_property
    def gemm_flop_per_s(self) -> float:
        """Of a square product, bfloat16 on a GPU and float32 on a CPU."""
        size = GEMM_SIZE[self.device.type]
        dtype = torch.bfloat16 if self.is_gpu else torch.float32
        left, right = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
        return 2 * size**3 / (self.timed(lambda: left @ right).time_ms / 1e3)

    @cached_property
    def copy_bytes_per_s(self) -> float:
        """Of a copy within the device's memory, bytes read and bytes written."""
        source = torch.ones(COPY_BYTES[self.device.type], dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return 2 * source.nbytes / (self.timed(lambda: target.copy_(source)).time_ms / 1e3)

    def floor_ms(self, flop: float = 0.0, moved_bytes: float = 0.0) -> float:
        """Least time for arithmetic and for memory traffic, whichever is longer."""
        return 1e3 * max(flop / self.gemm_flop_per_s, moved_bytes / self.copy_bytes_per_s)

    def timed(self, call: Callable[[], object], runs: int = 5, warm_up: int = 2) -> Timed:
        """Median over `runs` calls after `warm_up`."""
        for _ in range(warm_up):
            call()
        before_bytes = self._reset_memory()
        times_ms = sorted(self._once_ms(call) for _ in range(runs))
        peak_bytes = None
        if before_bytes is not None:
            peak_bytes = torch.cuda.max_memory_allocated(self.device) - before_bytes
        return Timed(times_ms[len(times_ms) // 2], peak_bytes)

    def description(self, with_rates: bool = True) -> dict[str, Any]:
        """What every line says about where it was measured."""
        name = torch.cuda.get_device_name(self.device) if self.is_gpu else platform.processor()
        described: dict[str, Any] = {
            "device": name or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        if with_rates:
            described["gemm_tflop_per_s"] = self.gemm_flop_per_s / 1e12
            described["copy_gb_per_s"] = self.copy_bytes_per_s / 1e9
        return described

    def _reset_memory(self) -> int | None:
        if not self.is_gpu:
            return None
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def _once_ms(self, call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        if self.is_gpu:
            torch.cuda.synchronize(self.device)
        return 1e3 * (time.perf_counter() - start)
