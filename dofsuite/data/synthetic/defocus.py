"""Photographs of the layered scenes: random EXIF, focus on the nearest object, a thin lens.

The lens is `optics.coc_radius_px` on a sensor 36 mm wide, of which the 64 px of a scene are the
whole width: a pixel is 0.5625 mm, so lenses are long. With focal lengths from 170 to 220 mm and
things focused at 1.37 to 1.82 m, f/22 still gives the wall, at 10 m, a circle of confusion of 1.1
to 3.0 px (diameter), and f/1.8 one of 14 to 36 px. An aperture
sweep at 64 px needs that: with a 50-mm lens every circle at f/22 would lie below one pixel, where
the lens of training is the identity. The wall alone is more than a quarter of every scene.

f-numbers: 1.8 to 5.6 in the Shallow set and 11 to 22 in the Deep set, as the paper sorts
photographs (below 10, and 10 and above, *stated*). The images of the Deep set are the all-in-focus
scenes themselves (*ours*: the paper uses photographs without blur), their EXIF is a label.

Display values are blurred (gamma 1): *inferred* for the paper's lens, which blurs the generator's
own pixel values, and the Shallow set must be rendered like the lens of training.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dofsuite.data.synthetic.layered_scenes import LAYERED_SIZE_PX, LayeredScene, depth_m_of
from dofsuite.images import to_uint8
from dofsuite.optics import (
    ThinLens,
    coc_radius_px,
    display_to_linear,
    linear_to_display,
    pixel_pitch_mm,
    render_bokeh,
)

SHALLOW_F_NUMBERS = (1.8, 2.8, 4.0, 5.6)
DEEP_F_NUMBERS = (11.0, 16.0, 22.0)
FOCAL_LENGTHS_MM = (170.0, 220.0)
SENSOR_WIDTH_MM = 36.0
GAMMA = 1.0
METHOD = "occlusion"
# Layers of the renderer (*ours*): at 64 px >= 49 dB to its default, in half the time.
LAYERS = 16
BATCH_SIZE = 128


class Exposure(NamedTuple):
    """The lens of one photograph and the distance at which it was focused."""

    f_number: float
    focal_length_mm: float
    focus_m: float

    def exif(self) -> dict[str, object]:
        return {
            "f_number": self.f_number,
            "focal_length_mm": self.focal_length_mm,
            "focal_length_of": "35mm film",
            "focus_m": self.focus_m,
        }


def draw_exposure(
    rng: np.random.Generator, scene: LayeredScene, f_numbers: tuple[float, ...]
) -> Exposure:
    """Draw a lens, focused on the scene's nearest object."""
    focal_length_mm = round(rng.uniform(*FOCAL_LENGTHS_MM), 1)
    return Exposure(
        float(rng.choice(f_numbers)),
        focal_length_mm,
        focus_m=float(depth_m_of(scene.things[0].disparity)),
    )


def exposure_radius_px(scenes: list[LayeredScene], exposures: list[Exposure]) -> Tensor:
    """Return the signed radius of the circle of confusion, `[b, 1, 64, 64]` float64."""
    disparity = np.stack([scene.disparity for scene in scenes])[:, None]
    f_number, focal_length_mm, focus_m = torch.tensor(exposures, dtype=torch.float64).unbind(1)
    pitch_mm = pixel_pitch_mm(LAYERED_SIZE_PX, SENSOR_WIDTH_MM)
    depth_m = torch.from_numpy(np.asarray(depth_m_of(disparity)))
    return coc_radius_px(ThinLens(focal_length_mm, f_number), depth_m, focus_m, pitch_mm)


def photographed(
    exposed: Iterable[tuple[LayeredScene, Exposure]],
) -> Iterator[tuple[LayeredScene, Exposure]]:
    """Yield the scenes with their photographs, in order."""
    exposed = iter(exposed)
    while batch := list(islice(exposed, BATCH_SIZE)):
        # One f-number at a time: the renderer's padding grows with the largest circle.
        images: dict[int, np.ndarray] = {}
        for f_number in sorted({exposure.f_number for _, exposure in batch}):
            same = [i for i, (_, exposure) in enumerate(batch) if exposure.f_number == f_number]
            images |= zip(same, photograph([batch[i] for i in same]), strict=True)
        for i, (scene, exposure) in enumerate(batch):
            yield scene._replace(image_srgb=images[i]), exposure


def photograph(exposed: list[tuple[LayeredScene, Exposure]]) -> np.ndarray:
    """Render the photographs `[b, 64, 64, 3]` uint8 of scenes as one batch."""
    scenes, exposures = [scene for scene, _ in exposed], [exposure for _, exposure in exposed]
    images = torch.from_numpy(np.stack([scene.image_srgb for scene in scenes]))
    image_srgb = images.permute(0, 3, 1, 2).float() / 255  # [b, h, w, 3] -> [b, 3, h, w]
    radius_px = exposure_radius_px(scenes, exposures).float()
    with torch.no_grad():
        light = render_bokeh(
            display_to_linear(image_srgb, GAMMA), radius_px, METHOD, LAYERS, fft_dtype=torch.float32
        )
    return to_uint8(linear_to_display(light, GAMMA)).permute(0, 2, 3, 1).numpy()
