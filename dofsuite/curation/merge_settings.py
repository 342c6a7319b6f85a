"""What the plan and the shards of a curation follow from, beside the verdicts."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """What the plan and the shards follow from, beside the verdicts."""

    licence: str = "not stated"
    val_share: float = 0.0
    test_share: float = 0.02
    balance: bool = False
    decisions: str | None = None
    decisions_sha256: str | None = None
    samples_per_shard: int = 256
    depth_model: str | None = None
    depth_kind: str | None = None
