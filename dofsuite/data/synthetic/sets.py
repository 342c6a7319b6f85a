"""The synthetic sets: written as shards on first use, from scikit-image's photographs.

`synthetic:photo` and `synthetic:texture` are for training, `synthetic:val` for validation (of one
photograph, coffee, that the training sets do not contain), `synthetic:held_out` for a wider probe
(scenes of coffee, Chelsea and the motorcycle, one photograph each in turn; `synthetic:photo` and
`synthetic:texture` contain Chelsea, the random scenes none of them), `synthetic:motorcycle` for
evaluation only. `captioned_sets.py` has those with captions and EXIF: `synthetic:deep` and
`synthetic:shallow` for training, `synthetic:prompts` and `synthetic:shallow_val` held out. They lie
in `$DOFSUITE_CACHE` (default `~/.cache/dofsuite`), in a folder named after their content's version.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dofsuite.data.manifest import Verify, read_manifest, verify_shards
from dofsuite.data.shards import ENDINGS, ShardWriter
from dofsuite.data.synthetic.captioned_sets import (
    CAPTIONED_SETS,
    CAPTIONED_VERSION,
    STORED_DISPARITY,
    captioned_samples,
    sample_members,
)
from dofsuite.data.synthetic.motorcycle import motorcycle
from dofsuite.data.synthetic.names import OLD_PREFIX, PREFIX, is_synthetic
from dofsuite.data.synthetic.photo_scenes import SceneRecipe, scenes
from dofsuite.data.synthetic.photographs import photograph
from dofsuite.data.synthetic.unfinished import unfinished
from dofsuite.errors import UserError
from dofsuite.files import cache_folder
from dofsuite.images import encode_png

# Folder of the cache; not renamed with the sets, so that what was written before stays valid.
CONTENT_VERSION = "embedded-1"
LICENCE = "public domain and CC0, as stated by scikit-image for each photograph"

# Recipes of the sets of photo scenes; a change needs a new CONTENT_VERSION.
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
    "held_out": SceneRecipe(
        ("coffee", "chelsea", "motorcycle_left"), (), 0.0, scenes=96, seed=4, one_photograph=True
    ),
}
# Those of validation.
HELD_OUT = ("val", "held_out")
# A killed process loses at most so many; a multiple of what `captioned_samples` renders at once.
SAMPLES_PER_SHARD = 256
# Of the motorcycle's picture.
MIDDLEBURY = "Middlebury Stereo 2014 (see data_manifests/middlebury_motorcycle.yaml)"


def resolve(folder: str | os.PathLike[str]) -> Path:
    """Return the path of a folder of shards, which may be named `synthetic:NAME`.

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


def prepare(
    folder: str | os.PathLike[str],
    verify: Verify = "full",
    say: Callable[[str], object] | None = None,
) -> Path:
    """Write a synthetic set if it is missing, check a folder of shards, and return its path.

    `say` is told of damaged shards, which then are no errors.

    Raises:
        UserError: The shards are not intact (see `verify_shards`), or cannot be written.
    """
    # Write a synthetic set once
    path = resolve(folder)
    if is_synthetic(folder) and not path.exists():
        photograph("coffee")  # a missing package is an error before anything is written
        with unfinished(path) as temporary:
            if temporary is not None:
                print(
                    f"dofsuite: writing {folder} to {path} (once; from scikit-image's photographs)",
                    file=sys.stderr,
                    flush=True,
                )
                _write(path.name, temporary)

    # Check the shards
    try:
        verify_shards(path, read_manifest(path), verify, say)
    except UserError as error:
        if is_synthetic(folder):
            raise UserError(
                f"{error} It is a synthetic set: delete {path}, and it is written again."
            ) from error
        raise
    return path


# Write a set into a folder that may hold its first shards already; a line a shard.
def _write(name: str, folder: Path) -> None:
    samples_from: Callable[[int], Iterator[tuple[str, dict[str, bytes]]]]
    facts: dict[str, Any] = {
        "licence": LICENCE,
        "depth_kind": "disparity",
        "depth_unit": "relative",
    }
    # The motorcycle is Middlebury's; all other sets are drawn here, with exact disparity.
    if name == "motorcycle":
        samples_from, count = _motorcycle_samples, 1
        split = "test"
        facts = {
            "licence": MIDDLEBURY,
            "depth_kind": "depth",
            "depth_unit": "m",
        }
    elif name in CAPTIONED_SETS:
        samples_from = partial(captioned_samples, name, LICENCE)
        count, split = CAPTIONED_SETS[name].recipe.scenes, CAPTIONED_SETS[name].split
    else:
        samples_from, count = partial(_scene_samples, name), RECIPES[name].scenes
        split = "val" if name in HELD_OUT else "train"
        if name == "held_out":
            facts["licence"] = f"{LICENCE}; {MIDDLEBURY}"
    # What a killed process has left: whole shards are kept
    with ShardWriter(folder, SAMPLES_PER_SHARD) as writer:
        start = writer.keep()
        kept = {f"{entry.name}{ending}" for entry in writer.entries for ending in ENDINGS}
        for left in folder.iterdir():
            if left.name not in kept:
                left.unlink()
        # The rest
        for number, (key, members) in enumerate(samples_from(start), start + 1):
            writer.add(key, members)
            if number % SAMPLES_PER_SHARD == 0:
                print(f"dofsuite: {PREFIX}{name}: {number} of {count} samples", file=sys.stderr)
        writer.close(source=name, split=split, **facts)


def _scene_samples(name: str, start: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    for number, scene in enumerate(scenes(RECIPES[name], start), start):
        is_middlebury = any(layer.photograph == "motorcycle_left" for layer in scene.layers)
        record = {
            "source": f"{OLD_PREFIX}{name}",
            "licence": MIDDLEBURY if is_middlebury else LICENCE,
            "depth": STORED_DISPARITY,
            "layers": [layer._asdict() for layer in scene.layers],
        }
        yield f"{name}{number:06d}", sample_members(scene.image_srgb, scene.disparity, record)


def _motorcycle_samples(start: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    assert start == 0, "it has one sample"
    image, depth_m, valid = motorcycle()
    # Unlike the scenes it has measured depth in meters, with a mask.
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
    members = {
        "png": encode_png(image),
        "depth.npy": depth_file.getvalue(),
        "valid.png": encode_png(valid.astype(np.uint8) * 255),
        "json": json.dumps(record).encode(),
    }
    yield "motorcycle", members
