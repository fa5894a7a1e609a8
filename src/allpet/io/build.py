"""Build large dataset stores in parallel: kill it at any moment, and the same call goes on where it was.

The samples are made in blocks; a block fills one file of every array. Beside the target, the folder ``.NAME.building``
holds ``store`` (the files), ``done`` (one marker for each finished block, with size and checksum of its files) and
``key.json`` (the options that define the content). Every file is moved into place whole, a marker after the files it
speaks of, and a block's bytes depend on nothing but the options; so a block that is made twice is the same block.

At a URL nothing can be moved: there the files lie in their places from the beginning, and a store exists once its
``zarr.json`` is written, which is last.

:func:`build_store` is the one entry for a store; its signature is stable. :func:`build_stores` makes several at once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from allpet import __version__
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.hashes import ARRAY, digest, list_of, sealed
from allpet.io.job import (
    Job,
    Make,
    Marker,
    arrays_of,
    finished_block,
    finished_blocks,
    make_block,
    make_block_elsewhere,
    read_json,
)
from allpet.io.place import check_target, locked, put_folder, remove
from allpet.io.processes import pool, single_threaded
from allpet.io.remote import Place, Remote, place_of
from allpet.io.schema import BLOCK, SCHEMA_VERSION, array_json, as_json, check_frames, describe, group_json


def build_store(
    path: str | os.PathLike[str] | Remote,
    n: int,
    beam: ParallelBeam,
    attributes: Mapping[str, Any],
    make: Make,
    workers: int | None = None,
    block: int = BLOCK,
    progress: bool = False,
    *,
    resume_key: Mapping[str, Any],
    scheduler: str | None = None,
) -> int:
    """Make `n` samples and write them as a dataset store; an older store of the same name is replaced at the end.

    The store does not depend on `workers`, nor on how often the call was interrupted and repeated; the samples do not
    depend on `block` either, which only says how many of them share a file. A script that uses several workers needs
    the usual ``if __name__ == "__main__":``.

    Parameters
    ----------
    path : folder or URL to make, by custom ending in ``.zarr``. n : number of samples. beam : their geometry.
    attributes : units, prompt and what else the store should state.
    make : ``make(first, stop)`` gives rows first to stop - 1 of every array, always the same; it must be picklable
        (a function of a module, or a :func:`functools.partial` of one).
    workers : processes; by default one for each core that may be used. With 1, all happens in this process.
        Libraries run on one thread in either case.
    block : samples per file, and per unit of work. progress : show a progress bar on stderr.
    resume_key : every option that the samples depend on. The version, `n`, `beam` and `block` are added.
    scheduler : of a Dask cluster whose workers make the samples, see :func:`allpet.dist.cluster.connected`.

    Returns
    -------
    number of samples in the store, `n`.

    Raises
    ------
    AllpetError : the path holds something else or is being written by another process; an unfinished store of other
        options lies there; arrays that do not fit; the disk is too small; a worker that keeps dying on one block.
    KeyboardInterrupt : on Ctrl-C; its message says how much is kept.
    """
    job = Job(place_of(path).absolute(), n, beam, make, block)
    build_stores(job, {"": attributes}, workers, progress, resume_key=resume_key, scheduler=scheduler)
    return n


def build_stores(
    job: Job,
    attributes: Mapping[str, Mapping[str, Any]],
    workers: int | None = None,
    progress: bool = False,
    *,
    resume_key: Mapping[str, Any],
    scheduler: str | None = None,
) -> list[Marker]:
    """As :func:`build_store`, for a store and those beside it whose samples are made together.

    Parameters
    ----------
    attributes : of each store by its suffix, ``""`` for the target.

    Returns
    -------
    the markers of all blocks in order; `facts` in them is what `make` gave besides rows.
    """
    for name, value in (("n", job.n), ("block", job.block)):
        _at_least_one(job.target, name, value)
    workers = _workers(job.target, workers, scheduler)
    outputs = job.outputs
    described = {side: describe(at, attributes[side], job.beam, job.n, job.block) for side, at in outputs.items()}
    if not isinstance(job.target, Remote):
        for target in outputs.values():
            check_target(target)
    with locked(job.target):
        if not _is_written(job, resume_key):
            _prepare(job, resume_key)
            _write(job, described, _make_all(job, workers, scheduler, progress, described))
        markers = [read_json(job.folder / "done" / f"{number}.json") or {} for number in range(job.blocks)]
        _put_in_place(job)
        remove(job.folder)
    return markers


def block_for(n: int, unit: int) -> int:
    """Samples of a block so that `n` of them make 32 blocks or more, or as many as there are units: a worker that is
    slow or lost costs little. A multiple of `unit` (samples that are made together), :data:`BLOCK` or its next multiple
    at most."""
    return unit * max(1, min(-(-BLOCK // unit), n // (32 * unit)))


def _at_least_one(path: Any, name: str, value: int) -> None:
    if value < 1:
        raise AllpetError(f"{path}: {name} is {value}; it must be at least 1")


def _workers(target: Place, workers: int | None, scheduler: str | None) -> int:
    """How many processes work."""
    if workers is not None:
        _at_least_one(target, "workers", workers)
    if isinstance(target, Remote) and target.in_this_process:
        if scheduler is not None:
            raise AllpetError(
                f"{target}: exists in this process only, workers cannot write to it; leave out --scheduler"
            )
        return 1
    return _default_workers() if workers is None else workers


def _default_workers() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(job: Job, resume_key: Mapping[str, Any]) -> dict[str, Any]:
    own = {"n": job.n, "block": job.block, **vars(job.beam), "version": __version__, "schema_version": SCHEMA_VERSION}
    return as_json(job.target, {**resume_key, **own})


def _is_written(job: Job, resume_key: Mapping[str, Any]) -> bool:
    """True if an earlier call was killed after it had written these very stores, perhaps in the middle of placing."""
    if read_json(job.folder / "key.json") != _key(job, resume_key):
        return False
    last = job.target / "zarr.json" if isinstance(job.target, Remote) else job.folder / "placing"
    return last.is_file()


def _prepare(job: Job, resume_key: Mapping[str, Any]) -> None:
    """Make the folder, or see that the one there belongs to these options."""
    new, old = _key(job, resume_key), read_json(job.folder / "key.json")
    if old is None:
        old = _begin(job, new)
    if old != new:
        names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        what = ", ".join(f"{name} {old.get(name)!r:.80} instead of {new.get(name)!r:.80}" for name in names)
        raise AllpetError(
            f"{job.target}: an unfinished store with {what} lies there; finish it with those options, "
            f"or delete {job.folder} to start again"
        )
    if not isinstance(job.folder, Remote):
        shutil.rmtree(job.folder / "part", ignore_errors=True)


def _begin(job: Job, key: dict[str, Any]) -> dict[str, Any]:
    """Make the folder with its key; the key that stands in it then."""
    data = json.dumps(key, indent=2).encode()
    if isinstance(job.folder, Remote):
        for target in job.outputs.values():
            check_target(target)
        if job.folder.sizes():
            raise AllpetError(f"{job.folder}: is not an unfinished store that can be resumed; delete it to start again")
        return key if (job.folder / "key.json").create(data) else read_json(job.folder / "key.json") or {}
    if job.folder.exists() and {path.name for path in job.folder.iterdir()} - {"part"}:
        raise AllpetError(f"{job.folder}: is not an unfinished store that can be resumed; delete it to start again")
    job.folder.mkdir(exist_ok=True)
    job.put(data, job.folder / "key.json")
    return key


def _make_all(
    job: Job, workers: int, scheduler: str | None, progress: bool, attributes: Mapping[str, Mapping[str, Any]]
) -> list[Marker]:
    """Make what is not there yet; the markers of all blocks in order."""
    with _bar(job, progress) as show:
        markers = finished_blocks(job)
        todo = [number for number in range(job.blocks) if number not in markers]
        kept = sum(marker["stop"] - marker["first"] for marker in markers.values())
        show(kept)
        workers = min(workers, len(todo))
        if scheduler is not None and todo:
            made = _in_cluster(job, todo, workers, scheduler)
        else:
            made = _in_processes(job, deque(todo), workers) if workers > 1 else _in_turn(job, todo)
        try:
            for marker in made:
                if not markers:
                    _check_frames(job, marker, attributes)
                _check_same(job, marker, next(iter(markers.values()), marker))
                markers[marker["first"] // job.block] = marker
                kept += marker["stop"] - marker["first"]
                show(kept)
                _check_space(job, marker, kept)
        except KeyboardInterrupt:
            made.close()  # ends the workers, so that what is counted stays so
            done: Any = job.folder / "done"
            ends = [job.span(int(path.stem)) for path in done.glob("*.json")]
            raise KeyboardInterrupt(
                f"{job.target}: interrupted, {sum(stop - first for first, stop in ends)} of {job.n} samples are kept; "
                "the same command goes on from there"
            ) from None
        finally:
            made.close()
    return [markers[number] for number in range(job.blocks)]


def _in_turn(job: Job, todo: list[int]) -> Generator[Marker, None, None]:
    """Make blocks in this process."""
    with single_threaded():
        for number in todo:
            yield make_block(job, number)


def _in_processes(job: Job, waiting: deque[int], workers: int) -> Generator[Marker, None, None]:
    """Make blocks in worker processes. If one dies, each block that was in work is tried once more, alone."""
    suspects: deque[int] = deque()
    while waiting or suspects:
        alone = bool(suspects)
        source, most = (suspects, 1) if alone else (waiting, workers + 1)  # one more, so that nobody has to wait
        running: dict[Future[Marker], int] = {}
        try:
            with pool(1 if alone else workers) as submit:
                while source or running:
                    while source and len(running) < most:
                        running[submit(make_block, job, source[0])] = source[0]
                        source.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        marker = future.result()
                        del running[future]
                        yield marker
        except BrokenProcessPool:
            for number in sorted(running.values()):
                finished = finished_block(job, number)
                if finished is not None:
                    yield finished
                elif alone:
                    first, stop = job.span(number)
                    raise AllpetError(
                        f"{job.target}: the process that makes samples {first} to {stop - 1} keeps dying (killed, out "
                        "of memory, or a script without `if __name__ == '__main__':`); what is finished is kept, use "
                        "the same command with fewer workers to go on"
                    ) from None
                else:
                    suspects.append(number)


def _in_cluster(job: Job, todo: list[int], workers: int, scheduler: str) -> Generator[Marker, None, None]:
    """Make blocks in the workers of a Dask cluster."""
    from allpet.dist.cluster import results_of

    spans = [job.span(number) for number in todo]
    names = [f"{job.target}: samples {first} to {stop - 1}" for first, stop in spans]
    calls = [(job, number) for number in todo]
    for _, marker in results_of(make_block_elsewhere, calls, names, scheduler, workers):
        yield marker


def _check_frames(job: Job, marker: Marker, attributes: Mapping[str, Mapping[str, Any]]) -> None:
    for side, arrays in arrays_of(marker["arrays"]).items():
        shapes = {name: tuple(facts["row"]) for name, facts in arrays.items()}
        check_frames(job.outputs[side], shapes, attributes[side])


def _check_same(job: Job, marker: Marker, first: Marker) -> None:
    if marker["arrays"] != first["arrays"]:
        what = f"samples {marker['first']} to {marker['stop'] - 1} have arrays {marker['arrays']}"
        raise AllpetError(f"{job.target}: {what}, samples {first['first']} and on {first['arrays']}; all must be alike")


def _check_space(job: Job, marker: Marker, kept: int) -> None:
    """Stop early where the disk is clearly too small for what is left, judged by the block just made."""
    if isinstance(job.folder, Remote):
        return
    size = sum(facts["bytes"] for facts in marker["files"].values()) / (marker["stop"] - marker["first"])
    need, free = (job.n - kept) * size, shutil.disk_usage(job.folder).free
    if 0.8 * need > free:  # blocks differ in size; 20 % is chosen to be on the safe side
        raise AllpetError(
            f"{job.target}: about {need / 1e9:.1f} GB more are needed and {free / 1e9:.1f} GB are free; "
            "make room, then the same command goes on"
        )


def _write(job: Job, attributes: Mapping[str, Mapping[str, Any]], markers: list[Marker]) -> None:
    """Write the metadata of all stores; the target's own last."""
    arrays = arrays_of(markers[0]["arrays"])
    hashes: dict[str, dict[str, dict[str, str]]] = {side: {name: {} for name in own} for side, own in arrays.items()}
    for marker in markers:
        for side, files in arrays_of(marker["files"]).items():
            for key, facts in files.items():
                name, place = key.split("/", 1)
                hashes[side][name][place] = facts["sha256"]
    for side in job.outputs:
        store = job.store(side)
        for name, facts in arrays[side].items():
            data = array_json(np.dtype(facts["dtype"]), tuple(facts["row"]), job.n, job.block)
            hashes[side][name][ARRAY] = digest(data)
            job.put(data, store / name / ARRAY)
            title, lines = list_of(hashes[side][name])
            job.put(lines, store / name / title)
        job.put(group_json(sealed(attributes[side], hashes[side])), store / ARRAY)
    if not isinstance(job.folder, Remote):
        job.put(b"", job.folder / "placing")


def _put_in_place(job: Job) -> None:
    """Move finished stores to where they belong, the target last."""
    if isinstance(job.folder, Remote):
        return
    for side, target in job.outputs.items():
        store = job.folder / job.store(side).name
        if store.exists():
            put_folder(store, Path(str(target)), job.folder / f"old{side}")


@contextmanager
def _bar(job: Job, progress: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; gives a function that is told how many samples are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task(f"building {job.target.name}", total=job.n)
        yield lambda done: bar.update(task, completed=done)
