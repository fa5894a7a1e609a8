"""Sinograms per second: ours with 10 evaluations beside a plain `diffusers` latent diffusion model with DDIM, 50 steps.

    python benchmarks/bench_generate.py [--quick] [--model DIR] [--json FILE]

Both draw 128 x 128 sinograms in one run on the same threads; the rival is `allpet.rivals.ldm` (11.8 M weights,
untrained here, which does not change its speed; its quality after the same training is in docs/results.md). Run
it on idle cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from allpet.metrics import mirror_seam
from allpet.model import AllPET
from allpet.provenance import provenance
from allpet.rivals.common import NETWORKS, Rival


def seconds(draw: Callable[[], torch.Tensor], rounds: int) -> float:
    """Median seconds of a call, after one to warm up."""
    draw()
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        draw()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def main() -> None:
    """Print a line a tool and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, one round")
    parser.add_argument("--model", type=Path, help="model folder; default: the shipped weights")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    n, rounds = (16, 1) if chosen.quick else (64, 3)
    ours = AllPET.from_pretrained(chosen.model)
    prompt = next(iter(ours.config["log_mean"]))
    rival = Rival(NETWORKS()["ldm"](ours.beam.shape), ours.config)
    results: list[dict[str, Any]] = []
    for name, tool in (("allpet", ours), ("diffusers LDM, DDIM 50", rival)):

        def draw(tool: Any = tool) -> torch.Tensor:
            return tool.generate(prompt, n, seed=0).sinogram

        taken = seconds(draw, rounds) / n
        evaluations = tool.evaluations() if callable(tool.evaluations) else tool.evaluations
        facts = dict(tool=name, weights=tool.parameters, evaluations=evaluations, sinograms_per_second=1 / taken)
        results.append({**facts, "mirror_seam": float(mirror_seam(draw()).mean())})
        size = f"{evaluations} evaluations, {tool.parameters / 1e6:.1f} M weights"
        print(f"{name:>24}: {1 / taken:6.1f} sinograms/s, {size}")
    ratio = results[0]["sinograms_per_second"] / results[1]["sinograms_per_second"]
    print(f"ratio {ratio:.1f}")
    if chosen.json:
        facts = dict(n=n, threads=torch.get_num_threads(), ratio=ratio, results=results, provenance=provenance())
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
