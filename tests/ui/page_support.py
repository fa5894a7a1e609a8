"""The server as a person starts it, a browser, and a page of it, for the tests of the page."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page

FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
SMALL, LARGE = {"width": 1280, "height": 800}, {"width": 1920, "height": 1080}

GROUPS = [
    "#top > *, main, footer", "main > *", "#marks, #run", "#left > *", ".tools > *", ".options > *", ".rows > *",
    "#compare > *", "#middle > figure", "figure[data-of=scan] > *", "#marks > .head > *", "#regions > li",
    "#regions > li:first-child .line:first-child > *", "#regions > li:first-child .line:nth-child(2) > *",
    "#task-form > *", "#task-options > *", "footer > *",
]  # fmt: skip
FLAWS = """groups => {
    const flaws = [];
    const name = one => one.id || one.dataset.tool || one.outerHTML.slice(0, 60);
    const boxes = selector => [...document.querySelectorAll(selector)]
        .map(one => [name(one), one.getBoundingClientRect()]).filter(([, box]) => box.width > 1 && box.height > 1);
    for (const group of groups) {
        const found = boxes(group);
        found.forEach(([first, one], index) => {
            if (one.left < 0 || one.right > innerWidth + 0.5) flaws.push(`${first} leaves the window`);
            for (const [second, two] of found.slice(index + 1)) {
                const across = Math.min(one.right, two.right) - Math.max(one.left, two.left);
                const down = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
                if (across > 0.6 && down > 0.6) flaws.push(`${first} meets ${second}`);
            }
        });
    }
    const root = document.documentElement;
    if (root.scrollHeight > innerHeight || root.scrollWidth > innerWidth) flaws.push("the page scrolls");
    const text = "button, summary, select, label, th, td, output, h2, .facts, #left, #middle, #marks, #run, #result, "
        + ".head, .options, figcaption, .value, #facts";
    for (const one of document.querySelectorAll(text)) {
        if (!one.offsetParent || getComputedStyle(one).display === "inline" || one.closest(".why, .sr")) continue;
        if (one.scrollWidth > one.clientWidth + 1 && one.scope !== "row") flaws.push(`${name(one)} is cut`);
    }
    return flaws;
}"""


def browser_path() -> str | None:
    """A Chromium of this computer."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def served(scan: Path, out: Path) -> Iterator[str]:
    """The address of `allpet ui` on a scan, which ends with the context."""
    command = [sys.executable, "-m", "allpet", "ui", str(scan), "--port", "0", "--no-browser", "--out", str(out)]
    log = out / "server.log"
    with open(log, "w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), log.read_text()
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)
    assert "Traceback" not in log.read_text(), log.read_text()


class Seen:
    """A page that was opened, and all that it asked for and complained about.

    Parameters
    ----------
    size : of the window. script : run before the page's own. viewer : asked for.
    """

    def __init__(
        self,
        browser: Browser,
        address: str,
        size: dict[str, int] | None = None,
        script: str | None = None,
        viewer: str = "",
        **options: Any,
    ) -> None:
        self.address = f"{address}&viewer={viewer}" if viewer else address
        self.context = browser.new_context(viewport=size or SMALL, accept_downloads=True, **options)
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.context.route(lambda url: not self._own(url), self._refuse)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        if script:
            self.page.add_init_script(script)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("dialog", lambda dialog: dialog.accept())  # the browser's own question of unsaved work
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.open()

    def _own(self, url: str) -> bool:
        return url.startswith(("http://127.0.0.1:", "data:", "blob:"))

    def _refuse(self, route: Any) -> None:
        self.foreign.append(route.request.url)
        route.abort()

    def open(self) -> None:
        """Opens the page, without work that was saved before."""
        self.page.goto(self.address)
        self.ready()
        if self.page.locator("#reopened").is_visible():
            self.page.click("#afresh")
            self.page.locator("#reopened").wait_for(state="hidden")
        self.drawn()

    def ready(self) -> None:
        """Waits for the session."""
        self.page.wait_for_selector("body[data-ready=true]")

    def close(self) -> None:
        """Ends it; nothing was asked from elsewhere, and nothing went wrong."""
        if not self.page.is_closed():
            self.ask(method="DELETE")  # a server has room for some sessions only
        self.context.close()
        assert not self.foreign, self.foreign
        assert not self.errors, self.errors

    def drawn(self, version: int | None = None) -> None:
        """Waits until what is drawn is what the server holds."""
        if version is not None:
            self.page.wait_for_function("v => Number(document.body.dataset.version) >= v", arg=version)
        self.page.wait_for_function(
            """() => {
                const {session, version, drawn} = document.body.dataset;
                return drawn === `${session}.${version}.${document.getElementById("plane").value}`;
            }"""
        )
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    @property
    def version(self) -> int:
        return int(self.page.evaluate("() => document.body.dataset.version"))

    def ask(self, path: str = "", method: str = "GET") -> bytes:
        """What the server has for the page's session."""
        code = """async ([path, method]) => {
            const at = `/api/sessions/${sessionStorage.getItem("allpet-session")}${path}`;
            const answer = await fetch(at, {method, headers: {"X-Token": sessionStorage.getItem("allpet-token")}});
            return [...new Uint8Array(await answer.arrayBuffer())];
        }"""
        return bytes(self.page.evaluate(code, [path, method]))

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.ask()))

    def sinogram(self, of: str) -> np.ndarray:
        """An array of the plane shown, (view, radial)."""
        scan = self.state["scan"]
        plane = self.page.input_value("#plane")
        return np.frombuffer(self.ask(f"/planes/{plane}/sinogram?of={of}"), "<f4").reshape(scan["views"], scan["bins"])

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point in mm is on the screen: the whole image fits the stage."""
        box = self.page.locator("#stage").bounding_box()
        image = self.state["image"]
        assert box is not None
        scale = (min(box["width"], box["height"]) - 2) / (image["size"] * image["pixel_mm"])
        return box["x"] + box["width"] / 2 + x * scale, box["y"] + box["height"] / 2 - y * scale

    def drag(self, first: tuple[float, float], last: tuple[float, float]) -> None:
        """Draws from a point in mm to another."""
        (x0, y0), (x1, y1) = self.at(*first), self.at(*last)
        mouse = self.page.mouse
        mouse.move(x0, y0)
        mouse.down()
        mouse.move((x0 + x1) / 2, (y0 + y1) / 2, steps=3)
        mouse.move(x1, y1, steps=3)
        mouse.up()

    def status(self, words: str) -> None:
        """Waits until the status line begins with something."""
        self.page.wait_for_function("w => document.getElementById('status').textContent.startsWith(w)", arg=words)

    def flaws(self) -> list[str]:
        """Boxes side by side that meet or leave the window, and text that is cut."""
        return list(self.page.evaluate(FLAWS, GROUPS))

    def pixels(self, selector: str) -> np.ndarray:
        """What an element looks like, (row, column, RGB)."""
        return picture(self.page.locator(selector).screenshot())


def picture(png: bytes) -> np.ndarray:
    """Pixels of a screenshot, (row, column, RGB)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float)


def until(condition: Any, seconds: float = 30.0) -> None:
    """Waits for what no element shows."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.05)
