"""A folder of two small scans, and a client of the server on it, shared by the tests of the page."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from allpet.io import write
from allpet.io.store import write_store
from allpet.metrics.region import Uptake, uptake
from allpet.model.allpet import RegionResult, Result
from allpet.scan.dataset import Dataset
from allpet.scan.simulate import simulate
from allpet.ui.jobs import Jobs
from allpet.ui.library import Library
from allpet.ui.server import build
from allpet.ui.sessions import Sessions

TOKEN = "a-token"
SIZE, PLANES = 48, 3
ELLIPSE = {"type": "ellipse", "centre_mm": [30, 10], "axes_mm": [40, 30]}


@lru_cache(maxsize=2)
def data(seed: int) -> Dataset:
    """Three planes of an abdomen at a tenth of the dose, 48 x 48."""
    return simulate(
        PLANES,
        region="abdomen",
        task="low-dose",
        dose_fraction=0.1,
        views=SIZE,
        bins=SIZE,
        slices_per_subject=PLANES,
        slice_mm=8.0,
        background="quick",
        seed=seed,
    )


def scans(folder: Path) -> Path:
    """``one.zarr``, which knows its truth, and ``two.hs``, which does not."""
    folder.mkdir(exist_ok=True)
    write_store(data(0), folder / "one.zarr")
    write(data(1).scan(), folder / "two.hs")
    return folder


class FakeModel:
    """Gives the quick image back, with a region's mean doubled where it is attended to; waits where it is told to."""

    hash = "0123456789abcdef"
    config: dict[str, Any] = {"tracers": ["FDG"], "regions": ["abdomen"]}

    def __init__(self, wait: Callable[[], bool] = lambda: False) -> None:
        self.wait = wait
        self.asked: list[dict[str, Any]] = []

    def apply(self, task: str, scan: Any, roi: Any = (), images: bool = False, progress: Any = None, **options: Any):
        from allpet.mask.attend import quick_image

        self.asked.append({"task": task, "planes": len(scan), "roi": roi, **options})
        while self.wait():
            progress(0, len(scan))
            time.sleep(0.01)
        image = quick_image(scan)
        rows = []
        for region in roi:
            found = uptake(image.array.numpy(), region, image.grid, image.plane_mm)
            more = Uptake(2 * found.mean, 2 * found.maximum, 2 * found.peak, found.volume_ml)
            rows.append(RegionResult(region.name, found, found, more, 0.5, image.unit))
        progress(len(scan), len(scan))
        return Result(scan, None, ("a note",), {"-image": image, "-image-std": image}, None, tuple(rows))


def client(source: Path | None, out: Path | None = None, model: Any = None, idle_s: float = 120.0) -> TestClient:
    """A client with the right token and host."""
    sessions = Sessions(Library(source, out), Jobs(model or FakeModel()), idle_s)
    app: Any = build(sessions, TOKEN, "127.0.0.1")
    app.sessions = sessions
    return TestClient(app, base_url="http://127.0.0.1:8765", headers={"X-Token": TOKEN}, raise_server_exceptions=False)


class Session:
    """One session of a client."""

    def __init__(self, page: TestClient, **body: Any) -> None:
        self.page = page
        answer = page.post("/api/sessions", json=body)
        assert answer.status_code == 200, answer.text
        self.first = answer.json()
        self.base = f"/api/sessions/{self.first['session']}"

    def edit(self, op: str, status: int = 200, **body: Any) -> dict[str, Any]:
        """Edit; the state, or the error."""
        answer = self.page.post(self.base + "/edits", json={"op": op, **body})
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def state(self) -> dict[str, Any]:
        """As it is now."""
        return dict(self.page.get(self.base).json())

    def get(self, path: str, status: int = 200) -> bytes:
        """What is there."""
        answer = self.page.get(self.base + path)
        assert answer.status_code == status, answer.text[:300]
        return answer.content

    def post(self, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
        """What comes back."""
        answer = self.page.post(self.base + path, json={} if body is None else body)
        assert answer.status_code == status, answer.text[:300]
        return dict(answer.json())

    def upload(self, name: str, content: bytes, status: int = 200) -> dict[str, Any]:
        """Send a file."""
        answer = self.page.post(self.base + "/upload", params={"name": name}, content=content)
        assert answer.status_code == status, answer.text[:300]
        return dict(answer.json())

    def finished(self, job: str) -> dict[str, Any]:
        """A job when it has ended."""
        for _ in range(1000):
            found = self.page.get(f"{self.base}/jobs/{job}").json()
            if found["state"] != "running":
                return dict(found)
            time.sleep(0.02)
        raise AssertionError("the job does not end")


def hashes(state: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What makes regions the same."""
    return [(one["id"], one["name"], one["hash"]) for one in state["regions"]]
