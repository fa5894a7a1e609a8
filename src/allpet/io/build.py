"""Build a large dataset store in parallel: kill it at any moment, and the same call goes on where it was.

The samples are made in blocks; a block fills one file of every array. Beside the target, the folder ``.NAME.building``
holds ``store`` (the files), ``done`` (one marker for each finished block, with size and checksum of its files) and
``key.json`` (the options that define the content). Every file is moved into place whole, a marker after the files it
speaks of, and a block's bytes depend on nothing but the options; so a block that is made twice is the same block.

:func:`build_store` is the one entry; its signature is stable.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allpet import __version__
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.place import check_target, hidden, locked, put_file, put_folder
from allpet.io.processes import pool, single_threaded
from allpet.io.schema import (
    BLOCK,
    SCHEMA_VERSION,
    array_json,
    as_json,
    check_frames,
    check_rows,
    describe,
    encode,
    file_key,
    group_json,
)

Make = Callable[[int, int], Mapping[str, np.ndarray]]
Marker = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What a worker has to know: the target, the number of samples, and how to make some of them."""

    target: Path
    n: int
    beam: ParallelBeam
    make: Make
    block: int

    @property
    def folder(self) -> Path:
        """Where the unfinished store and its bookkeeping lie."""
        return hidden(self.target, "building")

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.n // self.block)

    def span(self, number: int) -> tuple[int, int]:
        """First and (excluded) last sample of a block."""
        return number * self.block, min((number + 1) * self.block, self.n)

    def put(self, data: bytes, *parts: str) -> None:
        """Write one file of the folder, whole."""
        put_file(data, self.folder.joinpath(*parts), self.folder / "part")


def build_store(
    path: str | os.PathLike[str],
    n: int,
    beam: ParallelBeam,
    attributes: Mapping[str, Any],
    make: Make,
    workers: int | None = None,
    block: int = BLOCK,
    progress: bool = False,
    *,
    resume_key: Mapping[str, Any],
) -> int:
    """Make `n` samples and write them as a dataset store; an older store of the same name is replaced at the end.

    The store does not depend on `workers`, nor on how often the call was interrupted and repeated; the samples do not
    depend on `block` either, which only says how many of them share a file. A script that uses several workers needs
    the usual ``if __name__ == "__main__":``.

    Parameters
    ----------
    path : folder to make, by custom ending in ``.zarr``. n : number of samples. beam : geometry of the sinograms.
    attributes : units, prompt and what else the store should state.
    make : ``make(first, stop)`` gives rows first to stop - 1 of every array, always the same; it must be picklable
        (a function of a module, or a :func:`functools.partial` of one).
    workers : processes; by default one for each core that may be used. With 1, all happens in this process.
        Libraries run on one thread in either case.
    block : samples per file, and per unit of work. progress : show a progress bar on stderr.
    resume_key : every option that the samples depend on. The version, `n`, `beam` and `block` are added.

    Returns
    -------
    number of samples in the store, `n`.

    Raises
    ------
    AllpetError : the path holds something else or is being written by another process; an unfinished store of other
        options lies there; arrays that do not fit; the disk is too small; a worker that keeps dying on one block.
    KeyboardInterrupt : on Ctrl-C; its message says how much is kept.
    """
    job = Job(Path(path).absolute(), n, beam, make, block)
    workers = _default_workers() if workers is None else workers
    for name, value in (("n", n), ("workers", workers), ("block", block)):
        if value < 1:
            raise AllpetError(f"{path}: {name} is {value}; it must be at least 1")
    described = describe(job.target, attributes, beam, n, block)
    check_target(job.target)
    with locked(job.target):
        if not _is_placed(job, resume_key):
            _prepare(job, resume_key)
            _finish(job, described, _make_all(job, workers, progress, described))
        shutil.rmtree(job.folder)
    return n


def _default_workers() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(job: Job, resume_key: Mapping[str, Any]) -> dict[str, Any]:
    own = {"n": job.n, "block": job.block, **vars(job.beam), "version": __version__, "schema_version": SCHEMA_VERSION}
    return as_json(job.target, {**resume_key, **own})


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _is_placed(job: Job, resume_key: Mapping[str, Any]) -> bool:
    """True if an earlier call was killed after it had put this very store in place."""
    same = _read_json(job.folder / "key.json") == _key(job, resume_key)
    return same and (job.folder / "placing").exists() and not (job.folder / "store").exists() and job.target.exists()


