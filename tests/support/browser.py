"""Headless Chromium, controlled over a pipe, without port, network or driver."""

from __future__ import annotations

import base64
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

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """A browser with one page; `complaints` lists console errors, warnings and web requests."""

    def __init__(self, folder: Path, seconds: float = 120.0) -> None:
        assert CHROMIUM is not None
        to_browser, self._commands = os.pipe()
        self._answers, from_browser = os.pipe()
        # the browser reads commands from file descriptor 3 and answers on 4
        line = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        command = [
            "bash",
            "-c",
            line,
            "chromium",
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            command,
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder)},
        )
        os.close(to_browser)
        os.close(from_browser)
        self.seconds = seconds
        self.complaints: list[str] = []
        self.downloads = folder / "downloads"
        self._waiting = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        pages = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def close(self) -> None:
        """Close the browser."""
        for pipe in (self._commands, self._answers):
            os.close(pipe)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + self.seconds
        while True:
            answer = self._next(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._answers], [], [], max(end - time.monotonic(), 0))
            assert ready, "the browser does not respond"
            more = os.read(self._answers, 1 << 20)
            assert more, "the browser ended"
            self._waiting += more
        line, self._waiting = self._waiting.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        self._listen(message.get("method", ""), message.get("params", {}))
        return message

    def _listen(self, method: str, event: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.complaints.append(
                str(details.get("exception", {}).get("description", details["text"]))
            )
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.complaints.append(event["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in (
            "error",
            "warning",
            "assert",
        ):
            self.complaints.append(str(event["args"]))
        elif method == "Network.requestWillBeSent" and not event["request"]["url"].startswith(
            ("file:", "blob:", "about:")
        ):
            self.complaints.append(f"asked for {event['request']['url']}")
        elif method == "Page.loadEventFired":
            self._loaded = True

    def load(self, page: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file from disk."""
        self.go(page.as_uri(), width, height, dark)

    def go(self, address: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a page from a local server or from disk."""
        self.complaints.clear()
        self._loaded = False
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.call("Page.navigate", url=address)
        end = time.monotonic() + self.seconds
        while not self._loaded:
            self._next(end)

    def ask(self, script: str) -> Any:
        """Evaluate an expression in the page and return its value."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Scroll an element into view and return its left, top, width and height."""
        box = self.ask(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect(); "
            f"return [b.left, b.top, b.width, b.height]; "
            f"}})(document.querySelector({json.dumps(selector)}))"
        )
        left, top, width, height = box
        return left, top, width, height

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send a mouse event."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector: str, across: float = 0.5, down: float = 0.5, times: int = 1) -> None:
        """Click an element at a fraction of its width and height."""
        left, top, width, height = self.box(selector)
        x, y = left + across * width, top + down * height
        self.mouse("mouseMoved", x, y)
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.mouse(kind, x, y, button="left", clickCount=count)

    def drag(self, selector: str, start: float, stop: float) -> None:
        """Drag the mouse across an element, between two fractions of its width."""
        left, top, width, height = self.box(selector)
        y = top + height / 2
        self.mouse("mouseMoved", left + start * width, y)
        self.mouse("mousePressed", left + start * width, y, button="left", clickCount=1)
        for share in (0.3, 0.7, 1.0):
            self.mouse(
                "mouseMoved",
                left + (start + share * (stop - start)) * width,
                y,
                button="left",
                buttons=1,
            )
        self.mouse("mouseReleased", left + stop * width, y, button="left", clickCount=1)

    def wheel(self, selector: str, turn: float) -> None:
        """Scroll over the middle of an element; negative scrolls up."""
        left, top, width, height = self.box(selector)
        self.mouse("mouseWheel", left + width / 2, top + height / 2, deltaX=0, deltaY=turn)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        codes = {
            "ArrowLeft": 37,
            "ArrowRight": 39,
            "Home": 36,
            "End": 35,
            "Escape": 27,
            "Tab": 9,
            " ": 32,
        }
        more = {"windowsVirtualKeyCode": codes.get(key, 0), "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **more)

    def picture(self, target: Path, *, whole: bool = False) -> Path:
        """Save a screenshot as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        target.write_bytes(base64.b64decode(shot["data"]))
        return target
