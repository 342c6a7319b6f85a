"""The running page in headless Chromium: what a visitor does is answered, and stays here."""

from __future__ import annotations

import io
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.app.app_page import AppPage
from tests.app.tiny_exports import export_refocus, export_text2image
from tests.evaluation.browser import CHROMIUM, NO_BROWSER

ROOT = Path(__file__).parents[2]
START_S = 120.0
WIDTH, HEIGHT = 900, 300
SHOWN_WIDTH, SHOWN_HEIGHT = 1024, 341  # enlarged for the screen

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER),
    pytest.mark.skipif(find_spec("gradio") is None, reason="no Gradio: pip install gradio"),
]


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    """Where the server's process notes what it asked of other machines."""
    return tmp_path_factory.mktemp("log") / "outside.txt"


@pytest.fixture(scope="module")
def address(tmp_path_factory, outside):
    """The served page, with both small models."""
    folder = tmp_path_factory.mktemp("models")
    exports = [export_refocus(folder / "refocus"), export_text2image(folder / "text2image")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.app.audited_app", str(outside), *map(str, exports)]
    command += ["--port", str(port), "--no-browser"]
    # What a machine's owner may have set must open nothing
    changed = {"GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0", "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | changed, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    ready, _, _ = select.select([server.stdout], [], [], START_S)
    assert ready, "the page does not start"
    assert server.stdout.readline().startswith(f"http://127.0.0.1:{port}/")
    yield f"http://127.0.0.1:{port}/"
    server.send_signal(signal.SIGINT)
    assert server.wait(30) == 0


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    with AppPage(address, tmp_path_factory.mktemp("profile")) as page:
        page.resize(1400, 900)
        page.wait_for_element("#picture img")
        page.wait_until(lambda: page.source("#picture img").startswith("http"), "the example")
        page.wait_until(page.is_still, "the layout")
        yield page


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A gray wall of blocks, three times as wide as high, with EXIF."""
    file = tmp_path_factory.mktemp("photo") / "wall.jpg"
    exif = Image.Exif()
    exif[0x0110] = "A camera"
    blocks = np.random.default_rng(0).integers(60, 160, (30, 90), np.uint8)
    wall = Image.fromarray(blocks.repeat(10, 0).repeat(10, 1)).convert("RGB")
    wall.save(file, exif=exif.tobytes())
    return file


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url) as response:
        return response.read()


def mark_center(page: AppPage) -> np.ndarray:
    """(x, y) of the amber focus mark on the gray wall, in pixels from the picture's corner."""
    image = Image.open(io.BytesIO(fetched(page.source("#picture img"))))
    assert image.size == (SHOWN_WIDTH, SHOWN_HEIGHT)
    values = np.asarray(image.convert("RGB")).astype(int)
    rows, columns = np.nonzero(values[..., 0] - values[..., 2] > 60)
    return np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2 + 0.5


def changed_by(page: AppPage, selector: str, act) -> float:
    """Act, wait until a picture is another one, and return the seconds."""
    before, start = page.source(selector), time.monotonic()
    act()
    page.wait_until(lambda: page.source(selector) not in ("", before), f"{selector} to change")
    return time.monotonic() - start


def settled(page: AppPage, selector: str) -> str:
    """The picture that stays."""
    sources = [""]
    while len(sources) < 4 or len(set(sources[-4:])) > 1:
        time.sleep(0.2)
        sources.append(page.source(selector))
    return sources[-1]


def two_of(page: AppPage, selector: str) -> None:
    """Wait until two different pictures stand there."""
    sources = f"[...document.querySelectorAll('{selector}')].map(e => e.src)"
    page.wait_until(lambda: len(set(page.evaluate(sources))) == 2, "two pictures")


def test_the_page_opens_with_the_example_blurred(page):
    image = Image.open(io.BytesIO(fetched(page.source("#picture img")))).convert("L")
    assert image.size == (1024, 691)
    levels = np.asarray(image).astype(float)
    shelves, engine = levels[30:160, 780:960], levels[350:480, 480:620]
    assert np.abs(np.diff(engine)).mean() > 3 * np.abs(np.diff(shelves)).mean()


def test_a_slider_is_followed(page):
    box = page.box("#bokeh input[type=range]")
    middle = box.y + box.height / 2
    start, end = (box.x + box.width / 2, middle), (box.x + 0.9 * box.width, middle)
    changed_by(page, "#picture img", lambda: page.drag(start, end))
    value = page.evaluate("document.querySelector('#bokeh input[type=range]').value")
    assert 20 <= float(value) <= 23
    settled(page, "#picture img")


def test_text_named_as_a_photograph_is_one_sentence(page, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    page.upload("#photo_file input[type=file]", tmp_path / "text.jpg")
    page.wait_until(lambda: page.text(".toast-body"), "the message")
    assert "text.jpg: it is not a JPEG, PNG, WebP, TIFF or HEIC image." in page.text(".toast-body")
    page.press(".toast-close")
    page.wait_for_element("#photo_file input[type=file]")


def test_a_click_is_where_it_was_meant_on_a_letterboxed_photograph(page, photo):
    page.upload("#photo_file input[type=file]", photo)
    page.wait_until(lambda: "A tilted plane" in page.text("#depth_note"), "the plane")
    natural_height = "document.querySelector('#picture img').naturalHeight"
    page.wait_until(lambda: page.evaluate(natural_height) == SHOWN_HEIGHT, "the photograph")
    settled(page, "#picture img")
    for x, y in ((100, 60), (450, 150), (801, 239)):
        box = page.box("#picture img")
        # The picture lies in the middle of its element, as large as it fits, but not enlarged
        scale = min(box.width / SHOWN_WIDTH, box.height / SHOWN_HEIGHT, 1)
        assert box.height > scale * SHOWN_HEIGHT + 100
        left = box.x + (box.width - scale * SHOWN_WIDTH) / 2
        top = box.y + (box.height - scale * SHOWN_HEIGHT) / 2
        # A mouse clicks on whole pixels of the screen
        place = round(left + scale * x), round(top + scale * y)
        intended = (place[0] - left) / scale, (place[1] - top) / scale
        changed_by(page, "#picture img", lambda place=place: page.click(*place))
        settled(page, "#picture img")
        assert np.abs(mark_center(page) - intended).max() <= 1


def test_a_stroke_corrects_the_depth(page):
    page.press_text("Depth")
    page.wait_for_element("#sheet canvas")
    page.wait_until(lambda: page.box("#sheet canvas").width > 300, "the depth map")
    box = page.box("#sheet canvas")
    before = page.source("#sheet img")
    middle = box.y + box.height / 2
    page.drag((box.x + 0.2 * box.width, middle), (box.x + 0.8 * box.width, middle))
    page.wait_until(lambda: page.text("#depth_note") == "Corrected by brush.", "the correction")
    page.wait_until(lambda: page.source("#sheet img") != before, "the new depth map")
    page.press("#undo")
    page.wait_until(lambda: "taken back" in page.text("#depth_note"), "the undo")
    page.press_text("Click to focus")


def test_what_is_saved_has_the_photograph_s_size_and_exif(page):
    page.press("#develop")
    page.wait_until(lambda: "bokeh" in page.text("#saved"), "the file")
    url = page.evaluate("document.querySelector('#saved a').href")
    with Image.open(io.BytesIO(fetched(url))) as saved:
        assert (saved.size, saved.format) == ((WIDTH, HEIGHT), "JPEG")
        assert saved.getexif()[0x0110] == "A camera"


def test_a_sweep_is_saved_as_an_animation(page):
    page.press("#animate")
    page.wait_until(lambda: ".mp4" in page.text("#saved"), "the animation")
    url = page.evaluate("document.querySelector('#saved a').href")
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(fetched(url))) as film:
        frames = list(film.decode(video=0))
    assert (len(frames), frames[0].width, frames[0].height) == (22, WIDTH, HEIGHT)


def test_before_and_after_stand_side_by_side(page):
    page.press_text("Before | after")
    two_of(page, "#compare img")


def test_the_network_answers_the_same_click(page):
    page.press_text("Refocus")
    page.wait_for_element("#refocus_picture img")
    settled(page, "#refocus_picture img")
    box = page.box("#refocus_picture img")
    page.click(box.x + 0.3 * box.width, box.y + 0.5 * box.height)
    two_of(page, "#refocus_compare img")


def test_a_scene_is_made_once_and_photographed_again(page):
    page.press_text("Text to image")
    page.wait_for_element("#make")
    changed_by(page, "#scene img", lambda: page.press("#make"))
    settled(page, "#scene img")
    changed_by(page, "#scene img", lambda: page.press_text("f/22", "#scene_f_number label"))
    settled(page, "#scene img")
    box = page.box("#scene img")
    place = (box.x + 0.4 * box.width, box.y + 0.6 * box.height)
    changed_by(page, "#scene img", lambda: page.click(*place))
    settled(page, "#scene img")
    changed_by(page, "#scene img", lambda: page.press("#band input"))


def test_nothing_left_this_machine_and_nothing_failed(page, address, outside):
    """After all of the above."""
    assert {url for url in page.requests if not url.startswith(address)} == set()
    assert page.errors == []
    assert page.console_errors == []
    assert not outside.exists() or outside.read_text() == ""
