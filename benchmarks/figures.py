"""Figures of the benchmarks: peers' ratios, and how time and memory grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fits import Fit

LIMIT_GIB = 3.0
"""What a job on a laptop may take."""
PEERS, GROWTH, MEMORY = "benchmarks-peers.png", "benchmarks-growth.png", "benchmarks-memory.png"
CAPTIONS = {
    PEERS: "Time of each peer over ours, for every job that has a peer",
    GROWTH: "Time over size of each job, with the fits",
    MEMORY: "Peak memory over size of each job, with the bound",
}
COLUMNS = 4
INK, PEER, LINE = "#1f77b4", "#d9822b", "#555555"


def draw(rows: list[dict[str, Any]], fits: list[Fit], over: dict[tuple[str, str], float], folder: Path) -> list[Path]:
    """Write the figures; their paths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    out = []
    peers = [(job, tool, ratio) for (job, tool), ratio in over.items() if not tool.startswith("allpet")]
    peers = [(job, tool, ratio) for job, tool, ratio in peers if "yardstick" not in tool]
    if peers:
        figure, axes = plt.subplots(figsize=(9, 0.6 + 0.24 * len(peers)), layout="constrained")
        names = [f"{job}: {tool}" for job, tool, _ in peers]
        axes.barh(names, [ratio for *_, ratio in peers], color=[INK if ratio >= 1 else PEER for *_, ratio in peers])
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlabel("time over allpet's (above 1: allpet is faster)")
        axes.tick_params(axis="y", labelsize=6.5)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        out.append(_save(figure, folder / PEERS))
    if fits:
        figure, panels = _panels(plt, len(fits))
        for axes, fit in zip(panels, fits, strict=False):
            _growth(axes, fit, fit.sizes, fit.seconds, "s")
            n = np.geomspace(min(fit.sizes), max(fit.sizes), 60)
            axes.plot(n, fit.at(n), color=LINE, linewidth=1, label=fit.time_text())
            axes.legend(fontsize=5.5, frameon=False)
        out.append(_save(figure, folder / GROWTH))
        weighed = [fit for fit in fits if fit.memory]
        figure, panels = _panels(plt, len(weighed))
        for axes, fit in zip(panels, weighed, strict=False):
            _growth(axes, fit, fit.memory_sizes, [mib / 1024 for mib in fit.memory], "peak, GiB")
            axes.axhline(LIMIT_GIB, color=PEER, linewidth=1, linestyle="--")
            axes.set_ylim(0.1, 5)
            known = fit.memory_line
            if known:
                n = np.geomspace(min(fit.memory_sizes), max(fit.memory_sizes), 60)
                axes.plot(n, (known[0] + known[1] * n) / 1024, color=LINE, linewidth=1, label=fit.memory_text())
                axes.legend(fontsize=5.5, frameon=False, loc="lower right")
        out.append(_save(figure, folder / MEMORY))
    return out


def _panels(plt: Any, count: int) -> tuple[Any, list[Any]]:
    lines = -(-count // COLUMNS)
    figure, panels = plt.subplots(lines, COLUMNS, figsize=(11, 2.5 * lines), layout="constrained", squeeze=False)
    flat = list(panels.flat)
    for axes in flat[count:]:
        axes.axis("off")
    return figure, flat


def _growth(axes: Any, fit: Fit, sizes: Any, values: Any, unit: str) -> None:
    axes.plot(sizes, values, "o", color=INK, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.set_title(fit.name, fontsize=7)
    axes.set_xlabel(fit.axis, fontsize=6.5)
    axes.set_ylabel(unit, fontsize=6.5)
    axes.tick_params(which="both", labelsize=6)
    axes.grid(alpha=0.3)


def _save(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path
