"""Simulated scans: body, uptake, projections, background and counts of a low-dose scan, 128 x 128, a scan. In one
process without start-up (template, matrices), and into a store with a process a core, start-up included. No peer:
packages that follow photons (GATE, SimSET) do another, far more expensive thing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from people import SMALL

from allpet.scan.plan import REGIONS
from allpet.scan.simulate import make_plan, make_rows, simulate_store


def _options(tiny: bool, region: str) -> dict[str, Any]:
    return dict(task="low-dose", seed=0, region=region) | (SMALL if tiny else {})


@pytest.mark.parametrize("background", ["simulated", "quick"])
@pytest.mark.parametrize("region", REGIONS)
def time_scans(clock: Any, tiny: bool, region: str, background: str) -> None:
    """Scans of one region, always others."""
    if tiny and (region, background) != ("pelvis", "quick"):
        pytest.skip("not timed")
    plan = make_plan(background=background, **_options(tiny, region))
    n, at = (2 if tiny else 16), [0]

    def work() -> None:
        make_rows(plan, at[0], at[0] + n)
        at[0] += n

    clock(
        work,
        f"simulate a low-dose scan, {region}",
        "allpet" if background == "simulated" else "allpet, quick background",
        n,
        "scan",
        seconds=1.5,
    )


def time_store(clock: Any, tiny: bool, tmp_path: Path) -> None:
    """256 scans into a store with a process a core."""
    n = 2 if tiny else 256
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    number = [0]

    def work() -> None:
        number[0] += 1
        simulate_store(tmp_path / f"{number[0]}.zarr", n, 1 if tiny else cores, **_options(tiny, "chest"))

    clock(work, f"simulate {n} scans of a chest into a store", count=n, unit="scan", least=1, warm=int, processes=cores)
