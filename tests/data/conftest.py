"""Small shards whose pictures carry their own number, and a cache for the synthetic data of this
test run.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dofsuite.data.shards import write_shards
from dofsuite.data.synthetic.names import PREFIX
from dofsuite.data.synthetic.sets import prepare


def encoded(values: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind, **options)
    return file.getvalue()


def numbered_samples(count: int, tag: str) -> list[tuple[str, dict[str, bytes]]]:
    """Return samples `tag000000`, ... whose pictures are flat and whose disparity rises to the
    right.
    """
    ramp = np.repeat(np.arange(16, dtype=np.uint16)[None] * 4369, 16, axis=0)
    return [
        (
            f"{tag}{number:06d}",
            {
                "png": encoded(np.full((16, 16, 3), number, dtype=np.uint8)),
                "depth.png": encoded(ramp),
                "json": json.dumps({"number": number}).encode(),
            },
        )
        for number in range(count)
    ]


def write_numbered(
    folder: Path, count: int, tag: str = "n", samples_per_shard: int = 5, split: str = "train"
) -> Path:
    write_shards(
        folder,
        numbered_samples(count, tag),
        source=tag,
        licence="CC0",
        split=split,
        depth_kind="disparity",
        depth_unit="relative",
        samples_per_shard=samples_per_shard,
    )
    return folder


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """23 samples in shards of five."""
    return write_numbered(tmp_path / "shards", 23)


@pytest.fixture(scope="session")
def two_sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two training sources, of 23 and 14 samples; for reading only."""
    folder = tmp_path_factory.mktemp("sources")
    return {
        "real": str(write_numbered(folder / "real", 23, "real")),
        "made": str(write_numbered(folder / "made", 14, "made")),
    }


@pytest.fixture(scope="session")
def synthetic_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds `synthetic:val` and `synthetic:motorcycle`, written for this test run."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOFSUITE_CACHE", str(cache))
        for name in ("val", "motorcycle"):
            prepare(f"{PREFIX}{name}")
    return cache
