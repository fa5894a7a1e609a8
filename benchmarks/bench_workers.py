"""Time of simulate, generate and apply with one and with two Dask workers, and what a million sinograms would take.

    python benchmarks/bench_workers.py --json benchmarks/results/workers.json [--quick] [--only apply] [--seconds 45]

Every worker is one process on one thread; scheduler and workers run on this machine, which should do nothing else. The
start of a cluster (processes, imports, weights, tables) is reported apart: each worker has made a block before the
clock runs. Runs with one and two workers, long and short, take turns, so that a slow minute of the machine hits all.

The cost model is ``seconds = fixed + n * per_sample / workers``; fixed and per_sample are fitted to all runs with least
squares of relative errors, and carried on to a million.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

MILLION = 10**6
AT_WORKERS = (1, 2, 16, 64, 256)
Store = Callable[[Path, int, str], Any]


@dataclass(frozen=True)
class Work:
    """A command: `store` writes n samples through a scheduler; `block` makes some in a worker, to warm it up; `unit` is
    what n is a multiple of."""

    name: str
    command: str
    store: Store
    block: Callable[[int, int], Any]
    unit: int = 8


PAIRS: dict[str, Any] = dict(tracer="FDG", region="brain", task="low-dose", dose_fraction=0.1)


def simulate_work(folder: Path, quick: bool) -> Work:
    """Pairs for the task low-dose."""
    from allpet.scan.simulate import make_plan, make_rows, simulate_store

    def store(out: Path, n: int, scheduler: str) -> None:
        simulate_store(out, n, None, scheduler=scheduler, **PAIRS)

    command = "allpet simulate OUT.zarr --task low-dose --dose-fraction 0.1 -n N"
    return Work("simulate", command, store, partial(make_rows, make_plan(**PAIRS)))


def generate_work(folder: Path, quick: bool) -> Work:
    """Sinograms for a prompt; quick with one step."""
    from allpet.dist import generated
    from allpet.dist.model import Weights
    from allpet.model import AllPET

    model, draw = AllPET.from_pretrained(), generated.Draw("18F-FDG brain", 0, options={"steps": 1} if quick else {})

    def store(out: Path, n: int, scheduler: str) -> None:
        generated.generate_stores(out, model, draw, n, {}, None, scheduler)

    command = "allpet generate --prompt '18F-FDG brain' -n N --out OUT.zarr"
    return Work("generate", command, store, partial(generated.make_rows, Weights.of(model), draw))


def apply_work(folder: Path, quick: bool) -> Work:
    """The task low-dose; quick without draws."""
    from allpet.dist import applied
    from allpet.dist.model import Weights
    from allpet.io.mapped import open_store
    from allpet.io.samples import common_facts
    from allpet.model import AllPET
    from allpet.scan.simulate import simulate_store

    model, options = AllPET.from_pretrained(), {"samples": 0} if quick else {}
    source = folder / "in.zarr"
    simulate_store(source, 16, 1, **PAIRS)
    found = open_store(source)
    work = applied.Work(source, applied.identity_of(found), "low-dose", 0, common_facts(found, len(found)), options)

    def store(out: Path, n: int, scheduler: str) -> None:
        applied.apply_stores(folder / f"in-{n}.zarr", out, "low-dose", model, 0, options, {}, None, scheduler)

    command = "allpet apply low-dose IN.zarr --out OUT.zarr"
    return Work("apply", command, store, partial(applied.make_rows, Weights.of(model), work))


WORKS = {"simulate": simulate_work, "generate": generate_work, "apply": apply_work}


def lengthened(folder: Path, n: int) -> None:
    """The input of n samples: those of ``in.zarr`` again and again (not timed)."""
    from allpet.io.build import block_for, build_store
    from allpet.io.mapped import open_store
    from allpet.io.schema import OWN

    target, store = folder / f"in-{n}.zarr", open_store(folder / "in.zarr")
    if target.exists():
        return
    rows = {name: store.rows(name) for name in store}

    def make(first: int, stop: int) -> dict[str, np.ndarray]:
        numbers = np.arange(first, stop) % len(store)
        return {name: values[numbers] for name, values in rows.items()}

    facts = {name: value for name, value in store.attributes.items() if name not in (*OWN, "sha256")}
    build_store(target, n, store.beam, facts, make, 1, block_for(n, 8), resume_key={})


@contextmanager
def cluster(workers: int, warm: Sequence[Callable[[int, int], Any]]) -> Iterator[tuple[str, float]]:
    """Workers that have made a block of everything: the scheduler's address, and the seconds that it took."""
    from allpet.dist.cluster import _call, connected, versions

    start = time.perf_counter()
    with connected("local", workers) as client:
        client.wait_for_workers(workers)
        everybody = list(client.scheduler_info(n_workers=-1)["workers"])
        for block in warm:
            calls = [
                client.submit(_call, versions(), _forget, (block,), workers=[one], pure=False) for one in everybody
            ]
            client.gather(calls)
        yield client.scheduler.address, time.perf_counter() - start


