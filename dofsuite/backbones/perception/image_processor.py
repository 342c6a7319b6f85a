"""What an image processor's file asks for, done in torch: no torchvision, no Pillow, any device.

Transformers' own processors work on 8-bit pictures, which Pillow resizes: along the rows, rounded
to bytes, then along the columns, rounded again, with weights of 22 bits behind the point. The same
integers are added up here (in float64, which holds them exactly), so a network sees the very pixels
that it was measured with, on every device. (Pillow 13 begins with the columns where the height
shrinks more than the width does; earlier ones never, nor is it done here.)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoImageProcessor
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.utils import logging

from dofsuite.backbones.hub import from_pretrained
from dofsuite.errors import UserError

FRACTION_BITS = 22
"""Of Pillow's weights for 8-bit pictures."""


class Filter(NamedTuple):
    """One of Pillow's resampling filters."""

    reach_px: float
    weight: Callable[[Tensor], Tensor]


def triangle(x: Tensor) -> Tensor:
    """Linear interpolation: 1 - |x|, 0 from 1 on."""
    return (1 - x.abs()).clamp(min=0)


def cubic(x: Tensor) -> Tensor:
    """Keys's cubic convolution with a = -1/2 (IEEE ASSP 29, 1981, eq. 15), 0 from 2 on."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((x - 5) * x + 8) * x * -0.5 + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


FILTERS = {2: Filter(1.0, triangle), 3: Filter(2.0, cubic)}
"""By Pillow's numbers, which the files hold."""


class Preparation(NamedTuple):
    """How a network wants to see a picture: pictures [n, 3, h, w] in [0, 1] in, its `pixel_values` out."""

    size: dict[str, int]
    """`height` and `width`, or `shortest_edge` with or without `longest_edge`; empty: the picture's own size."""
    crop_px: tuple[int, int] | None
    """Height and width that are kept of the middle."""
    multiple: int
    """Of which both sides are made (upwards)."""
    filter: Filter
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Prepare display values [n, 3, h, w] (clamped to [0, 1]) of one size; float32."""
        levels = images.float().clamp(0, 1).mul(255).round()
        levels = resized_levels(
            levels, self.size_of(images.shape[-2], images.shape[-1]), self.filter
        )
        if self.crop_px is not None:
            levels = centre(levels, *self.crop_px)
        mean, std = (levels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (levels / 255 - mean) / std

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width to which a picture is resized."""
        if not self.size:
            return height, width
        if "height" in self.size:
            size = self.size["height"], self.size["width"]
        elif "longest_edge" in self.size:
            size = get_size_with_aspect_ratio(
                (height, width), self.size["shortest_edge"], self.size["longest_edge"]
            )
        else:
            shortest = self.size["shortest_edge"]
            longest = int(shortest * max(height, width) / min(height, width))
            size = (longest, shortest) if width <= height else (shortest, longest)
        height, width = (-(-side // self.multiple) * self.multiple for side in size)
        return height, width


def load_preparation(path: str, revision: str | None, **more: Any) -> Preparation:
    """Read a model's image processor, as transformers reads it (old forms of its file too), for its numbers alone.

    Raises:
        UserError: There is none, or it asks for what is not done here.
    """
    stock = from_pretrained(AutoImageProcessor, path, "", revision, None, backend="pil", **more)
    filter_number = int(stock.resample)
    size = {name: int(px) for name, px in dict(stock.size).items() if px} if stock.do_resize else {}
    known = ({"height", "width"}, {"shortest_edge"}, {"shortest_edge", "longest_edge"}, set())
    if filter_number not in FILTERS or set(size) not in known:
        raise UserError(
            f"{path}: its image processor resizes in a way not known here ({stock.size}); name another."
        )
    crop = stock.crop_size if getattr(stock, "do_center_crop", None) else None
    return Preparation(
        size,
        None if crop is None else (crop["height"], crop["width"]),
        getattr(stock, "size_divisor", None) or 1,
        FILTERS[filter_number],
        tuple(stock.image_mean) if stock.do_normalize else (0.0, 0.0, 0.0),
        tuple(stock.image_std) if stock.do_normalize else (1.0, 1.0, 1.0),
    )


def resized_levels(levels: Tensor, size: tuple[int, int], filter: Filter) -> Tensor:
    """Resize grey levels [n, 3, h, w], whole numbers in 0..255, as Pillow does; float32."""
    levels = levels.double()
    if levels.shape[-1] != size[1]:
        levels = as_bytes(levels @ weights(levels.shape[-1], size[1], filter).to(levels.device).T)
    if levels.shape[-2] != size[0]:
        levels = as_bytes(weights(levels.shape[-2], size[0], filter).to(levels.device) @ levels)
    return levels.float()


def as_bytes(scaled: Tensor) -> Tensor:
    """Return grey levels that were weighted with whole numbers: rounded, a half upwards, and cut to 0..255."""
    return (scaled / 2**FRACTION_BITS + 0.5).floor().clamp(0, 255)


def weights(before_px: int, after_px: int, filter: Filter) -> Tensor:
    """Return Pillow's weights [after, before] of resizing a line, times 2^22: whole numbers in float64, on the CPU.

    The filter is as wide as its reach, times the reduction where there is one; weights of a line
    sum to about 1.
    """
    scale = before_px / after_px
    wide = max(scale, 1.0)
    centre = (torch.arange(after_px, dtype=torch.float64, device="cpu")[:, None] + 0.5) * scale
    place = torch.arange(before_px, dtype=torch.float64, device="cpu") + 0.5
    # Pillow looks at these pixels alone, whose bounds it cuts off to whole numbers.
    first, end = (
        (centre - filter.reach_px * wide + 0.5).trunc(),
        (centre + filter.reach_px * wide + 0.5).trunc(),
    )
    inside = (place - 0.5 >= first) & (place - 0.5 < end)
    weight = filter.weight((place - centre) / wide) * inside
    scaled = weight / weight.sum(dim=1, keepdim=True) * 2**FRACTION_BITS
    return (scaled + 0.5 * scaled.sign()).trunc()


def centre(levels: Tensor, height: int, width: int) -> Tensor:
    """Keep the middle; a picture that is too small is black around it."""
    lack_y, lack_x = max(0, height - levels.shape[-2]), max(0, width - levels.shape[-1])
    levels = pad(levels, (-(-lack_x // 2), lack_x // 2, -(-lack_y // 2), lack_y // 2))
    top, left = (levels.shape[-2] - height) // 2, (levels.shape[-1] - width) // 2
    return levels[..., top : top + height, left : left + width]


def whole(
    network: type[Any], path: str, revision: str | None, dtype: torch.dtype, **more: Any
) -> Any:
    """Load a network all of whose weights are there: transformers would only warn, and make up the rest.

    Raises:
        UserError: It cannot be loaded, or weights are missing or of another shape.
    """
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # its table of what was left out; what is missing is told below
    try:
        more |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        loaded, notes = from_pretrained(network, path, "", revision, dtype, **more)
    finally:
        logging.set_verbosity(before)
    absent = sorted(notes["missing_keys"]) or sorted(str(key) for key in notes["mismatched_keys"])
    if absent:
        reason = f"{len(absent)} weights of {network.__name__} are missing or do not fit, such as {absent[0]}"
        raise UserError(f"{path}: {reason}; name a complete model of that kind.")
    return loaded


def name_of_weights(path: str, revision: str | None) -> str:
    """Return what reports call weights: the hub id, or the name of a local copy's folder; and the revision."""
    name = Path(path).resolve().name if Path(path).exists() else path
    return name if revision is None else f"{name}@{revision}"
