"""A model's image preprocessing in torch, to the bit that of transformers' Pillow backend.

Why it exists: published CLIP and segmentation scores depend on the resampling, transformers' fast
processors need torchvision, and Pillow works on the CPU alone. It covers what the models of this
room need, two filters and three rules of size, and does not grow: for another rule, use
transformers' own processor.

Pillow resizes 8-bit images along the rows, rounded to bytes, then along the columns, rounded again,
with fixed-point weights of 22 fraction bits. The same integers are summed here, in float64, which
holds them exactly. (Pillow 13 begins with the columns where the height shrinks more than the width
does; earlier versions never, nor is it done here.)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoImageProcessor
from transformers.image_transforms import get_size_with_aspect_ratio

from dofsuite.backbones.hub import from_pretrained
from dofsuite.errors import UserError
from dofsuite.images import center_crop, levels_8bit

# Of Pillow's weights for 8-bit images.
FRACTION_BITS = 22


class Filter(NamedTuple):
    support_px: float
    weight: Callable[[Tensor], Tensor]


def cubic(x: Tensor) -> Tensor:
    """Keys's cubic convolution with a = -1/2 (IEEE ASSP 29, 1981, eq. 15), 0 from 2 on."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((x - 5) * x + 8) * x * -0.5 + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


# By Pillow's numbers, which a model's file holds: bilinear's triangle, and bicubic.
FILTERS = {2: Filter(1.0, lambda x: (1 - x.abs()).clamp(min=0)), 3: Filter(2.0, cubic)}


class ImageProcessor(NamedTuple):
    """Preprocessing of a network: images [n, 3, h, w] in [0, 1] to its `pixel_values`."""

    # `height`, `width`; or `shortest_edge` with or without `longest_edge`; empty: no resizing.
    size: dict[str, int]
    # Height and width of the center crop.
    crop_px: tuple[int, int] | None
    # Both sides are rounded up to a multiple of it.
    multiple: int
    filter: Filter
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Process display values [n, 3, h, w] (clamped to [0, 1]) of one size; float32."""
        size = self.size_of(images.shape[-2], images.shape[-1])
        levels = resized_levels(levels_8bit(images), size, self.filter)
        if self.crop_px is not None:
            levels = center_crop_or_pad(levels, *self.crop_px)
        mean, std = (levels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (levels / 255 - mean) / std

    def size_of(self, height: int, width: int) -> tuple[int, int]:
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


def load_image_processor(path: str, revision: str | None, **options: Any) -> ImageProcessor:
    """Read the parameters of a model's image processor.

    Through transformers, which knows old file formats too.

    Raises:
        UserError: There is none, or it uses a rule that is not implemented here.
    """
    stock = from_pretrained(AutoImageProcessor, path, "", revision, None, backend="pil", **options)
    # How it resizes.
    filter_number = int(stock.resample)
    size = {name: int(px) for name, px in dict(stock.size).items() if px} if stock.do_resize else {}
    known: tuple[set[str], ...] = (
        {"height", "width"},
        {"shortest_edge"},
        {"shortest_edge", "longest_edge"},
        set(),
    )
    if filter_number not in FILTERS or set(size) not in known:
        raise UserError(
            f"{path}: its image processor resizes in a way not known here ({stock.size}); name "
            "another."
        )
    # How it crops and normalizes.
    crop = stock.crop_size if getattr(stock, "do_center_crop", None) else None
    return ImageProcessor(
        size,
        None if crop is None else (crop["height"], crop["width"]),
        getattr(stock, "size_divisor", None) or 1,
        FILTERS[filter_number],
        tuple(stock.image_mean) if stock.do_normalize else (0.0, 0.0, 0.0),
        tuple(stock.image_std) if stock.do_normalize else (1.0, 1.0, 1.0),
    )


def resized_levels(levels: Tensor, size: tuple[int, int], filter: Filter) -> Tensor:
    """Resize 8-bit levels [n, 3, h, w], whole numbers in 0..255, as Pillow does; float32."""
    levels = levels.double()
    if levels.shape[-1] != size[1]:
        levels = as_bytes(levels @ weights(levels.shape[-1], size[1], filter).to(levels.device).T)
    if levels.shape[-2] != size[0]:
        levels = as_bytes(weights(levels.shape[-2], size[0], filter).to(levels.device) @ levels)
    return levels.float()


def as_bytes(scaled: Tensor) -> Tensor:
    """Round sums of levels times fixed-point weights, a half upwards, and clamp to 0..255."""
    return (scaled / 2**FRACTION_BITS + 0.5).floor().clamp(0, 255)


def weights(before_px: int, after_px: int, filter: Filter) -> Tensor:
    """Return Pillow's weights [after, before] of resizing a line, on the CPU.

    They are times 2^22, whole numbers in float64. When reducing, the filter is widened by the
    reduction; the weights of a line sum to about 1.
    """
    scale = before_px / after_px
    widening = max(scale, 1.0)
    center = (torch.arange(after_px, dtype=torch.float64, device="cpu")[:, None] + 0.5) * scale
    position = torch.arange(before_px, dtype=torch.float64, device="cpu") + 0.5
    # Pillow truncates the bounds of the support to whole pixels.
    support = filter.support_px * widening
    first, end = (center - support + 0.5).trunc(), (center + support + 0.5).trunc()
    inside = (position - 0.5 >= first) & (position - 0.5 < end)
    # Normalize and round to fixed point.
    weight = filter.weight((position - center) / widening) * inside
    scaled = weight / weight.sum(dim=1, keepdim=True) * 2**FRACTION_BITS
    return (scaled + 0.5 * scaled.sign()).trunc()


def center_crop_or_pad(levels: Tensor, height: int, width: int) -> Tensor:
    lack_y, lack_x = max(0, height - levels.shape[-2]), max(0, width - levels.shape[-1])
    levels = pad(levels, (-(-lack_x // 2), lack_x // 2, -(-lack_y // 2), lack_y // 2))
    return center_crop(levels, height, width)
