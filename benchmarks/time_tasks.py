"""The five tasks with the shipped weights, a plane of a simulated scan of 128 x 128, with 16 draws behind the standard
deviation (the default) and without. An OSEM image of the same scan, 4 iterations of 8 subsets, is the yardstick: no
other package does these tasks on sinograms."""

from __future__ import annotations

from typing import Any

import pytest
from people import APPLY_OPTIONS, TASK_OPTIONS, shipped, task_scan

from allpet.recon import reconstruct

PLANES = 8


@pytest.mark.parametrize("samples", [None, 0])
@pytest.mark.parametrize("task", TASK_OPTIONS)
def time_task(clock: Any, tiny: bool, task: str, samples: int | None) -> None:
    """A whole `apply`: result and its standard deviation."""
    if tiny and samples == 0:
        pytest.skip("not timed")
    planes = 1 if tiny else PLANES
    model, scan = shipped(), task_scan(task, planes, tiny)
    draws = 2 if tiny else samples
    options = dict(APPLY_OPTIONS.get(task, {})) | ({} if draws is None else {"samples": draws})

    def work() -> None:
        result = model.apply(task, scan, seed=0, **options)
        assert len(result.expected) == planes and (result.std is None) == (samples == 0)

    clock(
        work,
        f"task {task}, a plane",
        "allpet" if samples is None else "allpet, no standard deviation",
        planes,
        "plane",
    )


@pytest.mark.parametrize("task", TASK_OPTIONS)
def time_osem(clock: Any, tiny: bool, task: str) -> None:
    """The yardstick."""
    if tiny and task != "low-dose":
        pytest.skip("not timed")
    planes = 1 if tiny else PLANES
    scan = task_scan(task, planes, tiny)
    clock(
        lambda: reconstruct(scan, "osem", iterations=4),
        f"task {task}, a plane",
        "OSEM 4 x 8 of the same scan (yardstick)",
        planes,
        "plane",
    )
