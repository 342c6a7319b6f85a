"""Points to focus on: by rule, from a file, and clicked in the page that dofsuite writes."""

import time

import numpy as np
import pytest
import torch

from dofsuite.errors import UserError
from dofsuite.evaluation.refocus_benchmark.points import (
    PageScene,
    Points,
    disparity_at,
    points_csv,
    points_page,
    read_points,
    seeded_points,
)
from tests.evaluation.browser import CHROMIUM, NO_BROWSER, Page


def staircase(height=40, width=60, steps=6):
    """Disparity of vertical stripes from 0 to 1."""
    columns = np.floor(np.arange(width) / (width / steps)) / (steps - 1)
    return torch.from_numpy(np.broadcast_to(columns, (height, width)).astype(np.float32).copy())[
        None, None
    ]


def test_the_two_points_lie_on_different_planes_away_from_edges():
    disparity = staircase()
    pairs = [seeded_points(disparity, seed, 0.35, "x.png") for seed in range(100)]
    for pair in pairs:
        values = [disparity_at(disparity, point) for point in pair]
        assert abs(values[0] - values[1]) >= 0.35
        assert pair.bokeh == pair.first
        for x, _ in pair[:2]:
            inside = (x * 60) % 10
            assert (
                2 <= inside <= 8 or x * 60 < 2 or x * 60 > 58
            )  # five pixels of one stripe, or the picture's border
    firsts = {disparity_at(disparity, pair.first) for pair in pairs}
    assert len(firsts) == 6
    assert {
        np.sign(disparity_at(disparity, p.first) - disparity_at(disparity, p.second)) for p in pairs
    } == {-1, 1}


def test_the_rule_is_a_function_of_its_seed():
    disparity = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    assert seeded_points(disparity, 7, 0.25, "x") == seeded_points(disparity, 7, 0.25, "x")
    assert len({seeded_points(disparity, seed, 0.25, "x") for seed in range(20)}) > 15


def test_a_scene_of_one_plane_is_named():
    with pytest.raises(UserError, match=r"x.png: no two of its planes are 0.5 apart"):
        seeded_points(torch.linspace(0, 0.4, 400).reshape(1, 1, 20, 20), 0, 0.5, "x.png")


def test_a_csv_comes_back_as_it_was(tmp_path):
    points = {
        "camera_a": Points((0.1, 0.2), (1 / 3, 1.0), (0.5, 0.0)),
        "ai_b": Points((0.0, 0.2), (0.4, 0.4), (0.0, 0.2)),
    }
    file = tmp_path / "points.csv"
    file.write_text(points_csv(points))
    assert read_points(file, list(points)) == points
    file.write_text("﻿scene,x1,y1,x2,y2\nai_b,0,.2,.4,.4\n", encoding="utf-8")
    assert read_points(file, ["ai_b"])["ai_b"] == points["ai_b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scene,x1,y1,x2\n", "column y2 is missing"),
        ("scene,x1,y1,x2,y2\nb,0,0,1,1\n", "scene a has no line"),
        ("scene,x1,y1,x2,y2\na,0,0,one,1\n", "line 2: x2: 'one' is no number"),
        ("scene,x1,y1,x2,y2\na,0,0,1.5,1\n", "line 2: x2: 1.5 lies outside"),
        ("scene,x1,y1,x2,y2\na,0,0\n", "line 2: x2: '' is no number"),
        ("scene,x1,y1,x2,y2,x3,y3\na,0,0,1,1,.5,\n", "line 2: y3: '' is no number"),
    ],
)
def test_a_wrong_csv_is_one_sentence(tmp_path, text, said):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        read_points(tmp_path / "points.csv", ["a"])
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_points_clicked_in_the_page_are_the_points_read(tmp_path):
    disparity = staircase(64, 64, 4)
    scenes = [
        PageScene(name, torch.rand(1, 3, 64, 64), disparity)
        for name in ("camera_a", "ai_</script>")
    ]
    (tmp_path / "points.html").write_text(points_page(scenes, 0.3))
    clicks = {0: [(0.1, 0.2), (0.9, 0.7), (0.4, 0.4)], 1: [(0.3, 0.3), (0.35, 0.6)]}
    with Page(tmp_path / "points.html", tmp_path / "profile") as page:
        page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth === 64)")
        for scene, points in clicks.items():
            view = (
                f"document.querySelectorAll('section')[{scene}].querySelectorAll('.view')[{scene}]"
            )
            left, top, width, height = page.evaluate(
                f"{view}.scrollIntoView({{block: 'center'}}), "
                "(b => [b.left, b.top, b.width, b.height])"
                f"({view}.getBoundingClientRect())"
            )
            for x, y in points:
                page.click(left + x * width, top + y * height)
        notes = page.evaluate("[...document.querySelectorAll('small')].map(s => s.textContent)")
        assert notes == ["planes 1.00 apart", "planes 0.00 apart: rather close"]
        assert page.evaluate("document.getElementById('count').textContent") == "2 of 2 images done"
        page.evaluate("document.getElementById('save').click()")
        end = time.monotonic() + 10
        while not (tmp_path / "points.csv").is_file() and time.monotonic() < end:
            time.sleep(0.05)
        assert page.requests == []
        assert page.errors == []
    found = read_points(tmp_path / "points.csv", ["camera_a", "ai_</script>"])
    np.testing.assert_allclose(np.array(found["camera_a"]), clicks[0], atol=0.005)
    np.testing.assert_allclose(
        np.array(found["ai_</script>"]), [*clicks[1], clicks[1][0]], atol=0.005
    )