def _prepare(job: Job, resume_key: Mapping[str, Any]) -> None:
    """Make the folder, or see that the one there belongs to these options."""
    new, old = _key(job, resume_key), _read_json(job.folder / "key.json")
    if old is None:
        if job.folder.exists() and {path.name for path in job.folder.iterdir()} - {"part"}:
            raise AllpetError(f"{job.folder}: is not an unfinished store that can be resumed; delete it to start again")
        job.folder.mkdir(exist_ok=True)
        job.put(json.dumps(new, indent=2).encode(), "key.json")
    elif old != new:
        names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        what = ", ".join(f"{name} {old.get(name)!r:.80} instead of {new.get(name)!r:.80}" for name in names)
        raise AllpetError(
            f"{job.target}: an unfinished store with {what} lies there; finish it with those options, "
            f"or delete {job.folder} to start again"
        )
    shutil.rmtree(job.folder / "part", ignore_errors=True)


def _make_all(job: Job, workers: int, progress: bool, attributes: Mapping[str, Any]) -> list[Marker]:
    """Make what is not there yet; the markers of all blocks in order."""
    with _bar(job, progress) as show:
        markers = {number: marker for number in range(job.blocks) if (marker := _finished(job, number)) is not None}
        todo = [number for number in range(job.blocks) if number not in markers]
        kept = sum(marker["stop"] - marker["first"] for marker in markers.values())
        show(kept)
        workers = min(workers, len(todo))
        made = _in_processes(job, deque(todo), workers) if workers > 1 else _in_turn(job, todo)
        try:
            for marker in made:
                if not markers:
                    check_frames(job.target, _row_shapes(marker), attributes)
                _check_same(job, marker, next(iter(markers.values()), marker))
                markers[marker["first"] // job.block] = marker
                kept += marker["stop"] - marker["first"]
                show(kept)
                _check_space(job, marker, kept)
        except KeyboardInterrupt:
            made.close()  # ends the workers, so that what is counted stays so
            ends = [job.span(int(path.stem)) for path in (job.folder / "done").glob("*.json")]
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
                finished = _finished(job, number)
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


def make_block(job: Job, number: int) -> Marker:
    """Make one block: its files first, then its marker, which is returned."""
    first, stop = job.span(number)
    rows = {name: np.ascontiguousarray(values) for name, values in job.make(first, stop).items()}
    check_rows(job.target, rows, job.beam, stop - first)
    arrays, files = {}, {}
    for name, values in sorted(rows.items()):
        data, key = encode(values, job.block), f"{name}/{file_key(values.ndim, number)}"
        job.put(data, "store", key)
        arrays[name] = {"dtype": values.dtype.newbyteorder("=").name, "row": list(values.shape[1:])}
        files[key] = {"bytes": len(data), "crc32": zlib.crc32(data)}
    marker = {"first": first, "stop": stop, "arrays": arrays, "files": files}
    job.put(json.dumps(marker).encode(), "done", f"{number}.json")
    return marker


def _finished(job: Job, number: int) -> Marker | None:
    """The block's marker if there is one and its files are as it says."""
    marker = _read_json(job.folder / "done" / f"{number}.json")
    if marker is None:
        return None
    for key, facts in marker["files"].items():
        try:
            data = (job.folder / "store" / key).read_bytes()
        except OSError:
            return None
        if len(data) != facts["bytes"] or zlib.crc32(data) != facts["crc32"]:
            return None
    return dict(marker)


def _row_shapes(marker: Marker) -> dict[str, tuple[int, ...]]:
    return {name: tuple(facts["row"]) for name, facts in marker["arrays"].items()}


def _check_same(job: Job, marker: Marker, first: Marker) -> None:
    if marker["arrays"] != first["arrays"]:
        what = f"samples {marker['first']} to {marker['stop'] - 1} have arrays {marker['arrays']}"
        raise AllpetError(f"{job.target}: {what}, samples {first['first']} and on {first['arrays']}; all must be alike")


def _check_space(job: Job, marker: Marker, kept: int) -> None:
    """Stop early where the disk is clearly too small for what is left, judged by the block just made."""
    size = sum(facts["bytes"] for facts in marker["files"].values()) / (marker["stop"] - marker["first"])
    need, free = (job.n - kept) * size, shutil.disk_usage(job.folder).free
    if 0.8 * need > free:  # blocks differ in size; 20 % is chosen to be on the safe side
        raise AllpetError(
            f"{job.target}: about {need / 1e9:.1f} GB more are needed and {free / 1e9:.1f} GB are free; "
            "make room, then the same command goes on"
        )


def _finish(job: Job, attributes: Mapping[str, Any], markers: list[Marker]) -> None:
    """Write the metadata, and put the store in place."""
    for name, facts in markers[0]["arrays"].items():
        data = array_json(np.dtype(facts["dtype"]), tuple(facts["row"]), job.n, job.block)
        job.put(data, "store", name, "zarr.json")
    job.put(group_json(attributes), "store", "zarr.json")
    job.put(b"", "placing")
    put_folder(job.folder / "store", job.target, job.folder / "old")


@contextmanager
def _bar(job: Job, progress: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; gives a function that is told how many samples are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task(f"building {job.target.name}", total=job.n)
        yield lambda done: bar.update(task, completed=done)
