"""A browser without a display, for tests of pages: it opens files, with the scripts, the width and
the colours that are asked for, and keeps what it was asked to fetch.

It speaks the DevTools protocol over two pipes, so that nothing but a chromium has to be there.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parent / "data" / "axe" / "axe.min.js"
WITHIN_S = 120.0
"""How long an answer may take on a busy machine."""
FROM_BROWSER, TO_BROWSER = 4, 3
"""The pipes as the browser numbers them."""


def _above(descriptor: int) -> int:
    """The same pipe with a number that the browser's own do not take."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return moved


class Browser:
    """A process of chromium, with as many tabs as are opened."""

    def __init__(self) -> None:
        assert CHROMIUM is not None, "tests skip where there is none"
        (reads, self._to), (self._from, writes) = (tuple(map(_above, os.pipe())) for _ in range(2))

        def number_pipes() -> None:
            os.dup2(reads, TO_BROWSER)
            os.dup2(writes, FROM_BROWSER)

        self._folder = TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             "--hide-scrollbars", f"--user-data-dir={self._folder.name}"],
            preexec_fn=number_pipes,  # noqa: PLW1509 (nothing else runs in a test)
            close_fds=False, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(reads)
        os.close(writes)
        self._rest, self._sent = b"", 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(WITHIN_S)
        os.close(self._to)
        os.close(self._from)
        self._folder.cleanup()

    def call(self, method: str, session: str | None = None, **given: Any) -> dict[str, Any]:
        """What the browser answers to ``method``; an AssertionError where it refuses."""
        self._sent += 1
        told: dict[str, Any] = {"id": self._sent, "method": method, "params": given}
        if session is not None:
            told["sessionId"] = session
        os.write(self._to, json.dumps(told).encode() + b"\0")
        while (answer := self._next()).get("id") != self._sent:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, method: str, session: str) -> dict[str, Any]:
        """The next event ``method`` of a tab."""
        while True:
            self.events.append(event := self._next())
            if event.get("method") == method and event.get("sessionId") == session:
                params: dict[str, Any] = event["params"]
                return params

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + WITHIN_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], until - time.monotonic())
            assert ready, "the browser says nothing"
            self._rest += os.read(self._from, 1 << 20)
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(
        self,
        page: Path,
        at: str = "",
        *,
        width: int = 1280,
        dark: bool = False,
        scripts: bool = True,
    ) -> Tab:
        """A tab with ``page``, loaded; ``at``: what follows its name, as ``#choose:0``."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, target)
        for domain in ("Page", "Network", "Runtime"):
            tab.call(f"{domain}.enable")
        tab.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        tab.resize(width)
        tab.call("Page.navigate", url=page.as_uri() + at)
        self.wait("Page.loadEventFired", session)
        return tab


class Tab:
    """A page that is open."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """As ``Browser.call``, of this tab."""
        return self._browser.call(method, self._session, **given)

    def resize(self, width: int, height: int = 900) -> None:
        """Let the page be so many pixels wide."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def run(self, script: str) -> Any:
        """The value of an expression in the page, a promise's where it is one."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def fetched(self) -> list[str]:
        """What the page asked for, itself and what it holds left out."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event.get("method") == "Network.requestWillBeSent"
            and event.get("sessionId") == self._session
            and not event["params"]["request"]["url"].startswith(("file:", "data:", "blob:"))
        ]

    def failures(self) -> list[str]:
        """Errors of the page's scripts."""
        return [
            str(event["params"]["exceptionDetails"])[:300]
            for event in self._browser.events
            if event.get("method") == "Runtime.exceptionThrown"
            and event.get("sessionId") == self._session
        ]

    def barriers(self) -> list[str]:
        """What axe finds that keeps people out, each with the first place where it is."""
        self.run(AXE.read_text(encoding="utf-8") + ";0")
        found = self.run("axe.run(document).then((found) => found.violations)")
        return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found]

    def overflow(self) -> list[str]:
        """Elements that make the page wider than its window."""
        return self.run(  # type: ignore[no-any-return]
            """(() => {
              const wide = document.documentElement.scrollWidth > innerWidth;
              const outside = (one) => one.getBoundingClientRect().right > innerWidth + 1;
              const inside = (one) => one.parentElement.closest(".wide, pre, .card");
              const found = [...document.querySelectorAll("body *")]
                .filter((one) => outside(one) && !inside(one));
              return wide || found.length ? [`${document.documentElement.scrollWidth}`,
                ...found.map((one) => one.outerHTML.slice(0, 120))] : [];
            })()"""
        )

    def texts(self, selector: str) -> list[str]:
        """What the elements that are shown say."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return self.run(  # type: ignore[no-any-return]
            f"{found}.filter((one) => one.checkVisibility()).map((one) => one.textContent)"
        )

    def settled(self, selector: str, number: int) -> bool:
        """Whether so many elements are there, at last: a chart is drawn when there is time."""
        count = f"document.querySelectorAll({json.dumps(selector)}).length"
        until = time.monotonic() + WITHIN_S / 4
        while (found := self.run(count)) != number and time.monotonic() < until:
            time.sleep(0.05)
        return bool(found == number)

    def picture(self, path: Path) -> None:
        """Write the whole page as PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)
