"""Headless Chromium through its debugging pipe: a page's requests, its errors and what it shows."""

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
    """One page in a Chromium of its own, which reaches nothing but this machine.

    `page` is a file, or the address of a server.
    """

    def __init__(self, page: Path | str, profile: Path) -> None:
        # Chromium reads commands from descriptor 3 and writes responses to 4
        to_read, to_write = os.pipe(), os.pipe()

        def place_pipes() -> None:
            kept = os.dup(to_read[0]), os.dup(to_write[1])
            os.dup2(kept[0], 3)
            os.dup2(kept[1], 4)

        command = [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
            "--window-size=1280,1000",
            "about:blank",
        ]
        self.process = subprocess.Popen(
            command, preexec_fn=place_pipes, close_fds=False, stderr=subprocess.DEVNULL
        )
        os.close(to_read[0])
        os.close(to_write[1])
        self.commands, self.responses = to_read[1], to_write[0]
        self.buffer, self.number = b"", 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None

        # Attach to a new tab, listen, and load the page
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = session["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.open(page.as_uri() if isinstance(page, Path) else page)

    def open(self, url: str) -> None:
        self.events = [e for e in self.events if e["method"] != "Page.loadEventFired"]
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.commands)
        os.close(self.responses)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        command = {"id": self.number, "method": method, "params": params}
        command |= {"sessionId": self.session} if self.session else {}
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while True:
            response = self.read()
            if response.get("id") == self.number:
                assert "error" not in response, response
                return response["result"]
            self.events.append(response)

    def read(self) -> dict[str, Any]:
        end = time.monotonic() + TIMEOUT_S
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.responses], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not respond"
            self.buffer += os.read(self.responses, 2**20)
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def wait_for(self, method: str) -> None:
        while not any(event["method"] == method for event in self.events):
            self.events.append(self.read())

    def evaluate(self, expression: str) -> Any:
        response = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in response, response
        return response["result"].get("value")

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    @property
    def requests(self) -> list[str]:
        """Every URL that the page requested, but itself and the data in it."""
        urls = [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Exceptions of scripts, and the browser's own errors."""
        entries = [
            event["params"]
            for event in self.events
            if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")
        ]
        return [
            entry for entry in entries if entry.get("entry", {}).get("level", "error") == "error"
        ]
