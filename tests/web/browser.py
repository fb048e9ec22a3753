"""A headless Chromium for tests, steered over its debugging protocol."""

import base64
import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium")
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync --hide-scrollbars "
QUIET += "--disable-background-networking --disable-component-update --remote-debugging-port=0"


class Page:
    """One tab. Waits are for conditions, never for times."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []  # of the console, and of the content-security policy
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._hear(message)

    def _hear(self, message: Any) -> None:
        if message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(str(message["params"]["exceptionDetails"]))
        if message["method"] == "Log.entryAdded" and message["params"]["entry"]["source"] == "security":
            self.complaints.append(message["params"]["entry"]["text"])
        if message["method"] == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {message['params']['message']}")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str, seconds: float = 40) -> Any:
        """What a script gives, as soon as that is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                value = self.run(script)
            except AssertionError:  # the page is being replaced
                value = None
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"not in {seconds} s: {script}\n{self.run('document.body.innerText')}\n{self.complaints}")

    def key(self, name: str, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, text=text if kind == "keyDown" else "",
                      windowsVirtualKeyCode={"Enter": 13, "Tab": 9, " ": 32}.get(name, 0))  # fmt: skip

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def window(self, width: int, height: int, dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, whole: bool = True) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A browser whose profile lies in a folder of the test's own."""
    log = folder / "chromium.log"
    command = ["chromium", *QUIET.split(), f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with log.open("wb") as file:
        browser = subprocess.Popen(command, stderr=file, stdout=file)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"ws://([^/]+)/devtools", log.read_text())):
            assert time.monotonic() < deadline and browser.poll() is None, log.read_text()
            time.sleep(0.1)
        tabs = httpx.get(f"http://{found[1]}/json").json()
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        with connect(address, max_size=None) as socket:
            yield Page(socket)
    finally:
        browser.terminate()
        browser.wait(20)
