"""One measurement, and its JSON line."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One line of a benchmark; what was not measured is null."""

    what: str
    """The benchmark and the quantity, as in `lens gather`."""
    setting: dict[str, Any]
    """Sizes and options that the numbers belong to."""
    time_ms: float | None = None
    floor_ms: float | None = None
    """Least time that this machine's own rates allow, as `Machine` measured them in this process;
    for `startup` and `data`, the time of the peer."""
    peak_memory_bytes: int | None = None
    """Most memory in use on the GPU, less what was in use before."""
    counted: dict[str, float] = field(default_factory=dict)
    """Operations, FFTs, launches, bytes: the same on every machine."""
    machine: dict[str, Any] = field(default_factory=dict)
    """Device, its rates, torch's version."""

    @property
    def ratio(self) -> float | None:
        """Time over floor."""
        if self.time_ms is None or not self.floor_ms:
            return None
        return self.time_ms / self.floor_ms

    def json_line(self) -> str:
        values = asdict(self) | {"ratio": self.ratio}
        machine = values.pop("machine")
        date = datetime.now(UTC).isoformat(timespec="seconds")
        return json.dumps(_rounded(values | machine | {"date": date}))


def _rounded(value: Any) -> Any:
    """Four digits are more than a time has."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value
