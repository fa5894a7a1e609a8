"""Simulated scans a second: full low-dose scans (body, uptake, projections, background, counts) into a store.

``python benchmarks/bench_simulate.py --json benchmarks/results/simulate.json`` on idle cores. Start-up (imports in each
worker, template, matrices) is timed apart, with as many samples as fill one block for each worker.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

from allpet.scan.plan import REGIONS
from allpet.scan.simulate import simulate_store


def seconds(folder: Path, n: int, workers: int, **options: object) -> float:
    """Wall time of one store."""
    began = time.perf_counter()
    simulate_store(folder / "bench.zarr", n, workers, task="low-dose", **options)
    return time.perf_counter() - began


def main() -> None:
    """Time every region, with simulated and with quick background."""
    parser = argparse.ArgumentParser(description="Simulated scans a second.")
    parser.add_argument("--n", type=int, default=512, help="scans of each kind")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    parser.add_argument("--json", type=Path, help="file to keep the numbers in")
    chosen = parser.parse_args()
    regions, start_up, size = REGIONS, 64 * chosen.workers, {}
    if chosen.quick:
        regions, start_up, size = ("pelvis",), 2, {"views": 16, "bins": 16}
        chosen.n, chosen.workers = 4, 1
    rows = []
    print(f"{'region':<10} {'background':<10} {'scans/s':>8} {'start-up s':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for region in regions:
            for background in ("simulated", "quick"):
                how = dict(region=region, background=background)
                start = seconds(Path(folder), start_up, chosen.workers, **how, **size)
                whole = seconds(Path(folder), start_up + chosen.n, chosen.workers, **how, **size)
                rate = chosen.n / max(whole - start, 1e-9)
                warm_up = start - start_up / rate
                rows.append(dict(region=region, background=background, scans_per_s=rate, start_s=warm_up))
                print(f"{region:<10} {background:<10} {rate:8.1f} {warm_up:10.1f}", flush=True)
    facts = dict(views=128, bins=128, n=chosen.n, workers=chosen.workers, machine=platform.machine(), rows=rows)
    if chosen.json:
        chosen.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
