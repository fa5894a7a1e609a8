"""One build: what a worker has to know of it, and how a worker makes a block of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.hashes import digest
from allpet.io.place import beside, hidden, put_file
from allpet.io.remote import Place, Remote
from allpet.io.schema import check_rows, encode, file_key

Rows = Mapping[str, np.ndarray]
Make = Callable[[int, int], Rows | tuple[Rows, Mapping[str, Any]]]
Marker = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What a worker has to know: the target, the number of samples, and how to make some of them.

    Parameters
    ----------
    make : ``make(first, stop)`` gives rows by the array's name; those of a store beside the target as ``-std/sinogram``
        (to lie in ``NAME-std.zarr``). It may give a pair: the rows, and a dict of facts in plain JSON for the marker.
    sides : suffixes of the stores beside the target.
    """

    target: Place
    n: int
    beam: ParallelBeam
    make: Make
    block: int
    sides: tuple[str, ...] = ()

    @property
    def folder(self) -> Place:
        """Where the bookkeeping lies, and the unfinished stores where they can be moved in the end."""
        return hidden(self.target, "building")

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.n // self.block)

    @property
    def outputs(self) -> dict[str, Place]:
        """The stores that come about, by suffix: those beside the target first, which itself is ``""``."""
        return {**{side: beside(self.target, side) for side in self.sides}, "": self.target}

    def store(self, side: str = "") -> Place:
        """Where the files of a store lie until it is finished: in place already where nothing can be moved."""
        return self.outputs[side] if isinstance(self.target, Remote) else self.folder / f"store{side}"

    def file(self, key: str) -> Place:
        """Where a file of a marker lies: ``sinogram/c/0/0/0`` or ``-std/sinogram/c/0/0/0``."""
        side, rest = split(key)
        return self.store(side).joinpath(*rest.split("/"))

    def span(self, number: int) -> tuple[int, int]:
        """First and (excluded) last sample of a block."""
        return number * self.block, min((number + 1) * self.block, self.n)

    def put(self, data: bytes, path: Place) -> None:
        """Write one file, whole."""
        put_file(data, path, self.folder / "part")


def split(name: str) -> tuple[str, str]:
    """Suffix of the store, and the rest: ``-std/sinogram`` -> ``-std``, ``sinogram``."""
    side, slash, rest = name.partition("/")
    return (side, rest) if slash and side.startswith("-") else ("", name)


def arrays_of(names: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What stands under array names, store by store: suffix -> name -> value."""
    out: dict[str, dict[str, Any]] = {}
    for full, value in names.items():
        side, name = split(full)
        out.setdefault(side, {})[name] = value
    return out


def make_block(job: Job, number: int) -> Marker:
    """Make one block: its files first, then its marker, which is returned."""
    first, stop = job.span(number)
    made = job.make(first, stop)
    given, facts = made if isinstance(made, tuple) else (made, {})
    rows = {name: np.ascontiguousarray(values) for name, values in given.items()}
    for side, own in arrays_of(rows).items():
        check_rows(job.outputs[side], own, job.beam, stop - first)
    arrays, files = {}, {}
    for name, values in sorted(rows.items()):
        data, key = encode(values, job.block), f"{name}/{file_key(values.ndim, number)}"
        job.put(data, job.file(key))
        arrays[name] = {"dtype": values.dtype.newbyteorder("=").name, "row": list(values.shape[1:])}
        files[key] = {"bytes": len(data), "sha256": digest(data)}
    marker = {"first": first, "stop": stop, "arrays": arrays, "files": files, **({"facts": facts} if facts else {})}
    job.put(json.dumps(marker).encode(), job.folder / "done" / f"{number}.json")
    return marker


def make_block_elsewhere(job: Job, number: int) -> Marker:
    """:func:`make_block` in a worker that may see other files than the process that asks, or come late.

    Raises
    ------
    AllpetError : the place where the store is built is not to be seen from here.
    """
    if not (job.folder / "key.json").is_file():
        raise AllpetError(
            f"{job.target}: a worker does not see {job.folder}; workers on other machines need a shared file system or "
            "an object store"
        )
    return finished_block(job, number) or make_block(job, number)


def finished_block(job: Job, number: int) -> Marker | None:
    """The block's marker if there is one and its files are as it says."""
    marker = read_json(job.folder / "done" / f"{number}.json")
    return None if marker is None or not all(_is_there(job, *one) for one in marker["files"].items()) else dict(marker)


def finished_blocks(job: Job) -> dict[int, Marker]:
    """The markers of all finished blocks by number.

    Where files are far away their sizes are compared, with one listing; else also their hashes.
    """
    if not isinstance(job.folder, Remote):
        return {k: marker for k in range(job.blocks) if (marker := finished_block(job, k)) is not None}
    sizes = {side: job.store(side).sizes() for side in job.outputs}  # type: ignore[union-attr]
    done = job.folder / "done"
    out = {}
    for name, data in done.read_many(sorted(done.sizes())).items():
        marker = _parsed(data)
        if marker is not None and all(
            sizes[split(key)[0]].get(split(key)[1]) == facts["bytes"] for key, facts in marker["files"].items()
        ):
            out[int(name.removesuffix(".json"))] = marker
    return out


def _is_there(job: Job, key: str, facts: Mapping[str, Any]) -> bool:
    file = job.file(key)
    if isinstance(file, Remote):
        return file.size() == facts["bytes"]
    try:
        data = file.read_bytes()
    except OSError:
        return False
    return len(data) == facts["bytes"] and digest(data) == facts.get("sha256")


def read_json(path: Place) -> Any:
    """What a JSON file holds; None where there is none."""
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return None


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None
