"""How everything here is timed, and what is kept of it in ``results/*.json``.

A row is a job (what is computed, at which size) by a tool; the ratio of a tool is its time for one unit of work over
that of the job's ``allpet`` row. A peer is compared with ours before it is timed. No host, user or path is kept.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

OURS = "allpet"
PACKAGES = (
    "allpet",
    "torch",
    "numpy",
    "scipy",
    "astra-toolbox",
    "scikit-image",
    "diffusers",
    "denoising-diffusion-pytorch",
    "nibabel",
    "pydicom",
    "petsird",
    "zarr",
)
KEPT = ("min", "median", "mean", "stddev", "iqr", "rounds")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tiny", action="store_true", help="tiny sizes, one round: shows that it runs, not how fast")


@pytest.fixture(scope="session")
def tiny(pytestconfig: pytest.Config) -> bool:
    """Whether sizes are tiny."""
    return bool(pytestconfig.getoption("--tiny"))


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """So many threads of torch's for a while; None leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _once(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class Clock:
    """Times one row: a call or two to warm up, then as many rounds as fit the time."""

    def __init__(self, benchmark: Any, tiny: bool) -> None:
        self.benchmark, self.tiny = benchmark, tiny

    def __call__(
        self,
        work: Callable[[], Any],
        job: str,
        tool: str = OURS,
        count: int = 1,
        unit: str = "image",
        threads: int | None = None,
        seconds: float = 0.8,
        least: int = 3,
        warm: Callable[[], Any] | None = None,
        **facts: Any,
    ) -> None:
        """Time `work`, which does `count` of `unit`.

        Parameters
        ----------
        threads : torch's; default those of the run. seconds : to fill with rounds, of which there are `least` or more
            (up to 500). warm : what is called once before, where `work` itself would take too long. facts : kept too.
        """
        with on_threads(threads):
            rounds = 1
            if not self.tiny:
                taken = _once(warm or work)
                if taken < 1 and not warm:  # the first call may have made a matrix, or a plan
                    taken = _once(work)
                rounds = least if warm else min(500, max(least, math.ceil(seconds / max(taken, 1e-6))))
            self.benchmark.group = job
            row = dict(job=job, tool=tool, count=count, unit=unit, threads=torch.get_num_threads())
            self.benchmark.extra_info.update(row | facts)
            self.benchmark.pedantic(work, rounds=rounds, iterations=1)


@pytest.fixture
def clock(benchmark: Any, tiny: bool) -> Clock:
    """See :class:`Clock`."""
    return Clock(benchmark, tiny)


# -- what is kept ------------------------------------------------------------------------------------------------------


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    """What the times hold for."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    from allpet.precision import resolve

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": resolve("auto", "cpu"),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
        "tiny": bool(config.getoption("--tiny")),
    }


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """Keep the summary of each row, and of the checkout its commit alone."""
    commit = output_json.pop("commit_info", {})
    output_json["commit"] = {"id": commit.get("id"), "dirty": commit.get("dirty")}
    output_json["benchmarks"] = [
        {
            "name": row["name"],
            "group": Path(row["fullname"].split("::")[0]).stem.removeprefix("time_"),
            **row["extra_info"],
            "stats": {name: _short(row["stats"][name]) for name in KEPT},
        }
        for row in output_json["benchmarks"]
    ]


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.5g}")


def _processor() -> str:
    """The processor's name, without counting on a system command."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value.strip() for name, value in known.items()}
    name = facts.get("model name", platform.machine())
    if "model" in facts and not any(digit.isdigit() for digit in name):
        name += f" (family {facts.get('cpu family')}, model {facts['model']})"
    return name
