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
from tests.evaluation.browser import CHROMIUM, NO_BROWSER, Page

TABLE = Table(
    "A <table>",
    ("MAE", "n|m"),
    [("ours & theirs", [0.12349, 3]), ("none", [None, float("inf")])],
    ("a note",),
)


@pytest.fixture
def written(tmp_path):
    picture = torch.arange(2 * 3 * 4).reshape(2, 3, 4).float()[:1].expand(3, 3, 4) / 23
    sheet = ImageSheet("Pictures", ["given", "made"], [('it\'s "ours"', [picture, 1 - picture])])
    return write_report(
        tmp_path, "A report", [TABLE], [sheet], {"clip": "none", "levels": [5, 10]}
    ), picture


def test_markdown_prints_three_decimals_and_a_dash_for_nothing(written):
    text = written[0][0].read_text()
    assert "| ours & theirs | 0.123 | 3 |" in text
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
    found = re.findall(r"src='data:image/png;base64,([^']+)'", text)
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
