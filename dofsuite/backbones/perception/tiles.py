"""Tiles of an image, each with a margin."""

from typing import NamedTuple


class Tile(NamedTuple):
    """Rows and columns of a tile: with its margin, and without it in the image and in the tile."""

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]
    within: tuple[slice, slice]

    def in_cells(self, cell_px: int) -> "Tile":
        """Return the same in cells of a side that divides all of it."""
        return Tile(
            _in_cells(self.outer, cell_px),
            _in_cells(self.inner, cell_px),
            _in_cells(self.within, cell_px),
        )


def _in_cells(sides: tuple[slice, slice], cell_px: int) -> tuple[slice, slice]:
    rows, columns = (slice(side.start // cell_px, side.stop // cell_px) for side in sides)
    return rows, columns


def cut_tiles(height: int, width: int, tile_px: int, margin_px: int) -> list[Tile]:
    """Cut an image into tiles with margins, as far as there is image around them."""
    tiles = []
    for top in range(0, height, tile_px):
        for left in range(0, width, tile_px):
            bottom, right = min(height, top + tile_px), min(width, left + tile_px)
            rows = slice(max(0, top - margin_px), min(height, bottom + margin_px))
            columns = slice(max(0, left - margin_px), min(width, right + margin_px))
            within = (
                slice(top - rows.start, bottom - rows.start),
                slice(left - columns.start, right - columns.start),
            )
            tiles.append(Tile((rows, columns), (slice(top, bottom), slice(left, right)), within))
    return tiles
