"""How time and peak memory grow: each job of :mod:`jobs` at several sizes, its memory in a fresh process of its own.

:mod:`report` fits ``seconds = a + b * n`` to what grows with a count, and a power of the size to what grows with a
side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jobs import JOBS, MEASURED

CASES = [(name, size) for name, job in JOBS.items() for size in job.sizes]


@pytest.mark.parametrize("name, size", CASES)
def time_job(clock: Any, tiny: bool, name: str, size: int) -> None:
    """Time in this process, memory in another (not of the second of four sizes, to save time)."""
    job = JOBS[name]
    if tiny and size != job.sizes[0]:
        pytest.skip("not timed")
    size = job.tiny if tiny else size
    work = job.build(size, tiny)
    weighed = name == next(iter(JOBS)) if tiny else size != job.sizes[1] or len(job.sizes) < 4
    memory = _memory(name, size, tiny) if weighed else {}
    clock(work, name, count=1, unit="call", seconds=1.5, least=2, axis=job.axis, n=size, power=job.power, **memory)


@pytest.mark.parametrize("name", MEASURED)
def time_measured(clock: Any, tiny: bool, name: str) -> None:
    """What a user of a clinical scanner meets."""
    if tiny or "ALLPET_DATA" not in os.environ:
        pytest.skip("needs $ALLPET_DATA")
    work = MEASURED[name].build(1, tiny)
    clock(work, name, unit="scan", seconds=0, least=1, axis="scans", n=1, power=False, **_memory(name, 1, tiny))


def _memory(name: str, size: int, tiny: bool) -> dict[str, float]:
    words = [sys.executable, Path(__file__).with_name("jobs.py"), name, str(size), *(["--tiny"] if tiny else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
