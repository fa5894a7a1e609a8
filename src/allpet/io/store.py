"""The dataset store: one zarr v3 group, one array per kind of data, one row per sample; see ``docs/store.md``.

Arrays are those of :func:`allpet.scan.simulate.simulate` (or a user's own under the same names). They are mapped:
nothing is read before it is asked for. Attribute `samples` counts the samples, and is written last; rows beyond it,
left by an :func:`append_store` that was killed, are not seen. :mod:`allpet.io.build` makes stores in parallel.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.io.hashes import ARRAY, KEY, clear_others, digest, list_of, sealed
from allpet.io.mapped import Index, Store, open_store
from allpet.io.place import check_target, hidden, locked, move_files, put_file, put_folder
from allpet.io.samples import as_scan
from allpet.io.schema import (
    BLOCK,
    SCHEMA_VERSION,
    array_json,
    blocks,
    check_frames,
    check_rows,
    describe,
    encode,
    file_key,
    group_json,
)
from allpet.scan.core import Scan
from allpet.scan.dataset import Dataset

__all__ = ["Store", "append_store", "open_store", "read_store", "write_store"]

_ALIKE = ("geometry", "units", "prompt", "acquisition", "labels", "split", "frame_start_s", "frame_duration_s")


def write_store(dataset: Dataset, path: str | os.PathLike[str], command: str | None = None) -> None:
    """Write a data set as a store; an older store of the same name is replaced, nothing half-written stays.

    Parameters
    ----------
    path : folder to make, by custom ending in ``.zarr``. command : recorded if given.

    Raises
    ------
    AllpetError : the path holds something else or is being written, an array is not numeric or finite, or has a
        wrong shape, frames have no times, or an attribute is no JSON.
    """
    target = Path(path)
    check_target(target)
    attributes = _checked(dataset, target, command)
    with locked(target):
        for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        scratch = hidden(target, f"{os.getpid()}.part")
        try:
            scratch.mkdir()
            files = _write_rows(dataset.arrays, scratch, 0, BLOCK)
            _put_lists(files, scratch, scratch)
            put_file(group_json(sealed(attributes, files)), scratch / "zarr.json", scratch)
            put_folder(scratch, target, hidden(target, "old"))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def append_store(dataset: Dataset, path: str | os.PathLike[str], command: str | None = None) -> int:
    """Add samples to a store; returns how many it has then. Killed at any moment it leaves the old samples valid.

    Attribute `appended` lists what was added: first sample, number of samples, seed, version, provenance.

    Parameters
    ----------
    dataset : the same arrays, geometry, units and prompt as the store's. path : the store. command : recorded if given.

    Raises
    ------
    AllpetError : as :func:`open_store` and :func:`write_store`; the data set differs from the store in kind, or the
        store is of version 1.
    """
    target = Path(path)
    open_store(target)
    with locked(target):
        store = open_store(target)
        if store.version != SCHEMA_VERSION:
            raise AllpetError(
                f"{target}: is a store of version {store.version}, which cannot grow; write it again first"
            )
        attributes = _checked(dataset, target, command)
        _check_alike(store, dataset, attributes)
        attributes = _grown(store, attributes, len(dataset))
        _trim(store)
        scratch = hidden(target, "append")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            start = store.samples - store.samples % store.block
            head = {name: store.rows(name, slice(start, store.samples)) for name in store}
            scratch.mkdir()
            files = _write_rows(dataset.arrays, scratch, start, store.block, head)
            if store.hashes is not None:
                files = {name: store.hashes.files(name) | new for name, new in files.items()}
                _put_lists(files, target, scratch)  # first what the files may be from now on
                attributes = sealed(attributes, files)
            move_files(scratch, target)  # then data, then the arrays' shapes
            put_file(group_json(attributes), target / "zarr.json", scratch)  # and last the number of samples
            clear_others(target, files if store.hashes is not None else {})
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return int(attributes["samples"])


def read_store(path: str | os.PathLike[str], index: Index | None = None) -> Scan:
    """What the scanner measured in some samples, all by default, as a scan; see :func:`allpet.io.samples.as_scan`.

    Raises
    ------
    AllpetError : as :func:`open_store` and :meth:`Store.rows`.
    """
    return as_scan(open_store(path), index)


def _checked(dataset: Dataset, target: Path, command: str | None) -> dict[str, Any]:
    """The attributes of a store of this data set, after all that can be wrong with it has been looked for."""
    check_rows(target, dataset.arrays, dataset.beam, len(dataset))
    attributes = dataset.attributes if command is None else {**dataset.attributes, "command": command}
    check_frames(target, {name: values.shape[1:] for name, values in dataset.arrays.items()}, attributes)
    return describe(target, attributes, dataset.beam, len(dataset))


def _write_rows(
    arrays: Mapping[str, np.ndarray], folder: Path, first: int, block: int, head: Mapping[str, np.ndarray] | None = None
) -> dict[str, dict[str, str]]:
    """Write the files of samples `first` (a multiple of `block`) and on: those of `head`, then those of `arrays`.

    Returns
    -------
    array name -> path in its folder -> hash.
    """
    out: dict[str, dict[str, str]] = {name: {} for name in arrays}

    def put(data: bytes, name: str, path: str) -> None:
        put_file(data, folder / name / path, folder)
        out[name][path] = digest(data)

    for name, values in arrays.items():
        before = np.empty((0, *values.shape[1:]), values.dtype) if head is None else head[name]
        stop = first + len(before) + len(values)
        for number, start, end in blocks(first, stop, block):
            old = before[start - first : end - first]
            skip = first + len(before)
            rows = np.concatenate([old, values[max(start - skip, 0) : max(end - skip, 0)]])
            put(encode(rows, block), name, file_key(values.ndim, number))
        put(array_json(values.dtype, values.shape[1:], stop, block), name, ARRAY)
    return out


def _put_lists(files: Mapping[str, Mapping[str, str]], folder: Path, scratch: Path) -> None:
    """Write the lists of hashes of all arrays."""
    for name, own in files.items():
        title, data = list_of(own)
        put_file(data, folder / name / title, scratch)


def _check_alike(store: Store, dataset: Dataset, attributes: Mapping[str, Any]) -> None:
    """Raise an AllpetError unless the samples can lie in one store."""
    old: dict[str, Any] = {"arrays": sorted(store)}
    new: dict[str, Any] = {"arrays": sorted(dataset)}
    for name in set(store) & set(dataset):
        new[name] = (dataset[name].dtype.name, dataset[name].shape[1:])
        old[name] = (store[name].dtype.name, store[name].shape[1:])
    for name in _ALIKE:
        old[name], new[name] = store.attributes.get(name), attributes.get(name)
    for name, value in old.items():
        if new[name] != value:
            what = f"{name} {new[name]!s:.200}, the store {value!s:.200}"
            raise AllpetError(f"{store.path}: the new samples have {what}; only samples alike can be appended")


def _trim(store: Store) -> None:
    """Take away files beyond the last sample, which an append left behind when it was killed."""
    for name in store:
        for place in Path(str(store.path), name, "c").iterdir():
            if int(place.name) >= -(-store.samples // store.block):
                shutil.rmtree(place) if place.is_dir() else place.unlink()


def _grown(store: Store, added: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The store's attributes with samples added to it."""
    kept = ("seed", "version", "command", "provenance")
    entry = {"first": store.samples, "samples": count, **{name: added[name] for name in kept if name in added}}
    old = {name: value for name, value in store.attributes.items() if name != KEY}
    return {**old, "samples": store.samples + count, "appended": [*old.get("appended", []), entry]}
