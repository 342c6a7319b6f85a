"""Sample sheets: a labeled grid of images in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dofsuite.files import write_atomic
from dofsuite.images import to_pil

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

GAP_PX = 4
TEXT_PX = 12
LINE_PX = TEXT_PX + 3
BACKGROUND = (255, 255, 255)
INK = (32, 32, 32)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def write_sheet(
    path: str | Path,
    rows: Sequence[Sequence[Tensor]],
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    scale: int = 2,
) -> None:
    """Write rows of images as one labeled PNG, atomically.

    Args:
        path: The PNG; its folder is created.
        rows: Rows of images `[3, h, w]` or `[1, h, w]` in [0, 1] (clamped); all images of a sheet
            have one size, and rows may be shorter than the column titles.
        column_titles: One per column.
        row_titles: One per row, at its left, wrapped to the row's height.
        scale: Integer magnification (nearest neighbor), so that small images are legible.

    Raises:
        ValueError: No rows, images of different sizes, or titles that do not match them.
        UserError: The disk is full or the folder cannot be written.
    """
    height_px, width_px = _check(rows, column_titles, row_titles)
    cell_width, cell_height = width_px * scale, height_px * scale
    # Titles are wrapped first: their lines decide the margins.
    font = ImageFont.load_default(TEXT_PX)
    headers = [_wrapped(title, font, cell_width) for title in column_titles]
    labels = _labels(row_titles or [], font, cell_width, cell_height)
    label_widths = [int(font.getlength(line)) + GAP_PX for lines in labels for line in lines]
    left = GAP_PX + max(label_widths, default=0)
    top = GAP_PX + max(map(len, headers)) * LINE_PX
    size = (
        left + len(column_titles) * (cell_width + GAP_PX),
        top + len(rows) * (cell_height + GAP_PX),
    )
    # Column titles, then row by row its title and images.
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, lines in enumerate(headers):
        _write_lines(draw, (left + column * (cell_width + GAP_PX), GAP_PX), lines, font)
    for row, images in enumerate(rows):
        y = top + row * (cell_height + GAP_PX)
        if labels:
            label_y = y + (cell_height - len(labels[row]) * LINE_PX) // 2
            _write_lines(draw, (GAP_PX, label_y), labels[row], font)
        for column, image in enumerate(images):
            cell = to_pil(image).resize((cell_width, cell_height), Image.Resampling.NEAREST)
            sheet.paste(cell, (left + column * (cell_width + GAP_PX), y))
    write_atomic(Path(path), lambda file: sheet.save(file, format="PNG"))


def log_sheet(loggers: Sequence[Logger], name: str, path: Path, step: int) -> None:
    """Give a written sheet to the loggers that hold images: TensorBoard and Weights & Biases."""
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger  # which loads Lightning

    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            with Image.open(path) as sheet:
                pixels = np.asarray(sheet.convert("RGB"))
            logger.experiment.add_image(name, pixels, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)], step)


def _check(
    rows: Sequence[Sequence[Tensor]], column_titles: Sequence[str], row_titles: Sequence[str] | None
) -> tuple[int, int]:
    """Check sizes and titles; return the images' height and width."""
    sizes = {(image.shape[-2], image.shape[-1]) for row in rows for image in row}
    if len(sizes) != 1:
        raise ValueError(f"a sheet needs images of one size, not {sorted(sizes) or 'none at all'}")
    if any(len(row) > len(column_titles) for row in rows):
        raise ValueError(
            f"a row has more images than there are column titles ({len(column_titles)})"
        )
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(f"{len(row_titles)} row titles for {len(rows)} rows")
    return sizes.pop()


def _labels(
    titles: Sequence[str], font: Font, cell_width: int, cell_height: int
) -> list[list[str]]:
    """Every row title's lines, as wide as a cell, or as several where they would be too tall."""
    width_px = cell_width
    lines = [_wrapped(title, font, width_px) for title in titles]
    while any(len(row) > 1 and len(row) * LINE_PX > cell_height for row in lines):
        width_px += cell_width
        lines = [_wrapped(title, font, width_px) for title in titles]
    return lines


def _write_lines(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], lines: list[str], font: Font
) -> None:
    draw.multiline_text(corner, "\n".join(lines), fill=INK, font=font, spacing=LINE_PX - TEXT_PX)


def _wrapped(title: str, font: Font, width_px: int) -> list[str]:
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
