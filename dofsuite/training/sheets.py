"""Sample sheets: a labelled grid of pictures in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dofsuite.atomic import write_atomic

GAP_PX = 4
TEXT_PX = 12
BACKGROUND = (255, 255, 255)
INK = (32, 32, 32)


def write_sheet(
    path: str | Path,
    rows: Sequence[Sequence[Tensor]],
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    scale: int = 2,
) -> None:
    """Write rows of pictures as one labelled PNG, whole or not at all.

    Args:
        path: Where the PNG goes; its folder is made.
        rows: Rows of images `[3, h, w]` or `[1, h, w]` in [0, 1] (clamped); all images of a sheet have one size, and
            rows may be shorter than the column titles.
        column_titles: One a column.
        row_titles: One a row, written at its left.
        scale: Whole-number magnification (nearest pixel), so that small pictures can be read.

    Raises:
        ValueError: No rows, images of unlike sizes, or titles that do not match rows and columns.
        UserError: The disk is full or the folder cannot be written.
    """
    height_px, width_px = _check(rows, column_titles, row_titles)
    cell_width, cell_height = width_px * scale, height_px * scale
    font = ImageFont.load_default(TEXT_PX)
    left = GAP_PX + max((int(font.getlength(title)) + GAP_PX for title in row_titles or ()), default=0)
    header_lines = [_wrapped(title, font, cell_width) for title in column_titles]
    line_height = TEXT_PX + 3
    top = GAP_PX + max(map(len, header_lines)) * line_height
    size = (
        left + len(column_titles) * (cell_width + GAP_PX),
        top + len(rows) * (cell_height + GAP_PX),
    )
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, lines in enumerate(header_lines):
        position = (left + column * (cell_width + GAP_PX), GAP_PX)
        draw.multiline_text(position, "\n".join(lines), fill=INK, font=font, spacing=3)
    for row, images in enumerate(rows):
        y = top + row * (cell_height + GAP_PX)
        if row_titles:
            draw.text((GAP_PX, y + cell_height // 2 - TEXT_PX // 2), row_titles[row], fill=INK, font=font)
        for column, image in enumerate(images):
            picture = _to_picture(image).resize((cell_width, cell_height), Image.Resampling.NEAREST)
            sheet.paste(picture, (left + column * (cell_width + GAP_PX), y))
    write_atomic(Path(path), lambda file: sheet.save(file, format="PNG"))


def _check(
    rows: Sequence[Sequence[Tensor]], column_titles: Sequence[str], row_titles: Sequence[str] | None
) -> tuple[int, int]:
    """Height and width of the sheet's images, once it is known that they fit together."""
    sizes = {tuple(image.shape[-2:]) for row in rows for image in row}
    if len(sizes) != 1:
        raise ValueError(f"a sheet needs images of one size, not {sorted(sizes) or 'none at all'}")
    if any(len(row) > len(column_titles) for row in rows):
        raise ValueError(f"a row has more images than there are column titles ({len(column_titles)})")
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(f"{len(row_titles)} row titles for {len(rows)} rows")
    return sizes.pop()


def _wrapped(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> list[str]:
    """The lines of a title, broken between words where it is wider than its column."""
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _to_picture(image: Tensor) -> Image.Image:
    """An 8-bit picture from an image `[3, h, w]` or `[1, h, w]` in [0, 1]."""
    values = image.detach().to("cpu", torch.float32).nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(values.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
