"""What things cost on this machine: seconds a sinogram and a plane, beside a plain latent diffusion model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from allpet.model import AllPET
from allpet.rivals.common import NETWORKS, Rival
from allpet.train.watch import peak_mib

RIVAL = "plain diffusers LDM, DDIM"


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds of the second call."""
    work()
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def cost(model: AllPET, n: int = 64, rival: bool = True) -> list[dict[str, Any]]:
    """A row for generating n sinograms, the same with an untrained plain LDM, and restoring n // 4 planes.

    Weights do not change how fast a network is, so that the rival is not trained here.
    """
    from allpet.scan.simulate import simulate

    prompt = next(iter(model.config["log_mean"]))
    tools: dict[str, Any] = {"allpet": model}
    if rival:
        tools[RIVAL] = Rival(NETWORKS()["ldm"](model.beam.shape), model.config)
    rows = []
    for name, tool in tools.items():
        taken = seconds_of(lambda tool=tool: tool.generate(prompt, n, seed=0)) / n  # type: ignore[misc]
        evaluations = tool.evaluations() if callable(tool.evaluations) else tool.evaluations
        rows.append(
            dict(what="generate", tool=name, n=n, seconds=taken, evaluations=evaluations, weights=tool.parameters)
        )
    planes = max(n // 4, 2)
    known = dict(task="low-dose", dose_fraction=1 / 20, split="test", views=model.beam.views, bins=model.beam.bins)
    scan = simulate(planes, region="chest", **known).scan()  # type: ignore[arg-type]
    taken = seconds_of(lambda: model.apply("low-dose", scan, samples=0)) / planes
    rows.append(dict(what="low-dose", tool="allpet", n=planes, seconds=taken, evaluations=1, weights=model.parameters))
    facts = dict(threads=torch.get_num_threads(), peak_mib=peak_mib())
    return [row | facts for row in rows]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    heads = ("what", "tool", "ms a plane", "over allpet", "evaluations", "M weights", "threads", "n")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    own = {row["what"]: row["seconds"] for row in rows if row["tool"] == "allpet"}
    for row in rows:
        cells = [row["what"], row["tool"], f"{1000 * row['seconds']:.1f}", f"{row['seconds'] / own[row['what']]:.1f}"]
        cells += [f"{row['evaluations']}", f"{row['weights'] / 1e6:.1f}", f"{row['threads']}", f"{row['n']}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
