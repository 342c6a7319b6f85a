"""The lens in the loop: all-in-focus image, depth, focus and EXIF -> photograph.

With depth D and focus f_d on the depth model's scale and f_s mm per unit of it: Z = f_s D,
S1 = f_s f_d, and the circle of confusion is c = |Z - S1| / Z * F^2 / (N (S1 - F)), in pixels
c W / sensor width (TAF's formula). |Z - S1| / Z does not depend on f_s: the scale enters through
S1 - F alone.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.errors import UserError
from dofsuite.optics import (
    ThinLens,
    coc_radius_px,
    display_to_linear,
    linear_to_display,
    linear_to_srgb,
    pixel_pitch_mm,
    render_bokeh,
    srgb_to_linear,
)
from dofsuite.optics.lens import PerItem
from dofsuite.optics.meta import at_least_float32
from dofsuite.text2image.camera.exif import Exif
from dofsuite.text2image.scene import Scene

# Renderers of `render_bokeh`.
Method = Literal["exact", "gather", "layered", "occlusion"]
# Depth is clamped to these multiples of the focus distance (*ours*): 0 and infinity then have a
# radius and gradients, and the radius at infinity is off by a millionth.
DEPTH_RANGE = (1e-3, 1e6)


@dataclass(frozen=True)
class Lens:
    """The differentiable lens."""

    method: Method = "gather"
    """Renderer of `render_bokeh`. *Inferred*: `gather`, the disc of TAF, which the paper cites."""
    gamma: float | Literal["srgb"] = 1.0
    """Display value ** gamma is the light that is blurred; "srgb" for the exact curve. *Inferred*:
    1, the generator's own values, because in linear light the paper's energy rises with blur and
    its Blur Monotonicity of 93.91 would be impossible."""
    sensor_width_mm: float = 36.0
    """Long side of the uncropped frame on the sensor, where none is said. *Ours*: 36, full frame.
    Photographs bring their own sensor."""
    nearest_focus: float = 2.0
    """Smallest S1 in focal lengths (*ours*: 2, life-size macro), which keeps S1 > F. A soft clamp
    that starts at 1.5 times as far, with a nonzero slope everywhere."""
    largest_radius_share: float | None = 0.25
    """Largest radius over the uncropped long side (*ours*), a soft clamp that starts at half as
    much: rendering time grows with the square of the radius. Null: no limit. Paper: TAF cuts its
    kernel at a fixed size. Here: a bound with a slope, because a hard one has no gradient."""
    frame_ratio: float = 1.5
    """Long over short side of the frame of which a generated image is the center. *Ours*: 1.5,
    because the training photographs are center crops of 3:2 frames, so a square spans 24 mm. 1
    where the training images are full squares. Photographs bring their own frame."""

    def __post_init__(self) -> None:
        methods, share = get_args(Method), self.largest_radius_share
        # What each field must be, and whether it is; a NaN is none of it.
        rules = {
            "method": (f"one of {', '.join(methods)}", self.method in methods),
            "gamma": ("positive or srgb", self.gamma == "srgb" or self.gamma > 0),
            "sensor_width_mm": ("positive", self.sensor_width_mm > 0),
            "nearest_focus": ("beyond 1 focal length", self.nearest_focus > 1),
            "largest_radius_share": ("positive or null", share is None or share > 0),
            "frame_ratio": ("1 or more", 1 <= self.frame_ratio < math.inf),
        }
        for name, (wanted, is_right) in rules.items():
            if not is_right:
                raise ValueError(f"{name} must be {wanted}, not {getattr(self, name)!r}.")

    def photograph(
        self,
        scene: Scene,
        exif: Exif,
        width_px: PerItem,
        sensor_width_mm: Float[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Blur each pixel by the circle of confusion of its depth; differentiable in all tensors.

        Args:
            scene: `image_srgb` [b, 3, h, w], all in focus. At gamma 1 its values are used as they
                are; otherwise they are clamped to [0, 1], because a negative number has no power
                and one above 1 would become a light source. `depth` [b, 1, h, w] > 0 on the depth
                model's scale, larger is farther; `inf` is allowed. `focus_distance` [b], f_d > 0 on
                that scale. `scale_mm` [b], f_s in mm per unit of depth.
            exif: f-number and focal length; every item needs both.
            width_px: long side of the uncropped image at the image's current scale (see
                `pixel_pitch_mm`).
            sensor_width_mm: what it spans on the sensor of the real camera whose f-number and
                focal length `exif` has; None or NaN for the lens's own.
        """
        # A scene with depth and focus, not a generator's without a lens.
        assert scene.depth is not None
        assert scene.focus_distance is not None
        assert scene.scale_mm is not None
        radius_px = self.radius_px(
            scene.depth, scene.focus_distance, scene.scale_mm, exif, width_px, sensor_width_mm
        )
        light = render_bokeh(self._to_light(scene.image_srgb), radius_px, method=self.method)
        return self._to_display(light)

    def frame_width_px(self, height: int, width: int, known_px: float | None = None) -> float:
        """Long side of an image's uncropped frame, at the image's scale: a `width_px`.

        Where it is not known, that of the smallest frame of `frame_ratio` with the image at its
        center: a square of 1024 px has 1536, an image of 3:2 its own long side.

        Raises:
            UserError: `known_px` is smaller than the image.
        """
        if known_px is None:
            return max(float(height), float(width), self.frame_ratio * min(height, width))
        if not max(height, width) <= known_px < math.inf:
            raise UserError(
                f"frame_width_px: {known_px} px is no long side of a frame that holds {width} x "
                f"{height} px; give at least {max(height, width)}."
            )
        return float(known_px)

    def radius_px(
        self,
        depth: Float[Tensor, "b 1 h w"],
        focus_distance: Float[Tensor, "b"],
        scale_mm: Float[Tensor, "b"],
        exif: Exif,
        width_px: PerItem,
        sensor_width_mm: Float[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b 1 h w"]:
        """Signed radius c / 2 of each pixel, in pixels, positive in front of the focal plane."""
        # Depth, clamped relative to the focus.
        depth, focus_distance = at_least_float32(depth), at_least_float32(focus_distance)
        focus = focus_distance.reshape(-1, 1, 1, 1)
        depth = depth.clamp(DEPTH_RANGE[0] * focus, DEPTH_RANGE[1] * focus)

        # Metric scale: the soft clamp of S1 changes the scale, not the focus: what is in focus
        # stays in focus, and S1 / Z stays f_d / D.
        nearest_mm = self.nearest_focus * exif.focal_length_mm
        focus_mm = at_least_float32(scale_mm) * focus_distance
        focus_mm = soft_clamp_min(focus_mm, nearest_mm, 1.5 * nearest_mm)
        scale_m = focus_mm / focus_distance / 1000.0

        # Thin-lens circle of confusion.
        radius_px = coc_radius_px(
            ThinLens(exif.focal_length_mm, exif.f_number),
            depth_m=scale_m.reshape(-1, 1, 1, 1) * depth,
            focus_m=scale_m * focus_distance,
            pixel_pitch_mm=pixel_pitch_mm(width_px, self._width_mm(sensor_width_mm)),
        )

        # Soft bounds of the radius.
        if self.largest_radius_share is None:
            return radius_px
        width = torch.as_tensor(width_px, dtype=radius_px.dtype, device=radius_px.device)
        largest_px = self.largest_radius_share * width.reshape(-1, 1, 1, 1)
        bounded_px = soft_clamp_max(radius_px, largest_px, largest_px / 2)
        return soft_clamp_min(bounded_px, -largest_px, -largest_px / 2)

    def _width_mm(self, sensor_width_mm: Tensor | None) -> PerItem:
        if sensor_width_mm is None:
            return self.sensor_width_mm
        return at_least_float32(sensor_width_mm).nan_to_num(nan=self.sensor_width_mm)

    def _to_light(self, image: Tensor) -> Tensor:
        if self.gamma == 1:
            return image
        image = image.clamp(0, 1)
        if self.gamma == "srgb":
            return srgb_to_linear(image)
        return display_to_linear(image, self.gamma)

    def _to_display(self, light: Tensor) -> Tensor:
        if self.gamma == 1:
            return light
        if self.gamma == "srgb":
            return linear_to_srgb(light)
        return linear_to_display(light, self.gamma)


def soft_clamp_min(value: Tensor, least: Tensor, knee: Tensor) -> Tensor:
    """`value` above the knee; below it a hyperbola towards `least`: smooth, with a nonzero slope.

    The two parts meet with the same value and slope 1 at the knee.
    """
    room = knee - least
    below = least + room**2 / (room + (knee - value).clamp(min=0.0))
    return torch.where(value >= knee, value, below)


def soft_clamp_max(value: Tensor, largest: Tensor, knee: Tensor) -> Tensor:
    """`soft_clamp_min` mirrored: `value` below the knee, above it a hyperbola towards `largest`."""
    return -soft_clamp_min(-value, -largest, -knee)
