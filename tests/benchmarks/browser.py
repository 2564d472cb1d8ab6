"""A real headless Chromium, driven through the DevTools protocol over a pipe: no driver and no package besides."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-default-browser-check",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
DEADLINE_S = 120


class Page:
    """One tab. `console` holds what went wrong there, `requests` every address that it asked for."""

    def __init__(self, profile):
        executable = shutil.which("chromium")
        if executable is None:
            pytest.skip("Chromium is not installed (Debian: chromium)")
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()

        def connect():  # in the child: DevTools reads orders from 3 and answers on 4
            copies = os.dup(orders), os.dup(answers)  # either may be 3 or 4 itself
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        self._process = subprocess.Popen(
            [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=connect,
        )  # fmt: skip
        os.close(orders)
        os.close(answers)
        self._rest, self._count, self._session = b"", 0, None
        self.console, self.requests, self._loaded = [], [], set()
        target = self.order("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.order("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.order(f"{domain}.enable")
        self.order("Page.setLifecycleEventsEnabled", enabled=True)

    def order(self, method, **parameters):
        """Send one order, wait for its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._orders, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def open(self, path, width=1280, height=900, dark=False):
        """Load a file in a window of that size and wait until the page says that its plots are drawn."""
        self.order(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.order("Emulation.setEmulatedMedia", features=[scheme])
        loader = self.order("Page.navigate", url=path.as_uri())["loaderId"]
        while loader not in self._loaded:
            self._receive()
        assert self.run("typeof drawn") == "object", self.console
        self.run("drawn.then(() => true)")

    def run(self, script):
        """Evaluate an expression in the page; promises are awaited."""
        answer = self.order("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def move_mouse(self, x, y):
        """Move the pointer, in CSS pixels of the window."""
        self.order("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, path):
        """Write a PNG of the whole page."""
        shot = self.order("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        self._session = None
        try:
            self.order("Browser.close")
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._orders)
            os.close(self._answers)

    def _receive(self):
        end = time.monotonic() + DEADLINE_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0, end - time.monotonic()))
            data = os.read(self._answers, 1 << 20) if ready else b""
            assert data, "Chromium does not answer"
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        record = json.loads(message)
        self._note(record.get("method"), record.get("params", {}))
        return record

    def _note(self, event, parameters):
        if event == "Page.lifecycleEvent" and parameters["name"] == "load":
            self._loaded.add(parameters["loaderId"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.console.append(parameters["exceptionDetails"]["exception"].get("description", "exception"))
        elif event == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.console.append(str([argument.get("value") for argument in parameters["args"]]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.console.append(parameters["entry"]["text"])
