"""What the tests of the cluster run in workers: rows with a note of who made what, pieces, and a build to be killed."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import build_support as support
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.build import build_store

BEAM = ParallelBeam(support.VIEWS, support.BINS, 4.0)


def make_noted(first: int, stop: int, log: str, pause_s: float = 0.0) -> dict[str, np.ndarray]:
    """Rows of :func:`build_support.make`; a file in `log` tells who made which block, another when it was begun."""
    Path(log, f"{first}.{os.getpid()}.begun").touch()
    rows = support.make(first, stop, pause_s=pause_s)
    Path(log, f"{first}.{os.getpid()}.made").touch()
    return rows


def make_failing(first: int, stop: int, how: str) -> dict[str, np.ndarray]:
    """Rows, but from sample 8 on an error: "ours", or one that nobody foresaw."""
    if first >= 8:
        raise AllpetError("a.zarr: is wrong; make it right") if how == "ours" else RuntimeError("two\nlines")
    return support.make(first, stop)


def build_noted(
    path: Any, log: Path, scheduler: str | None = None, pause_s: float = 0.0, n: int = 40, block: int = 4
) -> int:
    """A store of `n` samples, with notes."""
    making = partial(make_noted, log=str(log), pause_s=pause_s)
    return build_store(path, n, BEAM, support.ATTRIBUTES, making, 1, block, resume_key={}, scheduler=scheduler)


def square(x: int, log: str, pause_s: float = 0.0) -> dict[str, Any]:
    """A piece; it leaves a file."""
    Path(log, f"{x}.{time.monotonic_ns()}").touch()
    time.sleep(pause_s)
    if x < 0:
        raise AllpetError(f"x is {x}; it must not be negative")
    return {"square": x * x, "process": os.getpid()}


if __name__ == "__main__":
    build_noted(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], pause_s=0.3)
