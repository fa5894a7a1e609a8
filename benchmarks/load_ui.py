"""The page's server under load: mixed requests of several users at a time, latencies, errors, and memory.

    python benchmarks/load_ui.py [SCAN] [--requests 1000] [--users 8] [--quick] [--json FILE]

Starts `allpet ui` on a scan (default: its simulated one) on this computer. Every user draws, changes strengths, undoes,
and looks at labels, sinograms, the image and exports. Memory is the server's own, before and after.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from allpet import __version__

SHARES = {
    "draw": 10,
    "strength": 15,
    "undo": 5,
    "labels": 20,
    "sinogram": 30,
    "state": 8,
    "image": 3,
    "regions.json": 5,
    "roi.nii.gz": 3,
    "no such plane": 1,
}
"""How often each is asked for, in percent."""


class User:
    """One page's session, and what it takes."""

    def __init__(self, address: str, token: str, seed: int) -> None:
        self.draw = random.Random(seed)
        self.page = httpx.Client(base_url=address, headers={"X-Token": token}, timeout=120)
        state = self.page.post("/api/sessions", json={"fresh": True}).raise_for_status().json()
        self.base, self.planes = f"/api/sessions/{state['session']}", state["scan"]["planes"]
        self.half = state["image"]["size"] * state["image"]["pixel_mm"] / 4
        self.edit(op="draw", shape=self.shape())
        self.times: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []

    def shape(self) -> dict[str, object]:
        """An ellipse somewhere."""
        centre = [self.draw.uniform(-self.half, self.half) for _ in range(2)]
        return {"type": "ellipse", "centre_mm": centre, "axes_mm": [self.draw.uniform(10, 40) for _ in range(2)]}

    def edit(self, **body: object) -> httpx.Response:
        """Edit the regions."""
        return self.page.post(self.base + "/edits", json=body)

    def ask(self, what: str) -> httpx.Response:
        """One request."""
        plane = self.draw.randrange(self.planes)
        if what == "draw":
            answer = self.edit(op="draw", shape=self.shape(), planes=[plane, plane])
            if len(answer.json().get("regions", ())) > 20:
                self.edit(op="clear")
                self.edit(op="draw", shape=self.shape())
            return answer
        if what == "strength":
            region = self.page.get(self.base).json()["regions"][0]["id"]
            return self.edit(op="strength", region=region, value=self.draw.uniform(0, 5))
        if what == "undo":
            self.edit(op="draw", shape=self.shape(), planes=[plane, plane])
            return self.edit(op="undo")
        paths = {
            "labels": f"/planes/{plane}/labels",
            "sinogram": f"/planes/{plane}/sinogram?of={self.draw.choice(['scan', 'attention', 'emphasised'])}",
            "state": "",
            "image": "/image.nii.gz",
            "no such plane": f"/planes/{self.planes}/labels",
        }
        return self.page.get(self.base + paths.get(what, f"/export/{what}"))

    def work(self, count: int) -> None:
        """So many requests."""
        for _ in range(count):
            what = self.draw.choices(list(SHARES), list(SHARES.values()))[0]
            wanted = 404 if what == "no such plane" else 200
            began = time.perf_counter()
            try:
                answer = self.ask(what)
                if answer.status_code != wanted:
                    self.errors.append(f"{what}: {answer.status_code} {answer.text[:100]}")
            except (httpx.HTTPError, LookupError, ValueError) as error:
                self.errors.append(f"{what}: {error!r}")
            self.times[what].append(1000 * (time.perf_counter() - began))

    def end(self) -> None:
        """End the session."""
        self.page.delete(self.base)
        self.page.close()


def measure(scan: Path | None, requests: int, users: int) -> dict[str, object]:
    """Load a server of its own."""
    command = [sys.executable, "-m", "allpet", "ui", *([str(scan)] if scan else []), "--port", "0", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address, _, token = server.stdout.readline().strip().partition("/?token=")
        began = time.perf_counter()
        User(address, token, 0).end()
        ready, process = time.perf_counter() - began, psutil.Process(server.pid)
        memory = {"mib_before": process.memory_info().rss >> 20}
        crowd = [User(address, token, seed) for seed in range(users)]
        began = time.perf_counter()
        with ThreadPoolExecutor(users) as pool:
            list(pool.map(lambda user: user.work(-(-requests // users)), crowd))
        seconds = time.perf_counter() - began
        memory["mib_at_the_end"] = process.memory_info().rss >> 20
        for user in crowd:
            user.end()
        memory["mib_after_the_sessions"] = process.memory_info().rss >> 20
    finally:
        server.terminate()
        server.wait(30)
    times, errors = defaultdict(list), [error for user in crowd for error in user.errors]
    for user in crowd:
        for what, found in user.times.items():
            times[what] += found
    everything = sorted(value for found in times.values() for value in found)
    return {
        "allpet": __version__,
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores",
        "scan": str(scan.name if scan else "simulated"),
        "seconds_to_first_session": round(ready, 1),
        "requests": len(everything),
        "users": users,
        "requests_per_second": round(len(everything) / seconds, 1),
        "errors": len(errors),
        "first_errors": errors[:3],
        "ms_median": round(statistics.median(everything), 1),
        "ms_95": round(everything[int(0.95 * len(everything))], 1),
        "ms_largest": round(everything[-1], 1),
        "ms_by_request": {
            what: [round(statistics.median(found), 1), round(max(found), 1)] for what, found in times.items()
        },
        **memory,
    }


def main() -> None:
    """Measure, print, keep JSON."""
    parser = argparse.ArgumentParser(description="The page's server under load.")
    parser.add_argument("scan", type=Path, nargs="?", help="scan to serve; default: a simulated one")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="few requests: shows that it runs, not how fast")
    parser.add_argument("--json", type=Path, help="file to keep the numbers in")
    options = parser.parse_args()
    result = measure(options.scan, 80 if options.quick else options.requests, options.users)
    for name, value in result.items():
        print(f"{name:<28}{value}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if result["errors"] else 0)


if __name__ == "__main__":
    main()
