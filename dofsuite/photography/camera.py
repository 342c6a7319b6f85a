"""From a camera's settings to a signed blur radius in pixels: bokeh level, or thin lens by EXIF."""

from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from dofsuite.errors import UserError
from dofsuite.exif import FULL_FRAME_WIDTH_MM, camera_exif
from dofsuite.optics import ThinLens, bokeh_radius_px, coc_radius_px, pixel_pitch_mm
from dofsuite.photography.config import LensConfig
from dofsuite.photography.photo import Photo
from dofsuite.photography.scene_depth import SceneDepth
from dofsuite.photography.sweep import Variant

DEFAULT_FOCUS_M = 2.0
# Relative depth cannot be given a scale by a focal plane nearer than this to its farthest point.
LEAST_FOCUS_DISPARITY = 0.02


def radius_of(
    config: LensConfig, photo: Photo, depth: SceneDepth, variant: Variant
) -> tuple[Tensor, str]:
    """Signed blur radius [1, h, w] in pixels, and in words how it was made."""
    focus = variant.focus
    focus_disparity = depth.at(focus) if isinstance(focus, tuple) else focus
    long_side_px = max(photo.size)
    if variant.bokeh_level is not None:
        radius_px = bokeh_radius_px(
            depth.disparity, focus_disparity, variant.bokeh_level, long_side_px
        )
        words = f"bokeh {variant.bokeh_level:g}, focus at disparity {focus_disparity:.2f}"
        return radius_px[0], words
    assert variant.f_number is not None
    camera = camera_for(config, photo)
    # Relative depth gets its scale from the distance in focus.
    if depth.inverse_range_per_m is None:
        if focus_disparity < LEAST_FOCUS_DISPARITY:
            raise UserError(
                "--focus: it is the farthest point, whose distance gives relative depth no scale; "
                "focus nearer, use --bokeh, or give a depth map in meters."
            )
        depth = depth.with_focus_at(focus_disparity, camera.focus_m)
    focus_m = float(depth.meters_at(torch.tensor(focus_disparity, dtype=torch.float64)))
    # The thin lens
    lens = ThinLens(camera.focal_length_mm, variant.f_number)
    pitch_mm = pixel_pitch_mm(long_side_px, camera.sensor_width_mm)
    try:
        radius_px = coc_radius_px(lens, depth.meters(), focus_m, pitch_mm)
    except ValueError as error:
        raise UserError(f"--focal-length: {error}") from error
    taken = (
        f"{camera.focal_length_mm:g} mm f/{variant.f_number:g} on a sensor "
        f"{camera.sensor_width_mm:.1f} mm wide, focus at {focus_m:.2f} m"
    )
    return radius_px[0], taken


class Camera(NamedTuple):
    focal_length_mm: float
    sensor_width_mm: float
    focus_m: float


def camera_for(config: LensConfig, photo: Photo) -> Camera:
    """The camera that photographs: EXIF's, changed by the options.

    A focal length that is given is a full-frame one. A sensor width that is given keeps the angle
    of view of EXIF's focal length.

    Raises:
        UserError: The focal length or the sensor is neither in EXIF nor given.
    """
    # What EXIF says
    exif = Image.Exif()
    if photo.exif:
        exif.load(photo.exif)
    found = camera_exif(exif, photo.size)
    focus_m = config.focus_m or found.focus_m or DEFAULT_FOCUS_M
    # A lens that was named is on a full-frame camera.
    if config.focal_length_mm is not None:
        width_mm = config.sensor_width_mm or FULL_FRAME_WIDTH_MM
        return Camera(config.focal_length_mm, width_mm, focus_m)
    if found.focal_length_mm is None and found.equivalent_mm is not None:
        # The equivalent alone is a full-frame camera of the same view; the f-number is the user's.
        found = found._replace(
            focal_length_mm=found.equivalent_mm, sensor_width_mm=FULL_FRAME_WIDTH_MM
        )
    if found.focal_length_mm is None:
        raise UserError(
            "--focal-length: the photograph's EXIF has none; give it in millimeters, as on a "
            "camera with a sensor 36 mm wide."
        )
    if found.sensor_width_mm is None and config.sensor_width_mm is None:
        raise UserError(
            "--sensor-width: the photograph's EXIF does not tell the sensor's width; give it in "
            "millimeters (36 full frame, 23.5 APS-C, 17.3 Four Thirds)."
        )
    # The photograph's own lens, or one of its angle of view on another sensor
    own_width_mm = found.sensor_width_mm or config.sensor_width_mm or FULL_FRAME_WIDTH_MM
    width_mm = config.sensor_width_mm or own_width_mm
    return Camera(found.focal_length_mm * width_mm / own_width_mm, width_mm, focus_m)
