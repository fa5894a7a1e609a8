"""The dataset store: one zarr v3 group, one array per kind of data, one row per sample.

Arrays are those of :func:`allpet.scan.simulate.simulate` (or a user's own under the same names), chunked by
sample. Attributes hold schema version, geometry, units, prompt, seed, software version and command.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.scan.core import COUNTS, Scan
from allpet.scan.dataset import Dataset

if TYPE_CHECKING:
    import zarr

SCHEMA = "allpet dataset"
SCHEMA_VERSION = 1
_SHARD = 64
_SINOGRAMS = ("sinogram", "observed", "background", "attenuation")
_IMAGES = ("image", "mumap", "labels")
_VALUES = ("subject", "dose_fraction", "counts_per_unit", "level_mm")

Index = int | slice | Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Store:
    """An open dataset store; arrays are read when they are indexed, as in ``store["image"][3]`` or ``store.image[3]``.

    Parameters
    ----------
    path : the store's folder. group : the zarr group. beam : geometry of the sinograms.
    """

    path: Path
    group: zarr.Group
    beam: ParallelBeam

    def __len__(self) -> int:
        return int(self["sinogram"].shape[0])

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.group.array_keys()))

    def __getitem__(self, name: str) -> zarr.Array:
        import zarr

        array = self.group.get(name)
        if not isinstance(array, zarr.Array):
            raise AllpetError(f"{self.path}: there is no array {name!r}; the store has {', '.join(self)}")
        return array

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
        """Some rows of an array (all by default) in memory.

        Raises
        ------
        AllpetError : no such array or row, or a value that is not finite (also: a chunk that is missing).
        """
        array, count = self[name], len(self)
        if index is None:
            values = np.asarray(array[:])
        elif isinstance(index, slice):
            values = np.asarray(array[index])
        else:
            wanted = np.atleast_1d(np.asarray(index))
            if wanted.size == 0 or wanted.min() < -count or wanted.max() >= count:
                raise AllpetError(f"{self.path}: there is no sample {index}; the store has samples 0 to {count - 1}")
            values = np.asarray(array.oindex[wanted % count])
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise AllpetError(
                f"{self.path}: array {name!r} holds NaN, infinite or missing values; write the store again"
            )
        return values

    def load(self) -> Dataset:
        """The whole store in memory."""
        own = ("schema", "schema_version", "geometry")
        attributes = {name: value for name, value in self.attributes.items() if name not in own}
        return Dataset({name: self.rows(name) for name in self}, self.beam, attributes)


def write_store(dataset: Dataset, path: str | os.PathLike[str], command: str | None = None) -> None:
    """Write a data set as a store; an older store of the same name is replaced, nothing half-written stays.

    Parameters
    ----------
    path : folder to make, by custom ending in ``.zarr``. command : recorded if given.

    Raises
    ------
    AllpetError : the path holds something else, an array is not numeric or finite, or has a wrong shape.
    """
    import zarr

    target = Path(path)
    if target.exists() and not _is_store(target):
        raise AllpetError(f"{target}: exists and is not an allpet dataset store; choose another name")
    if not target.parent.is_dir():
        raise AllpetError(f"{target}: the folder {target.parent} does not exist; make it first")
    for name, values in dataset.arrays.items():
        _check_array(target, name, values.shape, values.dtype, dataset.beam, len(dataset))
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise AllpetError(f"{target}: array {name!r} holds NaN or infinite values; every value must be finite")
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        group = zarr.open_group(scratch, mode="w-", zarr_format=3)
        for name, values in dataset.arrays.items():
            _write_array(group, name, np.ascontiguousarray(values))
        group.attrs.update(_describe(dataset, command))
        _replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open a store without reading its arrays.

    Raises
    ------
    AllpetError : there is no store, it is of another schema, or an array is missing or has a wrong shape.
    """
    import zarr

    folder = Path(path)
    if not folder.is_dir():
        raise AllpetError(f"{folder}: there is no such dataset store")
    try:
        group = zarr.open_group(folder, mode="r")
        attributes: dict[str, Any] = dict(group.attrs)
    except Exception as error:  # zarr raises many kinds for a damaged group
        raise AllpetError(f"{folder}: is not a readable zarr group; an allpet dataset store is one") from error
    if attributes.get("schema") != SCHEMA:
        raise AllpetError(f"{folder}: is a zarr group but not an allpet dataset store (no attribute schema={SCHEMA!r})")
    if attributes.get("schema_version") != SCHEMA_VERSION:
        found = attributes.get("schema_version")
        raise AllpetError(f"{folder}: has schema version {found}; this program reads version {SCHEMA_VERSION}")
    try:
        geometry = attributes["geometry"]
        beam = ParallelBeam(int(geometry["views"]), int(geometry["bins"]), float(geometry["bin_mm"]))
        str(attributes["units"]["sinogram"])
    except (KeyError, TypeError, ValueError) as error:
        raise AllpetError(
            f"{folder}: geometry or units are missing or damaged ({error}); write the store again"
        ) from None
    store = Store(folder, group, beam)
    arrays = {name: store[name] for name in ("sinogram", *store)}
    for name, array in arrays.items():
        _check_array(folder, name, array.shape, array.dtype, beam, len(store))
    return store


