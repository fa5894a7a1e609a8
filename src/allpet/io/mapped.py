"""A dataset store that is open for reading: arrays are mapped, nothing is read before it is asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.hashes import KEY, Hashes, hashes_of
from allpet.io.remote import Place, Remote, place_of
from allpet.io.samples import Index
from allpet.io.schema import BLOCK, OWN, READABLE, SCHEMA, SCHEMA_VERSION, check_array, file_key
from allpet.scan.dataset import Dataset

if TYPE_CHECKING:
    import zarr


@dataclass(frozen=True)
class Store:
    """An open dataset store; arrays are read when they are indexed, as in ``store["image"][3]`` or ``store.image[3]``.

    Parameters
    ----------
    path : the store's folder or URL. group : the zarr group. beam : geometry of the sinograms.
    samples : number of samples when it was opened. version : of the schema. block : samples per file.
    hashes : what its files have to be, compared when a file is first read; None where nobody wrote them.
    """

    path: Place
    group: zarr.Group
    beam: ParallelBeam
    samples: int
    version: int = SCHEMA_VERSION
    block: int = BLOCK
    hashes: Hashes | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.samples

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def __iter__(self) -> Iterator[str]:
        return iter(_names(self.path, self.group))

    def __getitem__(self, name: str) -> zarr.Array:
        if not isinstance(name, str):
            raise AllpetError(f"{self.path}: {name!r} is no array's name; samples are read by rows(name, {name!r})")
        array = _array(self.path, self.group, name)
        return array if array.shape[0] == self.samples else _cut(array, self.samples)

    def __getattr__(self, name: str) -> zarr.Array:
        if name.startswith("_") or name not in self.group:
            raise AttributeError(f"Store has no array or attribute {name!r}")
        return self[name]

    @property
    def attributes(self) -> dict[str, Any]:
        """Units, prompt, seed, version and what else was written."""
        return dict(self.group.attrs)

    @property
    def unit(self) -> str:
        """Unit of `sinogram`."""
        return str(self.attributes["units"]["sinogram"])

    @property
    def prompt(self) -> dict[str, Any]:
        """Tracer, isotope, region and task of the samples."""
        return dict(self.attributes.get("prompt", {}))

    def rows(self, name: str, index: Index | None = None) -> np.ndarray:
        """Some rows of an array (all by default) in memory; nothing else is read.

        Raises
        ------
        AllpetError : no such array or row, a file that is missing or damaged, or a value that is not finite.
        """
        try:
            chosen = index if index is None or isinstance(index, slice) else np.asarray(index)
            numbers = np.atleast_1d(np.arange(self.samples)[slice(None) if chosen is None else chosen])
        except IndexError:
            last = self.samples - 1
            raise AllpetError(f"{self.path}: there is no sample {index}; the store has samples 0 to {last}") from None
        array = self[name]
        self._check_files(array, name, numbers)
        try:
            values = _read(array, numbers)
        except Exception as error:  # zarr and its codecs raise many kinds
            raise self._damaged(array, name, numbers) from error
        if self.hashes is not None:
            self.hashes.check(name, self._paths(array, numbers))
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise AllpetError(
                f"{self.path}: array {name!r} holds NaN, infinite or missing values; write the store again"
            )
        return values

    def batches(self, size: int, names: Sequence[str] | None = None) -> Iterator[dict[str, np.ndarray]]:
        """All samples in order, `size` at a time (the last batch may be smaller), in the memory of one batch.

        Parameters
        ----------
        size : samples at a time; a multiple of `block` reads every file once. names : arrays to read; all by default.

        Raises
        ------
        AllpetError : a size below 1; as :meth:`rows`.
        """
        if size < 1:
            raise AllpetError(f"batch size is {size}; it must be at least 1")
        names = list(self) if names is None else names
        for first in range(0, self.samples, size):
            yield {name: self.rows(name, slice(first, first + size)) for name in names}

    def verify(self) -> int:
        """Read everything once against its checksums; returns the number of samples.

        Raises
        ------
        AllpetError : as :meth:`rows`, for the first thing that is wrong.
        """
        for name in self:
            for _ in self.batches(self.block, [name]):
                pass
        return self.samples

    def verify_hashes(self) -> int | None:
        """Compare every file with its hash, without unpacking it; the number of files, None for a store without hashes.

        Raises
        ------
        AllpetError : a file is missing or is not what was written; the message names it.
        """
        if self.hashes is None:
            return None
        everything = np.arange(0, self.samples, self.block)
        afresh = Hashes(self.path, self.hashes.lists)
        return 1 + sum(afresh.check(name, self._paths(self[name], everything)) for name in self)

    def load(self) -> Dataset:
        """The whole store in memory."""
        attributes = {name: value for name, value in self.attributes.items() if name not in (*OWN, KEY)}
        return Dataset({name: self.rows(name) for name in self}, self.beam, attributes)

    def _file(self, array: zarr.Array, name: str, sample: int) -> Place:
        return self.path.joinpath(name, file_key(array.ndim, sample // self.block))

    def _paths(self, array: zarr.Array, numbers: np.ndarray) -> list[str]:
        """The files that hold samples, in the array's folder."""
        return [file_key(array.ndim, int(number)) for number in np.unique(numbers // self.block)]

    def _check_files(self, array: zarr.Array, name: str, numbers: np.ndarray) -> None:
        """A missing or empty file is an error; zarr reads it as the fill value. (Version 1 left out zeros.)"""
        if self.version == 1:
            return
        for number in np.unique(numbers // self.block):
            first, last = number * self.block, min((number + 1) * self.block, self.samples) - 1
            file = self._file(array, name, first)
            if not (file.size() if isinstance(file, Remote) else file.is_file() and file.stat().st_size):
                raise AllpetError(
                    f"{file}: is missing or empty, with {name!r} of samples {first} to {last}; write the store again"
                )

    def _damaged(self, array: zarr.Array, name: str, numbers: np.ndarray) -> AllpetError:
        """An error that names the first of the samples that cannot be read."""
        for sample in numbers:
            try:
                _read(array, np.asarray([sample]))
            except Exception:
                where = f"{self._file(array, name, int(sample)) if self.version > 1 else self.path}: array {name!r}"
                return AllpetError(f"{where}, sample {sample} is damaged (its checksum fails); write the store again")
        return AllpetError(f"{self.path}: array {name!r} cannot be read; try again")


def open_store(path: str | os.PathLike[str] | Remote, hashes: bool = True) -> Store:
    """Open a store (of version 1 or 2) without reading its arrays.

    Parameters
    ----------
    path : a folder, or a URL such as ``s3://bucket/NAME.zarr``.
    hashes : compare files with their SHA-256 when they are read, where the store has them; without, what is left of a
        store that was changed or damaged can still be read.

    Raises
    ------
    AllpetError : there is no store, it is of another schema, its attributes were changed, or an array is missing or has
        a wrong shape.
    """
    import zarr

    folder = place_of(path)
    if not ((folder / "zarr.json").is_file() if isinstance(folder, Remote) else folder.is_dir()):
        there = not isinstance(folder, Remote) and folder.exists()
        what = "is a file; a dataset store is a folder" if there else "there is no such dataset store"
        raise AllpetError(f"{folder}: {what}")
    try:
        group = zarr.open_group(folder.zarr_store() if isinstance(folder, Remote) else folder, mode="r")
        attributes: dict[str, Any] = dict(group.attrs)
    except Exception as error:  # zarr raises many kinds for a damaged group
        raise AllpetError(f"{folder}: is not a readable zarr group; an allpet dataset store is one") from error
    version = attributes.get("schema_version")
    if attributes.get("schema") != SCHEMA:
        raise AllpetError(f"{folder}: is a zarr group but not an allpet dataset store (no attribute schema={SCHEMA!r})")
    if version not in READABLE:
        raise AllpetError(f"{folder}: has schema version {version}; this program reads versions {READABLE}")
    try:
        geometry = attributes["geometry"]
        beam = ParallelBeam(int(geometry["views"]), int(geometry["bins"]), float(geometry["bin_mm"]))
        str(attributes["units"]["sinogram"])
        block = BLOCK if version == 1 else int(attributes["block"])
        samples = _array(folder, group, "sinogram").shape[0] if version == 1 else int(attributes["samples"])
        for name in ("prompt", "acquisition", "header"):
            dict(attributes.get(name, {}))
        if not 1 <= min(block, samples) <= max(block, samples) < 1 << 48:
            raise ValueError(f"samples {samples}, block {block}")
    except AllpetError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise AllpetError(
            f"{folder}: geometry or units are missing or damaged ({error}); write the store again"
        ) from None
    store = Store(folder, group, beam, samples, version, block)
    for name in ("sinogram", *_names(folder, group)):  # not *store: its length is that of the samples
        array = store[name]
        check_array(folder, name, array.shape, array.dtype, beam, samples)
    return replace(store, hashes=hashes_of(folder, attributes)) if hashes else store


def _array(path: Place, group: zarr.Group, name: str) -> zarr.Array:
    import zarr

    try:
        array = group.get(name)
    except Exception as error:  # zarr raises many kinds for a damaged array
        reason = type(error).__name__
        raise AllpetError(f"{path}: array {name!r} is damaged ({reason}); write the store again") from error
    if not isinstance(array, zarr.Array):
        has = ", ".join(_names(path, group))
        raise AllpetError(f"{path}: there is no array {name!r}; the store has {has}")
    return array


def _names(path: Place, group: zarr.Group) -> list[str]:
    """Names of the arrays in order; what else lies in the folder is passed over."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sorted(group.array_keys())
    except Exception as error:  # zarr raises many kinds for a damaged array
        raise AllpetError(f"{path}: an array is damaged ({type(error).__name__}); write the store again") from error


def _cut(array: zarr.Array, samples: int) -> zarr.Array:
    """The array without rows that an append left behind when it was killed."""
    import zarr

    if array.shape[0] < samples:
        return array
    metadata = replace(array.metadata, shape=(samples, *array.shape[1:]))
    return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=array.store_path))


def _read(array: zarr.Array, numbers: np.ndarray) -> np.ndarray:
    if len(numbers) == 0:
        return np.empty((0, *array.shape[1:]), array.dtype)
    if np.array_equal(numbers, np.arange(numbers[0], numbers[0] + len(numbers))):
        return np.asarray(array[int(numbers[0]) : int(numbers[-1]) + 1])
    return np.asarray(array.oindex[numbers])
