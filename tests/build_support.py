"""What the tests of the store and its builder run in processes of their own: rows to build from, and kills.

Run as a script it forks a child for each kill, so that all share one start of Python.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

VIEWS, BINS = 8, 12
ATTRIBUTES = {"units": {"sinogram": "counts"}, "prompt": {"tracer": "FDG"}}


def make(first: int, stop: int, seed: int = 0, pause_s: float = 0.0) -> dict[str, np.ndarray]:
    """Rows that depend on the seed and the sample alone."""
    time.sleep(pause_s)
    draws = [np.random.default_rng([seed, k]).poisson(4.0, (VIEWS, BINS)) for k in range(first, stop)]
    subject = np.arange(first, stop, dtype=np.int32) // 4
    return {"sinogram": np.stack(draws).astype(np.float32), "subject": subject}


def make_dying(first: int, stop: int, folder: str) -> dict[str, np.ndarray]:
    """Kills the process for each file in the folder named by the first sample: "once" goes before, "always" stays."""
    once, always = Path(folder, f"{first}.once"), Path(folder, f"{first}.always")
    if once.exists() or always.exists():
        once.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return make(first, stop)


def make_threads(first: int, stop: int) -> dict[str, np.ndarray]:
    """Rows that also say how many threads torch runs on here."""
    import torch

    return {**make(first, stop), "threads": np.full(stop - first, torch.get_num_threads())}


def build(path: Path, n: int, block: int, workers: int = 1, making: Callable[..., Any] = make, **options: Any) -> int:
    """`build_store` of these rows with these options of `make` as the key."""
    from allpet.geometry import ParallelBeam
    from allpet.io.build import build_store

    beam, how = ParallelBeam(VIEWS, BINS, 4.0), partial(making, **options)
    return build_store(path, n, beam, ATTRIBUTES, how, workers, block, resume_key={"seed": 0, **options})


def in_child(work: Callable[[], Any], kill_after_s: float | None = None) -> int:
    """Run in a forked child, killed after a while if wanted; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_builds(folder: Path, times: int, n: int, block: int) -> dict[str, int]:
    """Kill `times` builds at random moments, resume each; how many were killed, and blocks found finished.

    A build that ended before its moment is done again with another one.
    """
    start = time.monotonic()
    assert in_child(partial(build, folder / "timed.zarr", n, block, pause_s=0.01)) == 0
    longest, rng = time.monotonic() - start, np.random.default_rng(0)
    killed = kept = 0
    for _ in range(5 * times):
        if killed == times:
            break
        path = folder / f"{killed}.zarr"
        work = partial(build, path, n, block, pause_s=0.01)
        if in_child(work, longest * rng.uniform(0.0, 0.8)) != -signal.SIGKILL:
            shutil.rmtree(path)
            continue
        kept += len(list(folder.glob(f".{killed}.zarr.building/done/*.json")))
        assert in_child(work) == 0
        killed += 1
    return {"killed": killed, "kept": kept}


def kill_appends(base: Path, added: Any, steps: int) -> list[int]:
    """For k = 0, 1, ...: append to a copy k.zarr of the store, killed just before its k-th move of a file."""
    codes = []
    for k in range(steps):
        path = base.with_name(f"{k}.zarr")
        shutil.copytree(base, path)
        codes.append(in_child(partial(_append_killed, path, added, k)))
    return codes


def _append_killed(path: Path, added: Any, step: int) -> None:
    from allpet.io.store import append_store

    replace, seen = os.replace, [0]

    def replace_or_die(source: Any, target: Any) -> None:
        if not str(target).startswith(str(path.with_name(f".{path.name}.append"))):
            if seen[0] == step:
                os.kill(os.getpid(), signal.SIGKILL)
            seen[0] += 1
        replace(source, target)

    os.replace = replace_or_die
    append_store(added, path)


def build_and_iterate(folder: Path, samples: int) -> dict[str, float]:
    """Write a store of 1 MiB a sample and iterate it; its size and the extra peak memory in MB, and the sum read."""
    import resource

    from allpet.geometry import ParallelBeam
    from allpet.io.build import build_store
    from allpet.io.store import open_store

    def sparse(first: int, stop: int) -> dict[str, np.ndarray]:
        rows = np.zeros((stop - first, 512, 512), np.float32)
        rows[:, 0, 0] = np.arange(first, stop)
        return {"sinogram": rows}

    def peak_mb() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)

    before, total = peak_mb(), 0.0
    build_store(folder / "big.zarr", samples, ParallelBeam(512, 512, 1.0), ATTRIBUTES, sparse, 1, 4, resume_key={})
    store = open_store(folder / "big.zarr")
    for rows in store.batches(4):
        total += float(rows["sinogram"].sum())
    return {"size": store["sinogram"].nbytes / 1e6, "extra": peak_mb() - before, "total": total}


if __name__ == "__main__":
    for module in ("allpet.io.build", "allpet.io.store", "zarr.codecs", "rich.progress", "threadpoolctl"):
        with suppress(ImportError):
            import_module(module)  # once, for all children

    what, where = sys.argv[1], Path(sys.argv[2])
    if what == "kill-builds":
        print(json.dumps(kill_builds(where, times=20, n=17, block=3)))
    elif what == "kill-appends":
        from allpet.geometry import ParallelBeam
        from allpet.scan.dataset import Dataset

        new = Dataset(make(10, 23), ParallelBeam(VIEWS, BINS, 4.0), ATTRIBUTES)
        print(json.dumps(kill_appends(where, new, steps=int(sys.argv[3]))))
    elif what == "memory":
        print(json.dumps(build_and_iterate(where, 320)))
    elif what == "build-slowly":
        build(where, 40, 4, int(sys.argv[3]), pause_s=0.2)
