"""The synthetic sets with captions: layered scenes in focus (Deep) or photographed (Shallow).

    deep          training; all in focus, EXIF of f/11 to f/22 as a label
    shallow       training; other scenes, photographed with f/1.8 to f/5.6
    prompts       held out; 25 scenes for sweeps; captions in no training set, mirrored or not
    shallow_val   held out; 2048 photographs as in `shallow`, the reference set of KID and FID

Held out are scenes and, for `prompts`, captions. Surfaces are cut from the same photographs in all
sets: a generator is compared with a set of its own distribution (*ours*).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from dofsuite.data.sample_record import mirror_caption
from dofsuite.data.synthetic.defocus import (
    DEEP_F_NUMBERS,
    GAMMA,
    METHOD,
    SENSOR_WIDTH_MM,
    SHALLOW_F_NUMBERS,
    Exposure,
    draw_exposure,
    photographed,
)
from dofsuite.data.synthetic.layered_scenes import LayeredRecipe, LayeredScene, layered_scenes
from dofsuite.data.synthetic.names import OLD_PREFIX
from dofsuite.images import encode_png


@dataclass(frozen=True)
class CaptionedSet:
    recipe: LayeredRecipe
    split: str
    # Whether the scenes are photographed; else they stay all in focus.
    shallow: bool


# Folder of the cache; not renamed with the sets, so that what was written before stays valid.
CAPTIONED_VERSION = "embedded-captioned-2"
# A change of these, of the scenes or of their defocus needs a new CAPTIONED_VERSION.
CAPTIONED_SETS = {
    "deep": CaptionedSet(LayeredRecipe(scenes=4096, seed=11), "train", shallow=False),
    "shallow": CaptionedSet(LayeredRecipe(scenes=2048, seed=12), "train", shallow=True),
    "prompts": CaptionedSet(LayeredRecipe(scenes=25, seed=13), "val", shallow=False),
    "shallow_val": CaptionedSet(LayeredRecipe(scenes=2048, seed=14), "val", shallow=True),
}


# `depth` of a sample's JSON.
STORED_DISPARITY = {
    "kind": "disparity",
    "unit": "relative",
    "stored": "16-bit PNG, 65535 = nearest",
}


@cache
def held_out_captions() -> frozenset[str]:
    """Return the captions of `synthetic:prompts`, also mirrored, since training mirrors images."""
    captions = [scene.caption for scene in layered_scenes(CAPTIONED_SETS["prompts"].recipe)]
    return frozenset(captions + [mirror_caption(caption) for caption in captions])


def exposed_scenes(name: str, start: int = 0) -> Iterator[tuple[LayeredScene, Exposure]]:
    """Yield a set's scenes from `start` on, still all in focus, with their lenses."""
    spec = CAPTIONED_SETS[name]
    f_numbers = SHALLOW_F_NUMBERS if spec.shallow else DEEP_F_NUMBERS
    held_out = held_out_captions() if spec.split == "train" else frozenset()
    for number, scene in enumerate(layered_scenes(spec.recipe, held_out, start), start):
        rng = np.random.default_rng([spec.recipe.seed, number, 1])
        yield scene, draw_exposure(rng, scene, f_numbers)


def captioned_samples(
    name: str, licence: str, start: int = 0
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield `(key, members)` of a set's samples: image, disparity as a 16-bit PNG, metadata.

    Args:
        name: Of the set.
        licence: What its metadata say.
        start: First sample, a multiple of the batch in which photographs are rendered.
    """
    is_shallow = CAPTIONED_SETS[name].shallow
    exposed = exposed_scenes(name, start)
    exposed = photographed(exposed) if is_shallow else exposed
    for number, (scene, exposure) in enumerate(exposed, start):
        record: dict[str, object] = {
            "source": f"{OLD_PREFIX}{name}",
            "licence": licence,
            "caption": scene.caption,
            "exif": exposure.exif(),
            "depth": {**STORED_DISPARITY, "depth_m": "1 / (0.1 + 0.9 disparity)"},
            "things": scene.record(),
        }
        if is_shallow:
            record["lens"] = {"method": METHOD, "gamma": GAMMA, "sensor_width_mm": SENSOR_WIDTH_MM}
        yield f"{name}{number:06d}", sample_members(scene.image_srgb, scene.disparity, record)


def sample_members(
    image_srgb: np.ndarray, disparity: np.ndarray, record: Mapping[str, object]
) -> dict[str, bytes]:
    """Return a sample's files: the image, its disparity in [0, 1] with 16 bits, its metadata."""
    return {
        "png": encode_png(image_srgb),
        "depth.png": encode_png(np.rint(disparity * 65535).astype(np.uint16)),
        "json": json.dumps(record).encode(),
    }
