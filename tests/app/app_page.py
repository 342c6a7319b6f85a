"""The running page in headless Chromium: what a visitor does, and what is seen."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.evaluation.browser import Page

WAIT_S = 30.0


class Box(NamedTuple):
    """An element's rectangle on the screen, in CSS pixels."""

    x: float
    y: float
    width: float
    height: float


class AppPage(Page):
    def box(self, selector: str) -> Box:
        found = self.evaluate(
            f"""(() => {{const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: "nearest"}});
            const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]}})()"""
        )
        return Box(*found)

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + WAIT_S
        while not (found := condition()):
            assert time.monotonic() < end, f"waited in vain for {what}; {self.errors}"
            time.sleep(0.1)
        return found

    def wait_for_element(self, selector: str) -> None:
        self.wait_until(
            lambda: self.evaluate(f"!!document.querySelector({json.dumps(selector)})"), selector
        )

    def is_still(self) -> bool:
        """Whether nothing has moved for half a second."""
        boxes = (
            "[...document.querySelectorAll('button, input')].map(e => e.getBoundingClientRect().y)"
        )
        before = self.evaluate(boxes)
        time.sleep(0.5)
        return len(before) > 10 and self.evaluate(boxes) == before

    def move(self, kind: str, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        """Press, move in a straight line, release."""
        self.move("mousePressed", *start)
        for step in range(1, steps + 1):
            share = step / steps
            x, y = (a + (b - a) * share for a, b in zip(start, end, strict=True))
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left")
        self.move("mouseReleased", *end)

    def press(self, selector: str) -> None:
        box = self.box(selector)
        self.click(box.x + box.width / 2, box.y + box.height / 2)

    def press_text(self, text: str, tag: str = "[role=tab]") -> None:
        """Click the first visible element of a kind that shows exactly this text."""
        x, y = self.evaluate(
            f"""(() => {{const e = [...document.querySelectorAll({json.dumps(tag)})].find(
            e => e.textContent.trim() === {json.dumps(text)} && e.offsetParent);
            e.scrollIntoView({{block: "nearest"}});
            const r = e.getBoundingClientRect(); return [r.x + r.width/2, r.y + r.height/2]}})()"""
        )
        self.click(x, y)

    def upload(self, selector: str, file: Path) -> None:
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def source(self, selector: str) -> str:
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.src ?? ''")

    def text(self, selector: str) -> str:
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    @property
    def console_errors(self) -> list[Any]:
        calls = [e["params"] for e in self.events if e["method"] == "Runtime.consoleAPICalled"]
        return [call["args"] for call in calls if call["type"] == "error"]

    def screenshot(self, file: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(data))

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
