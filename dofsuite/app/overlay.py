"""What is drawn over a picture: depth in color, and the mark of the point in focus."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from dofsuite.images import resize, thumbnail

# From far to near: blue, teal, sand, orange
DEPTH_COLORS = ((0.10, 0.16, 0.42), (0.16, 0.50, 0.56), (0.93, 0.80, 0.52), (0.95, 0.45, 0.16))
DEPTH_OPACITY = 0.72
MARK_SHARE = 0.022
# The edge of a stroke is this many times as sharp as its radius.
SOFTNESS = 8
MARK_COLOR = (1.0, 0.78, 0.25)


def depth_overlay(image_srgb: Tensor, disparity: Tensor, max_px: int) -> Tensor:
    """Lay disparity [1, h, w] in color over the gray picture [3, h, w], at most `max_px` long."""
    # Color of each disparity, linear between four
    image, depth = thumbnail(image_srgb, max_px), thumbnail(disparity, max_px)
    colors = image.new_tensor(DEPTH_COLORS)
    position = depth[0].clamp(0, 1) * (len(colors) - 1)
    cell = position.long().clamp(max=len(colors) - 2)
    color = torch.lerp(colors[cell], colors[cell + 1], (position - cell)[..., None])
    # Over the picture
    gray = image.mean(0, keepdim=True)
    shaded = color.permute(2, 0, 1) * (0.55 + 0.6 * gray)
    return torch.lerp(gray.expand(3, -1, -1), shaded, DEPTH_OPACITY).clamp(0, 1)


def with_focus_mark(image_srgb: Tensor, point: tuple[float, float]) -> Tensor:
    """Draw the four corners of a camera's focus field around a point into [3, h, w]."""
    image = image_srgb.clone()
    height, width = image.shape[-2:]
    reach = max(3, round(MARK_SHARE * max(height, width)))
    arm, thickness = max(2, reach // 2), max(1, reach // 10)
    x, y = int(point[0] * width), int(point[1] * height)
    # Dark around bright, so that it shows on any ground
    dark, bright = image.new_zeros(3, 1, 1), image.new_tensor(MARK_COLOR)[:, None, None]
    for color, grown in ((dark, thickness), (bright, 0)):
        for side_y in (-1, 1):
            for side_x in (-1, 1):
                corner_y, corner_x = y + side_y * reach, x + side_x * reach
                across = _span(corner_x, corner_x - side_x * arm, thickness + grown, width)
                along = _span(corner_y, corner_y, thickness + grown, height)
                image[:, along, across] = color
                across = _span(corner_x, corner_x, thickness + grown, width)
                along = _span(corner_y, corner_y - side_y * arm, thickness + grown, height)
                image[:, along, across] = color
    return image


def enlarged(image: Tensor, long_side_px: int) -> Tensor:
    """Enlarge a small picture [3, h, w] for the screen; larger ones stay."""
    height, width = image.shape[-2:]
    scale = long_side_px / max(height, width)
    if scale <= 1:
        return image
    return resize(image, round(height * scale), round(width * scale))


def stroke_opacity(
    points: Sequence[Sequence[float]], width_share: float, height: int, width: int
) -> Tensor:
    """Opacity [height, width] in [0, 1] of a round brush's stroke, its edge a little soft.

    Args:
        points: (x, y) along the stroke, fractions of width and height.
        width_share: Width of the brush, a share of the long side.
        height: In px.
        width: In px.
    """
    sheet = Image.new("L", (width, height))
    pen, radius = ImageDraw.Draw(sheet), width_share * max(height, width) / 2
    places = [(x * width, y * height) for x, y in points]
    # Segments, and a disc at each point
    if len(places) > 1:
        pen.line(places, fill=255, width=max(1, round(2 * radius)))
    for x, y in places:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    soft = sheet.filter(ImageFilter.GaussianBlur(radius / SOFTNESS))
    return torch.from_numpy(np.asarray(soft) / np.float32(255))


def _span(start: int, end: int, thickness: int, length: int) -> slice:
    low, high = min(start, end) - thickness // 2, max(start, end) + (thickness + 1) // 2
    return slice(min(max(low, 0), length), min(max(high, 0), length))
