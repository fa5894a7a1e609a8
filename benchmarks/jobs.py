"""Jobs whose cost is followed as they grow, and the peak memory of one of them in a process of its own.

    python benchmarks/jobs.py NAME SIZE [--tiny]

prints a line of JSON: resident memory in MiB before the job (imports, weights, input) and at its peak.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Work = Callable[[], Any]


@dataclass(frozen=True)
class Job:
    """A job and the sizes it is done at.

    Parameters
    ----------
    axis : what grows. sizes : its values; tiny : one that takes no time. build : ``(size, tiny) -> work``.
    power : whether cost is a power of the size (a side's length), else it is linear in it (a count).
    """

    axis: str
    sizes: tuple[int, ...]
    tiny: int
    build: Callable[[int, bool], Work]
    power: bool = False


def _operator(size: int, tiny: bool) -> Any:
    """Projector of a square image with 1.4 views and bins a pixel of its side."""
    from allpet.geometry import ImageGrid, ParallelBeam
    from allpet.project import Projector

    return Projector(ParallelBeam(round(1.4 * size), round(1.44 * size), 1.0), ImageGrid(size, 1.0))


def _project(size: int, count: int) -> Work:
    import torch
    from peers import phantom

    A = _operator(size, False)
    images = torch.from_numpy(phantom(size)).expand(count, -1, -1).contiguous()
    return lambda: A.adjoint(A(images))


def _osem(size: int, count: int) -> Work:
    import torch
    from peers import phantom

    from allpet.recon import osem

    A = _operator(size, False)
    mean = A(torch.from_numpy(phantom(size))).expand(count, -1, -1)
    counts = torch.poisson(mean * (5e5 * count / mean.sum()), generator=torch.Generator().manual_seed(0))
    return lambda: osem(counts, A, 4, 8)


def _generate(n: int, tiny: bool, bins: int | None = None) -> Work:
    from people import shipped

    model = shipped()
    options = dict(steps=1) if tiny else {}
    return lambda: model.generate("FDG brain", n, views=bins, bins=bins, seed=0, **options)


def _apply(task: str, planes: int, tiny: bool) -> Work:
    from people import APPLY_OPTIONS, shipped, task_scan

    model, scan = shipped(), task_scan(task, planes, tiny)
    options = APPLY_OPTIONS.get(task, {}) | (dict(samples=0) if tiny else {})
    return lambda: model.apply(task, scan, seed=0, **options)


def _step(batch: int, tiny: bool) -> Work:
    from people import recipe_named, training_run

    return training_run(recipe_named("base", tiny, n=32, batch=batch)).one_step


def _simulate(n: int, tiny: bool) -> Work:
    from people import SMALL

    from allpet.scan.simulate import make_plan, make_rows

    plan = make_plan(task="low-dose", seed=0, **(SMALL if tiny else {"region": "chest"}))
    make_rows(plan, 10_000, 10_001)
    return lambda: make_rows(plan, 0, n)


def _measured(path: Path) -> Any:
    from allpet.io import read

    return read(path)


def _list_mode() -> Path:
    return Path(os.environ["ALLPET_DATA"]) / "mmr_fdg_listmode" / "small_listmode_file.l"


def _measured_low_dose(_: int, tiny: bool) -> Work:
    from people import shipped

    scan, model = _measured(_list_mode()), shipped()
    return lambda: model.apply("low-dose", scan, seed=0, dose_fraction=0.05, samples=0)


def _measured_osem(_: int, tiny: bool) -> Work:
    from allpet.recon import reconstruct

    scan = _measured(_list_mode())
    return lambda: reconstruct(scan, "osem", iterations=2, size=128)


JOBS: dict[str, Job] = {
    "project and back-project: size": Job(
        "pixels along a side", (32, 64, 128, 256), 16, lambda n, _: _project(n, 1), power=True
    ),
    "project and back-project: batch": Job(
        "images of 128 x 128 at once", (1, 4, 16, 64), 2, lambda n, t: _project(16 if t else 128, n)
    ),
    "OSEM, 4 iterations of 8 subsets: size": Job(
        "pixels along a side", (32, 64, 128, 256), 16, lambda n, _: _osem(n, 1), power=True
    ),
    "OSEM, 4 iterations of 8 subsets: planes": Job(
        "planes of 128 x 128", (1, 4, 16, 64), 2, lambda n, t: _osem(16 if t else 128, n)
    ),
    "generate: count": Job("sinograms of 128 x 128", (8, 16, 32, 64), 1, _generate),
    "generate: size": Job(
        "bins (and views) of 8 sinograms", (64, 128, 256), 32, lambda n, t: _generate(1 if t else 8, t, n), power=True
    ),
    "task low-dose: planes": Job("planes of 128 x 128", (1, 8, 32, 64), 1, partial(_apply, "low-dose")),
    "task convert: planes": Job("planes of 128 x 128", (1, 8, 32), 1, partial(_apply, "convert")),
    "training step, recipe base: batch": Job("samples of 128 x 128", (8, 16, 32, 64), 2, _step),
    "simulate low-dose scans: count": Job("scans of 128 x 128", (4, 8, 16, 32), 1, _simulate),
}
"""Jobs by name."""
MEASURED: dict[str, Job] = {
    "low-dose of a measured scan (mMR, 127 planes of 252 x 344)": Job("scans", (1,), 1, _measured_low_dose),
    "OSEM, 2 x 8, of the same scan": Job("scans", (1,), 1, _measured_osem),
}
"""Jobs that need $ALLPET_DATA; their memory is measured, as it is what a user meets."""


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB.

    On Linux the kernel's mark for this program alone: what `getrusage` says may be that of the process it was started
    from.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        from allpet.train.watch import peak_mib as known

        return known()


def forget_peak() -> float:
    """Start the mark again at what is resident now, so that making the input does not count; that in MiB.

    Where the kernel has no such mark the peak of the whole process stands.
    """
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        pass
    return peak_mib()


def main() -> None:
    """Do one job once and print its memory."""
    parser = argparse.ArgumentParser(description="Peak memory of one job.")
    parser.add_argument("name", choices=[*JOBS, *MEASURED])
    parser.add_argument("size", type=int)
    parser.add_argument("--tiny", action="store_true")
    chosen = parser.parse_args()
    work = (JOBS | MEASURED)[chosen.name].build(chosen.size, chosen.tiny)
    before = forget_peak()
    work()
    print(json.dumps(dict(before_mib=round(before, 1), peak_mib=round(peak_mib(), 1))))


if __name__ == "__main__":
    main()