def read_store(path: str | os.PathLike[str], index: Index | None = None) -> Scan:
    """What the scanner measured: `observed` if the store has it, else `sinogram`, as a scan.

    The factors belong to the data returned: background and counts per unit are scaled to its dose fraction.
    Counts per unit and dose fraction are None where the samples differ in them.

    Parameters
    ----------
    index : a sample number, a slice or a list of them; all by default.

    Raises
    ------
    AllpetError : as :func:`open_store`, no such sample, or values that are not finite.
    """
    store = open_store(path)
    name = "observed" if "observed" in store else "sinogram"
    unit = str(store.attributes["units"].get(name, store.unit))
    data = store.rows(name, index)
    known: dict[str, Any] = {key: store.prompt.get(key) for key in ("tracer", "isotope", "region")}
    if unit == COUNTS:
        known |= _factors(store, index, dose=name == "observed")
    return Scan(torch.from_numpy(data.astype(np.float32)), store.beam, unit=unit, **known)


def _factors(store: Store, index: Index | None, dose: bool) -> dict[str, Any]:
    """Attenuation, background, calibration and dose fraction of the chosen samples."""
    out: dict[str, Any] = {}
    fraction = store.rows("dose_fraction", index) if dose and "dose_fraction" in store else None
    share = np.float32(1.0) if fraction is None else fraction
    if "attenuation" in store:
        out["attenuation"] = store.rows("attenuation", index)
    if "background" in store:
        out["background"] = store.rows("background", index) * np.reshape(share, (-1, 1, 1))
    if "counts_per_unit" in store:
        out["counts_per_unit"] = _common(store.rows("counts_per_unit", index) * share)
    if fraction is not None:
        out["dose_fraction"] = _common(fraction)
    return out


def _common(values: np.ndarray) -> float | None:
    return float(values[0]) if np.ptp(values) == 0 else None


def _check_array(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], beam: ParallelBeam, count: int
) -> None:
    """Numeric, one row per sample, and the shape that its name stands for."""
    if dtype.kind not in "fiu":
        raise AllpetError(f"{path}: array {name!r} is of type {dtype}; only numbers can be stored")
    expected = {
        **dict.fromkeys(_SINOGRAMS, (count, *beam.shape)),
        **dict.fromkeys(_IMAGES, (count, beam.bins, beam.bins)),
        **dict.fromkeys(_VALUES, (count,)),
    }.get(name, (count, *shape[1:]))
    if name == "frames":
        expected = (count, *shape[1:2], *beam.shape)
    if tuple(shape) != expected:
        raise AllpetError(f"{path}: array {name!r} has shape {tuple(shape)}; it must be {expected}")
    if count < 1:
        raise AllpetError(f"{path}: array {name!r} is empty; a store needs at least one sample")


def _write_array(group: zarr.Group, name: str, values: np.ndarray) -> None:
    """One chunk per sample, many chunks per file; a chunk that gets lost reads as NaN, not as zero."""
    rest = values.shape[1:]
    many = _SHARD if rest else max(len(values), 1)
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(1 if rest else many, *rest),
        shards=(min(many, len(values)), *rest) if rest else None,
        fill_value=np.nan if values.dtype.kind == "f" else 0,
    )
    array[:] = values


def _describe(dataset: Dataset, command: str | None) -> dict[str, Any]:
    beam = dataset.beam
    geometry = {"views": beam.views, "bins": beam.bins, "bin_mm": beam.bin_mm, "pixel_mm": dataset.grid.pixel_mm}
    out = {**dataset.attributes, "schema": SCHEMA, "schema_version": SCHEMA_VERSION, "geometry": geometry}
    return out if command is None else {**out, "command": command}


def _is_store(path: Path) -> bool:
    try:
        open_store(path)
    except AllpetError:
        return False
    return True


def _replace(scratch: Path, target: Path) -> None:
    """Put the finished folder in place; an older store steps aside first and goes when the new one stands."""
    if not target.exists():
        os.replace(scratch, target)
        return
    old = scratch.with_suffix(".old")
    os.replace(target, old)
    try:
        os.replace(scratch, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old)
