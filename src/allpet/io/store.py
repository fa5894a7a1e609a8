"""The dataset store: one zarr v3 group, one array per kind of data, one row per sample; see ``docs/store.md``.

Arrays are those of :func:`allpet.scan.simulate.simulate` (or a user's own under the same names). They are mapped:
nothing is read before it is asked for. Attribute `samples` counts the samples, and is written last; rows beyond it,
left by an :func:`append_store` that was killed, are not seen. :mod:`allpet.io.build` makes stores in parallel.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allpet.errors import AllpetError
from allpet.io.mapped import Index, Store, open_store
from allpet.io.place import check_target, hidden, locked, move_files, put_file, put_folder
from allpet.io.schema import (
    ACQUISITION,
    BLOCK,
    PROMPT,
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
from allpet.scan.units import COUNTS

if TYPE_CHECKING:
    import torch

__all__ = ["Store", "append_store", "open_store", "read_store", "write_store"]

_ALIKE = ("geometry", "units", "prompt", "acquisition", "labels", "split", "frame_start_s", "frame_duration_s")
_PER_SAMPLE = ("injected_mbq", "weight_kg", "start_s", "duration_s", "fwhm_mm")


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
        scratch = hidden(target, f"{os.getpid()}.part")
        try:
            scratch.mkdir()
            _write_rows(dataset.arrays, scratch, 0, BLOCK)
            put_file(group_json(attributes), scratch / "zarr.json", scratch)
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
            _write_rows(dataset.arrays, scratch, start, store.block, head)
            move_files(scratch, target)  # data first, then the arrays' shapes
            put_file(group_json(attributes), target / "zarr.json", scratch)  # and last the number of samples
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return int(attributes["samples"])


def read_store(path: str | os.PathLike[str], index: Index | None = None) -> Scan:
    """What the scanner measured: `observed` if the store has it, else `sinogram`, as a scan.

    The factors belong to the data returned: background, randoms and counts per unit are scaled to its dose fraction
    (randoms by its square where attribute `thinning` is "activity"); without `background` it is the sum of `randoms`
    and `scatter`. Duration and injected activity stay those of the full dose. Numbers that the samples differ in are
    None.

    Parameters
    ----------
    index : a sample number, a slice or a list of them; all by default.

    Raises
    ------
    AllpetError : as :func:`open_store` and :meth:`Store.rows`.
    """
    store = open_store(path)
    name = "observed" if "observed" in store else "sinogram"
    unit = str(store.attributes["units"].get(name, store.unit))
    known: dict[str, Any] = {key: store.prompt.get(key) for key in PROMPT}
    known["header"] = dict(store.attributes.get("header", {}))
    known |= {key: value for key, value in store.attributes.get("acquisition", {}).items() if key in ACQUISITION}
    known |= {key: _common(store.rows(key, index)) for key in _PER_SAMPLE if key in store}
    if unit == COUNTS:
        known |= _factors(store, index, dose=name == "observed")
    data = store.rows(name, index)
    return Scan(_tensor(data), store.beam, unit=unit, **known)


def _factors(store: Store, index: Index | None, dose: bool) -> dict[str, Any]:
    """Factors, calibration and dose fraction of the chosen samples."""
    out: dict[str, Any] = {}
    fraction = store.rows("dose_fraction", index) if dose and "dose_fraction" in store else None
    share = np.float32(1.0) if fraction is None else fraction
    for name in ("attenuation", "normalisation", "delayeds"):
        if name in store:
            out[name] = _tensor(store.rows(name, index))
    out |= {name: _tensor(values) for name, values in _background(store, index, np.reshape(share, (-1, 1, 1))).items()}
    if "counts_per_unit" in store:
        out["counts_per_unit"] = store.rows("counts_per_unit", index) * share
    if fraction is not None:
        out["dose_fraction"] = _common(fraction)
    return out


def _background(store: Store, index: Index | None, share: np.ndarray) -> dict[str, np.ndarray]:
    """Randoms, and randoms + scatter, at a share of the full dose; of these what the store knows."""
    full = {name: store.rows(name, index) for name in ("background", "randoms", "scatter") if name in store}
    randoms = full.get("randoms", np.float32(0))
    if "background" not in full and "scatter" in full:
        full["background"] = full["scatter"] + randoms
    fewer = share if store.attributes.get("thinning") == "activity" else np.ones_like(share)
    out = {"randoms": randoms * (share * fewer)} if "randoms" in full else {}
    if "background" in full:
        out["background"] = full["background"] * share - randoms * (share * (1 - fewer))
    return out


def _tensor(values: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(values.astype(np.float32))


def _common(values: np.ndarray) -> float | None:
    return float(values[0]) if len(values) and np.ptp(values) == 0 else None


def _checked(dataset: Dataset, target: Path, command: str | None) -> dict[str, Any]:
    """The attributes of a store of this data set, after all that can be wrong with it has been looked for."""
    check_rows(target, dataset.arrays, dataset.beam, len(dataset))
    attributes = dataset.attributes if command is None else {**dataset.attributes, "command": command}
    check_frames(target, {name: values.shape[1:] for name, values in dataset.arrays.items()}, attributes)
    return describe(target, attributes, dataset.beam, len(dataset))


def _write_rows(
    arrays: Mapping[str, np.ndarray], folder: Path, first: int, block: int, head: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write the files of samples `first` (a multiple of `block`) and on: those of `head`, then those of `arrays`."""
    for name, values in arrays.items():
        before = np.empty((0, *values.shape[1:]), values.dtype) if head is None else head[name]
        stop = first + len(before) + len(values)
        for number, start, end in blocks(first, stop, block):
            old = before[start - first : end - first]
            skip = first + len(before)
            rows = np.concatenate([old, values[max(start - skip, 0) : max(end - skip, 0)]])
            put_file(encode(rows, block), folder / name / file_key(values.ndim, number), folder)
        put_file(array_json(values.dtype, values.shape[1:], stop, block), folder / name / "zarr.json", folder)


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
        for place in (store.path / name / "c").iterdir():
            if int(place.name) >= -(-store.samples // store.block):
                shutil.rmtree(place) if place.is_dir() else place.unlink()


def _grown(store: Store, added: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The store's attributes with samples added to it."""
    kept = ("seed", "version", "command", "provenance")
    entry = {"first": store.samples, "samples": count, **{name: added[name] for name in kept if name in added}}
    old = store.attributes
    return {**old, "samples": store.samples + count, "appended": [*old.get("appended", []), entry]}
