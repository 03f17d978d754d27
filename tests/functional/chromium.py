"""Chromium without a window, by its DevTools protocol over a pipe: nothing to install beside the browser.

    python tests/functional/chromium.py report.html docs/guide/images/diff-report.png --height 1240 \\
        --click '[data-key=relative] button' --click '#tensors tbody tr:nth-child(3) button'

makes the image in the guide of the page of a comparison, sorted by the relative change and with a row open.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
_KEYS = {
    "Enter": 13,
    "Tab": 9,
    "Escape": 27,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


class Page:
    """The one page of a browser.

    Attributes:
        requests: the addresses that were asked for.
        complaints: what the console has seen: errors, warnings, exceptions.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.complaints: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; events that come before its answer are noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._writing, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._reading, 1 << 20)
            if not data:
                raise EOFError("the browser has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, parameters: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(parameters))

    def open(self, path: Path) -> None:
        """Load a file, and wait until it is shown."""
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=path.absolute().as_uri())
        while self.value("document.readyState") != "complete":
            self._receive()

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, after what it waits for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """The texts of elements, as they are seen."""
        return self.value(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText.trim())"
        )

    def place(self, selector: str) -> tuple[float, float]:
        """The middle of the first such element, scrolled into view."""
        box = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        return box[0], box[1]

    def hover(self, selector: str) -> None:
        """Move the mouse over an element."""
        x, y = self.place(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Click on the middle of an element."""
        self.hover(selector)
        x, y = self.place(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key that has a name, and let it go."""
        code = _KEYS[key]
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def frame(self) -> None:
        """Wait until what has changed is drawn."""
        self.value("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def prefer(self, scheme: str, media: str = "") -> None:
        """Show the page in ``light`` or ``dark`` colours; with ``print`` as it would be printed."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Give the window a size in CSS pixels, of ``scale`` pixels of an image each."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def browser() -> Iterator[Page]:
    """Start Chromium, and end it."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        its_input, our_output = os.pipe()
        our_input, its_output = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, its_input, 3), (os.POSIX_SPAWN_DUP2, its_output, 4)]
        for stream in (1, 2):
            actions.append((os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0))
        arguments = [PROGRAM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        process = os.posix_spawn(PROGRAM, arguments, {**os.environ, "HOME": profile}, file_actions=actions)
        os.close(its_input)
        os.close(its_output)
        try:
            yield Page(our_input, our_output)
        finally:
            os.kill(process, signal.SIGTERM)
            os.waitpid(process, 0)
            os.close(our_input)
            os.close(our_output)


def main() -> None:
    """Make an image of a page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--dark", action="store_true", help="in dark colours")
    parser.add_argument("--width", type=int, default=1280, help="of the window")
    parser.add_argument("--height", type=int, default=900, help="of the window")
    parser.add_argument("--scale", type=float, default=2, help="pixels of the image for one of the window")
    parser.add_argument("--click", action="append", default=[], help="first click on what this selects")
    parser.add_argument("--hover", help="then move the mouse over what this selects")
    options = parser.parse_args()
    with browser() as page:
        page.prefer("dark" if options.dark else "light")
        page.resize(options.width, options.height, options.scale)
        page.open(options.page)
        for selector in options.click:
            page.click(selector)
        page.value("window.scrollTo(0, 0)")
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
        if options.hover:
            page.hover(options.hover)
        page.frame()
        options.image.write_bytes(page.picture())


if __name__ == "__main__":
    main()
