"""The synthetic data sets: written as shards on first use, from the photographs of the scikit-image package.

`synthetic:photo` and `synthetic:texture` are for training, `synthetic:val` for validation (one
photograph, coffee, which none of them contains), `synthetic:motorcycle` for evaluation only.
`captioned_sets.py` has those with captions
and EXIF: `synthetic:deep` and `synthetic:shallow` for training, `synthetic:prompts` and
`synthetic:shallow_val` held out. They lie in `$DOFSUITE_CACHE`, or else in `~/.cache/dofsuite`, in a
folder named for the version of their content.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dofsuite.data.manifest import Verify, read_manifest, verify_shards
from dofsuite.data.shards import write_shards
from dofsuite.data.synthetic.captioned_sets import (
    CAPTIONED_SETS,
    CAPTIONED_VERSION,
    captioned_samples,
)
from dofsuite.data.synthetic.motorcycle import motorcycle
from dofsuite.data.synthetic.names import OLD_PREFIX, PREFIX, is_synthetic
from dofsuite.data.synthetic.photo_scenes import Scene, SceneRecipe, scenes
from dofsuite.data.synthetic.photographs import photograph
from dofsuite.errors import UserError
from dofsuite.images import encode_png

CONTENT_VERSION = "embedded-1"
"""Folder of the cache; not renamed with the sets, so that what was written before stays valid."""
LICENCE = "public domain and CC0, as stated by scikit-image for each photograph"

RECIPES = {
    "photo": SceneRecipe(("astronaut", "chelsea", "rocket"), (), 0.0, scenes=1024, seed=1),
    "texture": SceneRecipe(
        ("astronaut", "chelsea", "rocket"),
        ("brick", "grass", "gravel", "camera"),
        0.5,
        scenes=512,
        seed=2,
    ),
    "val": SceneRecipe(("coffee",), (), 0.0, scenes=64, seed=3),
}
"""What each set of scenes is drawn from; a change here needs another CONTENT_VERSION."""


def cache_folder() -> Path:
    """Return the folder for what dofsuite writes on first use."""
    return Path(os.environ.get("DOFSUITE_CACHE") or Path.home() / ".cache" / "dofsuite")


def resolve(folder: str | os.PathLike[str]) -> Path:
    """Return where a folder of shards lies; `synthetic:NAME` is one of the synthetic sets.

    Raises:
        UserError: There is no synthetic set of that name.
    """
    if not is_synthetic(folder):
        return Path(folder)
    name = os.fspath(folder).removeprefix(PREFIX)
    if name in CAPTIONED_SETS:
        return cache_folder() / CAPTIONED_VERSION / name
    if name not in (*RECIPES, "motorcycle"):
        there = ", ".join(f"{PREFIX}{known}" for known in (*RECIPES, "motorcycle", *CAPTIONED_SETS))
        raise UserError(f"{folder}: there is no such synthetic set: choose one of {there}.")
    return cache_folder() / CONTENT_VERSION / name


def prepare(folder: str | os.PathLike[str], verify: Verify = "full") -> Path:
    """Write a synthetic set unless it is there, check a folder of shards, and return where it lies.

    Raises:
        UserError: The shards are not whole (see `verify_shards`), or cannot be written.
    """
    path = resolve(folder)
    if is_synthetic(folder) and not path.exists():
        photograph("coffee")  # a missing package is told before anything is written
        print(
            f"dofsuite: writing {folder} to {path} (once; from scikit-image's photographs)",
            flush=True,
        )
        _write(path.name, path)
    try:
        verify_shards(path, read_manifest(path), verify)
    except UserError as error:
        if is_synthetic(folder):
            raise UserError(
                f"{error} It is a synthetic set: delete {path}, and it is written again."
            ) from error
        raise
    return path


def _write(name: str, path: Path) -> None:
    if name == "motorcycle":
        licence = "Middlebury Stereo 2014 (see data_manifests/middlebury_motorcycle.yaml)"
        write_shards(
            path,
            [_motorcycle_sample()],
            source=name,
            licence=licence,
            split="test",
            depth_kind="depth",
            depth_unit="m",
        )
        return
    if name in CAPTIONED_SETS:
        split, samples = CAPTIONED_SETS[name].split, captioned_samples(name, LICENCE)
    else:
        split, samples = "val" if name == "val" else "train", _scene_samples(name, RECIPES[name])
    write_shards(
        path,
        samples,
        source=name,
        licence=LICENCE,
        split=split,
        depth_kind="disparity",
        depth_unit="relative",
    )


def _scene_samples(name: str, recipe: SceneRecipe) -> Iterator[tuple[str, dict[str, bytes]]]:
    for number, scene in enumerate(scenes(recipe)):
        record = {
            "source": f"{OLD_PREFIX}{name}",
            "licence": LICENCE,
            "depth": {
                "kind": "disparity",
                "unit": "relative",
                "stored": "16-bit PNG, 65535 = nearest",
            },
            "layers": scene.record(),
        }
        yield (
            f"{name}{number:06d}",
            {
                "png": encode_png(scene.image_srgb),
                "depth.png": encode_png(_as_uint16(scene)),
                "json": json.dumps(record).encode(),
            },
        )


def _motorcycle_sample() -> tuple[str, dict[str, bytes]]:
    image, depth_m, valid = motorcycle()
    depth_file = io.BytesIO()
    np.save(depth_file, depth_m)
    record = {
        "source": f"{OLD_PREFIX}motorcycle",
        "licence": "Middlebury Stereo 2014",
        "depth": {
            "kind": "depth",
            "unit": "m",
            "stored": "float32, unmeasured pixels filled, see valid.png",
        },
    }
    return "motorcycle", {
        "png": encode_png(image),
        "depth.npy": depth_file.getvalue(),
        "valid.png": encode_png(valid.astype(np.uint8) * 255),
        "json": json.dumps(record).encode(),
    }


def _as_uint16(scene: Scene) -> np.ndarray:
    return np.rint(scene.disparity * 65535).astype(np.uint16)
