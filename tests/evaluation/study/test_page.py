"""The page in a browser: videos that play, buttons that wait for them, no request elsewhere."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from dofsuite.evaluate import main
from dofsuite.evaluation.study.answers import read_answers
from dofsuite.evaluation.study.study import open_study
from tests.evaluation.browser import CHROMIUM, NO_BROWSER, Page
from tests.evaluation.study.simulated import serving

TOTAL = 4 + 3 + 2
BUTTONS = "[...document.querySelectorAll('button[data-side]')]"
VIDEOS = "[...document.querySelectorAll('video')]"
COUNT = "document.getElementById('count').textContent"


@pytest.fixture
def study(tmp_path):
    """Two methods, three prompts, two apertures: a loop of a second."""
    noise = np.random.default_rng(0)
    for method in ("ours", "other"):
        for prompt in ("a", "b", "c"):
            folder = tmp_path / method / prompt
            folder.mkdir(parents=True)
            for number in ("1.8", "8"):
                Image.fromarray(noise.integers(0, 255, (48, 64, 3), np.uint8)).save(
                    folder / f"f{number}.png"
                )
    sources = [str(tmp_path / method) for method in ("ours", "other")]
    options = ["-o", str(tmp_path / "study"), "--f-numbers", "1.8", "8"]
    assert main(["study", "build", *sources, *options, "--size", "64", "--votes", "4"]) == 0
    return open_study(tmp_path / "study")


def wait(page: Page, expression: str) -> None:
    end = time.monotonic() + 15
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.03)


def press(page: Page, key: str, repeated: bool = False) -> None:
    page.call("Input.dispatchKeyEvent", type="keyDown", key=key, autoRepeat=repeated)


@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_a_participant_in_a_browser(study, tmp_path):
    with serving(study) as server, Page(address := address_of(server), tmp_path / "one") as page:
        # Start
        assert f"{TOTAL} pairs" in page.evaluate("document.body.innerText")
        page.evaluate("document.getElementById('agree').click()")
        wait(page, f"{COUNT} === '1 of {TOTAL}'")
        link = page.evaluate("location.href")

        # Locked until both have played; keys and clicks do nothing before
        wait(page, f"{VIDEOS}.every(v => !v.paused && v.currentTime > 0)")
        assert page.evaluate(f"{BUTTONS}.map(b => b.disabled)") == [True, True]
        assert page.evaluate(f"{VIDEOS}.map(v => [v.videoWidth, v.duration])") == [[64, 1.0]] * 2
        press(page, "ArrowLeft")
        page.evaluate(f"{BUTTONS}[0].click()")
        assert page.evaluate(COUNT) == f"1 of {TOTAL}"
        wait(page, f"{BUTTONS}.every(b => !b.disabled)")
        # Both go on playing
        wait(page, f"{VIDEOS}.every(v => !v.paused && v.currentTime > 0)")

        # A key that is held, and a double click, are one answer each
        press(page, "ArrowRight")
        press(page, "ArrowRight", repeated=True)
        wait(page, f"{COUNT} === '2 of {TOTAL}'")
        wait(page, f"{BUTTONS}.every(b => !b.disabled)")
        page.evaluate(f"{BUTTONS}[0].click(), {BUTTONS}[0].click(), {BUTTONS}[1].click()")
        wait(page, f"{COUNT} === '3 of {TOTAL}'")

        # The page is closed, and opened by its link
        page.open("about:blank")
        page.open(link)
        wait(page, f"{COUNT} === '3 of {TOTAL}'")
        assert page.evaluate(f"{BUTTONS}.map(b => b.disabled)") == [True, True]
        for number in range(3, TOTAL + 1):
            wait(page, f"{COUNT} === '{number} of {TOTAL}' && {BUTTONS}.every(b => !b.disabled)")
            page.evaluate(f"{BUTTONS}[{number % 2}].click()")
        wait(page, "!document.getElementById('thanks').hidden")

        # Nothing but this server was asked, and nothing was wrong
        assert [url for url in page.requests if not url.startswith((address, "about:"))] == []
        assert page.errors == []

    (participant,) = read_answers(study).values()
    sides = ["right", "left", *(["left", "right"][n % 2] for n in range(3, TOTAL + 1))]
    assert [answer.chosen for answer in participant.answers] == sides
    assert min(answer.reaction_s for answer in participant.answers) >= 1.0


@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_an_answer_that_cannot_be_stored_is_said_and_given_again(study, tmp_path):
    with Page("about:blank", tmp_path / "one") as page, serving(study) as server:
        page.open(address_of(server))
        page.evaluate("document.getElementById('agree').click()")
        wait(page, f"{COUNT} === '1 of {TOTAL}' && {BUTTONS}.every(b => !b.disabled)")
        set_offline(page, True)
        page.evaluate(f"{BUTTONS}[0].click()")
        wait(page, "document.getElementById('hint').textContent.includes('could not be stored')")
        set_offline(page, False)
        page.evaluate(f"{BUTTONS}[0].click()")
        wait(page, f"{COUNT} === '2 of {TOTAL}'")
        page.open(address_of(server) + "?p=nobody")
        wait(page, "document.body.innerText.includes('belongs to no participant')")
    (participant,) = read_answers(study).values()
    assert len(participant.answers) == 1


def set_offline(page, offline: bool) -> None:
    limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", offline=offline, **limits)


def address_of(server) -> str:
    return f"http://127.0.0.1:{server.server_port}/"
