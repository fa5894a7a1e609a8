"""Masked samples a second: random masks drawn, projected and split on the fly (RMAS, DMM).

    python benchmarks/bench_masks.py [--quick] [--json FILE]

500 sinograms of 128 x 128, batches of 128 drawn from the virtual dataset of 256,000 samples. Run it on idle cores.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch

from allpet import __version__
from allpet.geometry import ParallelBeam
from allpet.mask import MaskedSinograms


def measure(size: int, count: int, batch: int) -> dict[str, object]:
    """Samples a second, and how different the masks are from one another."""
    data = MaskedSinograms(torch.rand(500, size, size), ParallelBeam(size, size, 4.0))
    masks = data.batch(range(batch)).mask.flatten(1)
    start = time.perf_counter()
    for first in range(batch, batch + count, batch):
        data.batch(range(first, first + batch))
    seconds = time.perf_counter() - start
    centred = masks - masks.mean(dim=1, keepdim=True)
    centred = centred / centred.norm(dim=1, keepdim=True)
    correlation = (centred @ centred.T)[~torch.eye(len(masks), dtype=torch.bool)]
    values = torch.linalg.svdvals(masks - masks.mean(dim=0)).square()
    return {
        "allpet": __version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "length": len(data),
        "samples_per_second": round(count / seconds),
        "mean_absolute_correlation": round(float(correlation.abs().mean()), 3),
        "participation_ratio": round(float(values.sum() ** 2 / values.square().sum()), 1),
        "masks_compared": len(masks),
    }


def main() -> None:
    """Measure, print, keep JSON."""
    parser = argparse.ArgumentParser(description="Masked samples a second.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    parser.add_argument("--json", type=Path, help="file to keep the numbers in")
    options = parser.parse_args()
    result = measure(32, 64, 32) if options.quick else measure(128, 6400, 128)
    for name, value in result.items():
        print(f"{name:<28}{value}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
