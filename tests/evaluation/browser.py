"""Headless Chromium through its own debugging pipe: what a page asked for, what went wrong, and
what it shows.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
NO_BROWSER = "no Chromium on this machine: apt-get install chromium"
TIMEOUT_S = 40.0


class Page:
    """One page in a Chromium of its own, whose every name resolves to nothing."""

    def __init__(self, path: Path, profile: Path) -> None:
        to_read, to_write = (
            os.pipe(),
            os.pipe(),
        )  # Chromium reads its orders from 3 and writes its answers to 4

        def place_pipes() -> None:
            kept = os.dup(to_read[0]), os.dup(to_write[1])
            os.dup2(kept[0], 3)
            os.dup2(kept[1], 4)

        words = [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
        ]
        words += [
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
            "--window-size=1280,1000",
        ]
        self.process = subprocess.Popen(
            [*words, "about:blank"],
            preexec_fn=place_pipes,
            close_fds=False,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read[0])
        os.close(to_write[1])
        self.orders, self.answers = to_read[1], to_write[0]
        self.buffer, self.number, self.events, self.session = b"", 0, [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Page.navigate", url=path.as_uri())
        self.wait_for("Page.loadEventFired")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.orders)
        os.close(self.answers)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        order = {"id": self.number, "method": method, "params": params}
        order |= {"sessionId": self.session} if self.session else {}
        os.write(self.orders, json.dumps(order).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def read(self) -> dict[str, Any]:
        end = time.monotonic() + TIMEOUT_S
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            self.buffer += os.read(self.answers, 2**20)
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def wait_for(self, event: str) -> None:
        while not any(seen["method"] == event for seen in self.events):
            self.events.append(self.read())

    def evaluate(self, expression: str) -> Any:
        answer = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    @property
    def addresses(self) -> list[str]:
        """Every address that the page asked for, its own and those in its own bytes left out."""
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if "requestWillBeSent" == event["method"][8:]
        ]
        return [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]

    @property
    def mistakes(self) -> list[dict[str, Any]]:
        """Exceptions of scripts, and whatever the browser itself complained about."""
        wrong = [
            e["params"]
            for e in self.events
            if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")
        ]
        return [entry for entry in wrong if entry.get("entry", {}).get("level", "error") == "error"]
