"""A report says the same in Markdown, JSON and HTML, and the HTML needs nothing but itself."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.evaluation import ImageSheet, Table, write_report
from dofsuite.evaluation.plots import Curve, Mark, curve_plot, dot_plot
from dofsuite.evaluation.statistics import Estimate
from dofsuite.evaluation.tables import Block
from tests.evaluation.browser import CHROMIUM, NO_BROWSER, Page

TABLE = Table(
    "A <table>",
    ("MAE", "n|m"),
    [("ours & theirs", [0.12349, 3]), ("none", [None, float("inf")])],
    ("a note",),
)
DIFFERENCE = Block(
    "Difference to a & b",
    [("ours", [Estimate(-0.0041, (-0.0118, -0.0014)), Estimate(0.5, (-1.0, 2.0))])],
    is_difference=True,
)
INTERVALS = Table(
    "With intervals",
    ("MAE", "rate"),
    [
        ("truth", [0.0, 1.0]),
        ("a & b", [Estimate(0.03, (0.02, 0.04)), Estimate(0.9, None)]),
        ("ours", [0.0259, 0.7]),
    ],
    best={"MAE": -1, "rate": 1},
    unranked=frozenset({"truth"}),
    blocks=(DIFFERENCE, Block("The paper", [("theirs", [0.025, None])], decimals=3)),
)


@pytest.fixture
def written(tmp_path):
    picture = torch.arange(2 * 3 * 4).reshape(2, 3, 4).float()[:1].expand(3, 3, 4) / 23
    sheet = ImageSheet("Pictures", ["given", "made"], [('it\'s "ours"', [picture, 1 - picture])])
    return write_report(
        tmp_path, "A report", [TABLE], [sheet], {"clip": "none", "levels": [5, 10]}
    ), picture


def test_markdown_prints_four_decimals_and_a_dash_for_nothing(written):
    text = written[0][0].read_text()
    assert "| ours & theirs | 0.1235 | 3 |" in text
    assert "| none | - | inf |" in text
    assert "| n\\|m |" in text
    assert "- levels: [5, 10]" in text


def test_json_is_strict_and_keeps_every_digit(written):
    data = json.loads(
        written[0][1].read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON")
    )
    assert data["tables"][0]["rows"][0] == {
        "name": "ours & theirs",
        "values": {"MAE": 0.12349, "n|m": 3},
    }
    assert data["tables"][0]["rows"][1]["values"] == {"MAE": None, "n|m": "inf"}
    assert data["facts"] == {"clip": "none", "levels": [5, 10]}


def test_the_html_is_well_formed_and_its_pictures_are_the_pictures(written):
    text = written[0][2].read_text()
    opened = []

    class Balanced(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "link", "img"):
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Balanced().feed(text)
    assert opened == []
    found = re.findall(r"src='data:image/webp;base64,([^']+)'", text)
    assert len(found) == 2
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[0]))))
    np.testing.assert_array_equal(shown, (written[1].permute(1, 2, 0) * 255).round().numpy())
    assert "http" not in text.split("<style>")[1]
    assert "<script" not in text


def test_a_row_that_does_not_fit_its_columns_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2 values for 1 columns"):
        write_report(tmp_path, "t", [Table("t", ("a",), [("r", [1.0, 2.0])])], [], {})


@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_a_browser_without_a_network_shows_every_picture(written, tmp_path):
    with Page(written[0][2], tmp_path / "profile") as page:
        sizes = page.evaluate(
            "[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])"
        )
        assert sizes == [[True, 4, 3]] * 2
        assert page.requests == []
        assert page.errors == []
        assert page.evaluate("document.querySelectorAll('td').length") == 6 + 3 + 4


def test_intervals_differences_and_the_best_are_printed_alike_in_every_format(tmp_path):
    markdown, data, page, latex = write_report(tmp_path, "t", [INTERVALS], [], {})
    text = markdown.read_text()
    assert "| truth | 0.0000 | 1.0000 |" in text
    assert "| a & b | 0.0300 [0.0200, 0.0400] | **0.9000** |" in text
    assert "| ours | **0.0259** | 0.7000 |" in text
    assert "| ours | **-0.0041 [-0.0118, -0.0014]** | +0.5000 [-1.0000, +2.0000] |" in text
    assert "| *The paper* |  |  |" in text
    assert "| theirs | 0.025 | - |" in text
    table = json.loads(data.read_text())["tables"][0]
    assert table["rows"][1]["intervals"] == {"MAE": [0.02, 0.04]}
    assert table["blocks"][0]["rows"][0]["intervals"]["MAE"] == [-0.0118, -0.0014]
    assert "<td><b>-0.0041</b><small>[-0.0118, -0.0014]</small></td>" in page.read_text()
    rows = latex.read_text().splitlines()
    assert "a \\& b & 0.0300 {\\scriptsize [0.0200, 0.0400]} & \\textbf{0.9000} \\\\" in rows
    assert rows.count("\\bottomrule") == 1


def test_a_curve_goes_through_its_values_and_a_marked_dot_is_a_link():
    """By hand: 260 px of height from 26 on, 560 of width from 76 on."""
    svg = curve_plot("t", "x", ["1", "2", "3"], [Curve("a & b", [0.0, 1.0, 2.0], [(0, 1)] * 3)])
    assert "d='M76.0 286.0L356.0 156.0L636.0 26.0' fill='none'" in svg
    assert "d='M76.0 156.0L356.0 156.0L636.0 156.0L636.0 286.0L356.0 286.0L76.0 286.0Z'" in svg
    assert "a &amp; b" in svg
    falling = curve_plot("t", "x", ["1", "2"], [Curve("a", [1000.0, 1.0])], is_log=True)
    assert "M76.0 26.0L636.0 286.0" in falling
    dots = dot_plot("t", "x", [Curve("a", [1.0, None, 2.0])], [Mark("worst", 2, "scenes/w.html")])
    assert dots.count("<circle") == 2 + 1 + 1  # two values, a mark, the legend
    assert "<a href='scenes/w.html'>" in dots
    assert "worst: 2.0000" in dots
