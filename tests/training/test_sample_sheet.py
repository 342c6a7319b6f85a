"""A sheet shows every image where its titles say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.training import write_sheet

COLORS = [[(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)], [(0.0, 0.0, 1.0), (1.0, 1.0, 0.0)]]


def flat(color: tuple[float, float, float], size: int = 16) -> torch.Tensor:
    return torch.tensor(color)[:, None, None].expand(3, size, size)


def test_every_image_stands_in_its_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "sheets" / "sheet.png"
    write_sheet(
        path,
        [[flat(c) for c in row] for row in COLORS],
        ["left", "right"],
        ["top", "bottom"],
        scale=3,
    )
    pixels = np.asarray(Image.open(path).convert("RGB"))
    centres = {}
    for row, colors in enumerate(COLORS):
        for column, color in enumerate(colors):
            found = np.argwhere((pixels == np.array(color) * 255).all(-1))
            assert len(found) == (16 * 3) ** 2
            centres[row, column] = found.mean(0)
    assert centres[0, 0][0] == centres[0, 1][0] < centres[1, 0][0] == centres[1, 1][0]
    assert centres[0, 0][1] == centres[1, 0][1] < centres[0, 1][1] == centres[1, 1][1]


def test_values_are_rounded_and_clamped(tmp_path: Path) -> None:
    image = torch.tensor([-1.0, 0.5, 2.0, float("nan")]).reshape(1, 2, 2)
    write_sheet(tmp_path / "s.png", [[image]], ["t"], scale=1)
    pixels = np.asarray(Image.open(tmp_path / "s.png"))[..., 0]
    assert set(pixels[-6:-4, 4:6].ravel().tolist()) == {0, 128, 255}


def test_a_long_title_is_wrapped_into_its_column(tmp_path: Path) -> None:
    titles = ["a title that is much wider than sixteen pixels", "b"]
    write_sheet(tmp_path / "s.png", [[flat((0, 0, 0)), flat((0, 0, 0))]], titles, scale=1)
    assert Image.open(tmp_path / "s.png").width < 60


def test_a_row_title_takes_lines_of_a_cell_s_width_and_no_more_height_than_the_row(
    tmp_path: Path,
) -> None:
    black, long = (
        flat((0, 0, 0), 64),
        "a red disc on the left in front of grass, a blue box in the middle behind",
    )
    write_sheet(tmp_path / "tall.png", [[black]], ["a"], [long], scale=2)
    write_sheet(tmp_path / "low.png", [[black[:, :16]]], ["a"], [long], scale=2)
    tall, low = (Image.open(tmp_path / name).convert("L") for name in ("tall.png", "low.png"))
    assert tall.width < 2 * 128 + 20 < low.width
    for sheet in (tall, low):
        picture = np.argwhere(np.asarray(sheet) == 0)
        label = np.argwhere(np.asarray(sheet)[:, : picture[:, 1].min() - 1] < 128)
        assert picture[:, 0].min() <= label[:, 0].min()
        assert label[:, 0].max() <= picture[:, 0].max()


@pytest.mark.parametrize(
    ("rows", "columns", "titles", "reason"),
    [
        ([], ["a"], None, "none at all"),
        ([[flat((0, 0, 0)), flat((0, 0, 0), 8)]], ["a", "b"], None, "one size"),
        ([[flat((0, 0, 0)), flat((0, 0, 0))]], ["a"], None, "more images than"),
        ([[flat((0, 0, 0))]], ["a"], ["x", "y"], "2 row titles for 1 rows"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, rows, columns, titles, reason: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        write_sheet(tmp_path / "s.png", rows, columns, titles)