def _forget(block: Callable[[int, int], Any]) -> None:
    """Make a block, and give nothing back."""
    block(0, 8)


def timed(work: Work, folder: Path, n: int, scheduler: str) -> tuple[float, int]:
    """Seconds for n samples, and bytes of the stores that came about."""
    if work.name == "apply":
        lengthened(folder, n)
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    start = time.perf_counter()
    work.store(out / "out.zarr", n, scheduler)
    seconds = time.perf_counter() - start
    return seconds, sum(file.stat().st_size for file in out.rglob("*") if file.is_file())


def samples_for(work: Work, folder: Path, seconds: float, scheduler: str) -> int:
    """How many samples one worker makes in about so many seconds."""
    few = 4 * work.unit
    each = timed(work, folder, few, scheduler)[0] / few
    return max(work.unit, round(seconds / each / (2 * work.unit)) * 2 * work.unit)


def fitted(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The cost model of the runs: fixed seconds, seconds a sample, and the largest relative error."""
    seconds = np.array([run["seconds"] for run in runs])
    share = np.array([run["n"] / run["workers"] for run in runs])
    columns = np.stack([np.ones_like(share), share], axis=1)
    fixed, each = np.linalg.lstsq(columns / seconds[:, None], np.ones_like(seconds), rcond=None)[0]
    if min(fixed, each) < 0:  # too few runs, or a disturbed machine: all of it by the sample
        fixed, each = 0.0, float(((share / seconds).sum()) / ((share / seconds) ** 2).sum())
    worst = float(np.abs((fixed + each * share) / seconds - 1).max())
    return {"fixed_s": float(fixed), "per_sample_s": float(each), "worst_relative_error": worst}


def million(fit: dict[str, float], bytes_per_sample: float) -> dict[str, Any]:
    """What a million samples would take by the model."""
    each = MILLION * fit["per_sample_s"]
    hours = {str(workers): (fit["fixed_s"] + each / workers) / 3600 for workers in AT_WORKERS}
    return {"core_hours": each / 3600, "hours_by_workers": hours, "store_gb": MILLION * bytes_per_sample / 1e9}


def measure(folder: Path, seconds: float, repeats: int, quick: bool, only: Sequence[str]) -> dict[str, Any]:
    """All runs of the commands named, one command after the other, its runs in turns."""
    todo = [WORKS[name](folder, quick) for name in WORKS if name in only]
    warm = [] if quick else [work.block for work in todo]
    with cluster(1, warm) as (one, start_1), cluster(2, warm) as (two, start_2):
        address = {1: one, 2: two}
        out: dict[str, Any] = {"startup_s": {"1": start_1, "2": start_2}, "commands": {}}
        for work in todo:
            n = 2 * work.unit if quick else samples_for(work, folder, seconds, one)
            short = n if quick else max(work.unit, n // 4 // work.unit * work.unit)
            runs: list[dict[str, Any]] = []
            for k in range(repeats):
                turns = [(workers, size) for size in dict.fromkeys((n, short)) for workers in (1, 2)]
                for workers, size in turns if k % 2 == 0 else turns[::-1]:
                    took, size_bytes = timed(work, folder, size, address[workers])
                    runs.append({"workers": workers, "n": size, "seconds": took, "bytes": size_bytes})
                    print(f"{work.name}: {size} samples, {workers} workers: {took:.1f} s", flush=True)
            out["commands"][work.name] = summary(work, n, runs)
    return out


def summary(work: Work, n: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A command's runs, and what follows from them."""
    whole = {
        workers: [run["seconds"] for run in runs if (run["n"], run["workers"]) == (n, workers)] for workers in (1, 2)
    }
    median = {workers: statistics.median(seconds) for workers, seconds in whole.items()}
    each = next(run["bytes"] for run in runs if run["n"] == n) / n
    fit = fitted(runs)
    return {
        "command": work.command,
        "n": n,
        "seconds": {str(workers): value for workers, value in median.items()},
        "speedup": median[1] / median[2],
        "bytes_per_sample": each,
        "fit": fit,
        "million": million(fit, each),
        "runs": runs,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--quick", action="store_true", help="two blocks of each, once: to see that it works")
    parser.add_argument("--seconds", type=float, default=45.0, help="of the longest run with one worker")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS), help="commands to measure")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        repeats = 1 if given.quick else given.repeats
        found = measure(Path(folder), given.seconds, repeats, given.quick, given.only)
    from allpet.provenance import provenance

    command = f"python benchmarks/bench_workers.py --json {given.json.name}" + (" --quick" if given.quick else "")
    machine = {"cores": os.cpu_count(), "load_before": load, "threads_per_worker": 1}
    kept = {"provenance": provenance(command), "machine": machine, "quick": given.quick, **found}
    given.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    for name, facts in found["commands"].items():
        far = facts["million"]
        print(
            f"{name}: {facts['speedup']:.2f} times as fast with two workers; a million: {far['core_hours']:.0f} core "
            f"hours, {far['store_gb']:.0f} GB"
        )


if __name__ == "__main__":
    main()
