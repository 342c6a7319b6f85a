"""Two lens models as signed blur-radius maps in pixels: the thin lens and the bokeh level.

Convention: `radius_px` is the radius of the blur disc, positive in front of the focal plane, 0 on
it, negative behind it. Both models are affine in disparity (1 / depth), so every renderer of this
room takes the radius map and nothing else.

The unit of a bokeh level travels with it: `bokeh_level` is pixels of blur radius per unit of
relative disparity in an image whose long side is `reference_width_px`. It is rescaled when an image
is resized (the same look) and not when it is cropped.
"""

from dataclasses import dataclass

from jaxtyping import Float, Num
from torch import Tensor

from dofsuite.optics.meta import at_least_float32, has_values

# One number for the whole batch, or a tensor of shape [b] with one number for each item.
PerItem = float | int | Num[Tensor, " b"] | Num[Tensor, ""]


@dataclass(frozen=True)
class ThinLens:
    """A thin lens: focal length in mm and f-number, as numbers or [b] tensors (a lens per item).

    Raises:
        ValueError: if a plain number is not positive (tensors are not checked, which would
            synchronize a GPU).
    """

    focal_length_mm: PerItem
    f_number: PerItem

    def __post_init__(self) -> None:
        for name in ("focal_length_mm", "f_number"):
            value = getattr(self, name)
            if not isinstance(value, Tensor) and not value > 0:
                raise ValueError(f"{name} must be positive, not {value}.")


def pixel_pitch_mm(long_side_px: PerItem, sensor_width_mm: PerItem = 36.0) -> PerItem:
    """Distance between pixel centers on the sensor, mm: the long side spans `sensor_width_mm`.

    `long_side_px` is that of the *uncropped* image at its present scale. A crop keeps its pitch:
    the center square of a 3:2 frame of 36 mm spans 24 mm, so pass the long side of the frame it was
    cut from. A resize changes the pitch. 36 mm is the 35-mm-equivalent frame of EXIF's
    `FocalLengthIn35mmFilm`.
    """
    return sensor_width_mm / long_side_px


def coc_radius_px(
    lens: ThinLens, depth_m: Float[Tensor, "b 1 h w"], focus_m: PerItem, pixel_pitch_mm: PerItem
) -> Float[Tensor, "b 1 h w"]:
    """Signed radius of the thin lens's circle of confusion, in pixels.

    The thin-lens equation gives the diameter c = F^2 / (N (S1 - F)) * |1 - S1 / Z| with focal
    length F, f-number N, focus distance S1 and depth Z. Here: c without the bars, positive for Z <
    S1; radius = c / 2 / pitch. Written as F^2 / (N (1 - F / S1)) * (1 / Z - 1 / S1), so that
    infinite depth and infinite focus give their finite limits.

    Args:
        lens: focal length and f-number.
        depth_m: depth along the optical axis, in meters, > 0; `inf` is allowed.
        focus_m: distance of the plane in focus, in meters; must be beyond the focal length; `inf`
            is allowed.
        pixel_pitch_mm: see `pixel_pitch_mm`.

    Raises:
        ValueError: if `focus_m` is not beyond the focal length, where a thin lens forms no image on
            the sensor (checked on a CPU alone: on a GPU it would wait for the values).
    """
    # Half precision is too coarse for a radius, whose fraction decides the edge of the disc.
    depth_m = at_least_float32(depth_m)
    focal_mm, f_number = _per_item(lens.focal_length_mm, depth_m), _per_item(lens.f_number, depth_m)
    focus_mm = 1000.0 * _per_item(focus_m, depth_m)
    # Checked where that does not wait for a GPU
    beyond = focus_mm > focal_mm
    if beyond.device.type == "cpu" and has_values(beyond) and not bool(beyond.all()):
        raise ValueError(
            f"focus_m must be beyond the focal length, but {focus_m} m is not beyond "
            f"{lens.focal_length_mm} mm."
        )
    diameter_per_disparity_mm2 = focal_mm**2 / (f_number * (1.0 - focal_mm / focus_mm))
    coc_diameter_mm = diameter_per_disparity_mm2 * (1.0 / (1000.0 * depth_m) - 1.0 / focus_mm)
    return coc_diameter_mm / (2.0 * _per_item(pixel_pitch_mm, depth_m))


def bokeh_radius_px(
    disparity: Float[Tensor, "b 1 h w"],
    focus_disparity: PerItem,
    bokeh_level: PerItem,
    width_px: PerItem,
    reference_width_px: PerItem = 512,
) -> Float[Tensor, "b 1 h w"]:
    """Signed radius in pixels of DiffCamera's bokeh level, eq. (7): radius = b (d - d_f).

    Paper: b is in pixels, no size given. Here: b is in pixels at `reference_width_px` (512, *ours*)
    and the radius is scaled by width_px / reference_width_px, because the same b at 1024 px would
    otherwise be half the blur.

    Args:
        disparity: relative disparity in [0, 1], 0 far, 1 near, min-max per image.
        focus_disparity: the disparity in focus (d_f), in [0, 1].
        bokeh_level: b, pixels of radius per unit of disparity at the reference width, >= 0.
        width_px: long side of the uncropped image at the scale in which `disparity` is given: a
            crop keeps it.
        reference_width_px: the long side at which `bokeh_level` is meant.
    """
    disparity = at_least_float32(disparity)
    scale = _per_item(width_px, disparity) / _per_item(reference_width_px, disparity)
    from_focus = disparity - _per_item(focus_disparity, disparity)
    return _per_item(bokeh_level, disparity) * scale * from_focus


def _per_item(value: PerItem, like: Tensor) -> Tensor:
    """A number or a [b] tensor as [1 or b, 1, 1, 1], in the dtype and on the device of `like`."""
    # A number is filled in, not copied from the host, which would wait for the device.
    if not isinstance(value, Tensor):
        return like.new_full((1, 1, 1, 1), value)
    return value.to(like.device, like.dtype).reshape(-1, 1, 1, 1)
