"""The dataset store's schema: names, shapes, attributes, and how rows become the bytes of a file.

A store is a zarr v3 group. Every array has one row per sample; `block` samples lie in one file. An array of more
than one number per sample is sharded (one chunk per sample, found by the index at the end of its file), a single
number per sample is one chunk per file. Chunks are zstd-compressed; chunks and indices carry a crc32c.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.remote import Place

if TYPE_CHECKING:
    import zarr

SCHEMA = "allpet dataset"
SCHEMA_VERSION = 2
READABLE = (1, 2)
BLOCK = 64
"""Samples per file."""
OWN = ("schema", "schema_version", "geometry", "samples", "block")
"""Attributes that the store writes itself."""
PROMPT = ("tracer", "isotope", "region")
"""Words of the attribute `prompt` that a scan knows too; the store's has also `task`."""
ACQUISITION = (
    "scanner",
    "injected_mbq",
    "weight_kg",
    "height_m",
    "sex",
    "start_s",
    "duration_s",
    "decay_reference",
    "dose_fraction",
    "dose_fractions",
    "plane_mm",
    "neighbours",
    "fwhm_mm",
)
"""What the attribute `acquisition` may state for all samples: fields of :class:`allpet.scan.Scan`."""
SINOGRAMS = (
    "sinogram",
    "observed",
    "second",
    "attenuation",
    "normalisation",
    "background",
    "randoms",
    "scatter",
    "delayeds",
)
IMAGES = ("image", "image_observed", "image_second", "mumap", "labels")
FRAMES = ("frames", "frames_background")
FRAME_TIMES = ("frame_start_s", "frame_duration_s")
VALUES = (
    "subject",
    "level_mm",
    "dose_fraction",
    "counts_per_unit",
    "weight_kg",
    "injected_mbq",
    "start_s",
    "duration_s",
    "fwhm_mm",
    "delay_minutes",
    "ratio",
)


def check_array(
    path: Place, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], beam: ParallelBeam, count: int
) -> None:
    """Raise an AllpetError unless the array is numeric with one row per sample, in the shape its name stands for."""
    if not name.isidentifier():
        raise AllpetError(f"{path}: array {name!r} cannot be stored; a name is letters, digits and underscores")
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise AllpetError(f"{path}: array {name!r} is of type {dtype}; only numbers can be stored")
    expected = {
        **dict.fromkeys(SINOGRAMS, (count, *beam.shape)),
        **dict.fromkeys(IMAGES, (count, beam.bins, beam.bins)),
        **dict.fromkeys(VALUES, (count,)),
        **dict.fromkeys(FRAME_TIMES, (count, *shape[1:2])),
        **dict.fromkeys(FRAMES, (count, *shape[1:2], *beam.shape)),
    }.get(name, (count, *shape[1:]))
    if tuple(shape) != expected:
        raise AllpetError(f"{path}: array {name!r} has shape {tuple(shape)}; it must be {expected}")
    if count < 1:
        raise AllpetError(f"{path}: array {name!r} is empty; a store needs at least one sample")


def check_rows(path: Place, rows: Mapping[str, np.ndarray], beam: ParallelBeam, count: int) -> None:
    """Raise an AllpetError unless every array can be stored: as :func:`check_array`, and finite."""
    if "sinogram" not in rows:
        raise AllpetError(f"{path}: there is no array 'sinogram'; a store needs it, there are {', '.join(rows)}")
    for name, values in rows.items():
        check_array(path, name, values.shape, values.dtype, beam, count)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise AllpetError(f"{path}: array {name!r} holds NaN or infinite values; every value must be finite")


def check_frames(path: Place, shapes: Mapping[str, tuple[int, ...]], attributes: Mapping[str, Any]) -> None:
    """Raise an AllpetError unless `frames` come with a start and a duration each, as arrays or as attributes.

    Parameters
    ----------
    shapes : array name -> shape of one row.
    """
    if "frames" not in shapes:
        return
    frames = shapes["frames"][0]
    counted = {name: shapes[name][0] if name in shapes else len(attributes.get(name, ())) for name in FRAME_TIMES}
    if "frames_background" in shapes:
        counted["frames_background"] = shapes["frames_background"][0]
    for name, number in counted.items():
        if number != frames:
            raise AllpetError(f"{path}: {name} has {number} entries; it must have one for each of the {frames} frames")


def describe(
    path: Place, attributes: Mapping[str, Any], beam: ParallelBeam, samples: int, block: int = BLOCK
) -> dict[str, Any]:
    """All attributes of a store: those given and the store's own, as they read back from JSON.

    Raises
    ------
    AllpetError : no unit of `sinogram`, or a value that JSON cannot hold.
    """
    if "sinogram" not in attributes.get("units", {}):
        raise AllpetError(f"{path}: the unit of 'sinogram' is missing; attribute units must name it")
    geometry = {**vars(beam), "pixel_mm": beam.image_grid().pixel_mm}
    own = (SCHEMA, SCHEMA_VERSION, geometry, samples, block)
    return as_json(path, {**attributes, **dict(zip(OWN, own, strict=True))})


def as_json(path: Place, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they read back from JSON.

    Raises
    ------
    AllpetError : a value that JSON cannot hold; the message names it.
    """
    out = {}
    for name, value in values.items():
        try:
            out[name] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            what = f"{name} is {value!r:.60}"
            raise AllpetError(f"{path}: {what}; attributes must be text, finite numbers, lists or dicts") from None
    return out


def group_json(attributes: Mapping[str, Any]) -> bytes:
    """The group's ``zarr.json``."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=2).encode()


def array_json(dtype: np.dtype[Any], row: tuple[int, ...], samples: int, block: int) -> bytes:
    """An array's ``zarr.json``."""
    return _memory_array(dtype, row, samples, block)[1]["zarr.json"].to_bytes()


def encode(values: np.ndarray, block: int) -> bytes:
    """The bytes of one file of an array: up to `block` rows; the same rows give the same bytes."""
    array, files = _memory_array(values.dtype, values.shape[1:], len(values), block)
    array[:] = values
    return files[file_key(values.ndim, 0)].to_bytes()


def file_key(ndim: int, number: int) -> str:
    """Path of file `number` = 0, 1, ... in the folder of an array of `ndim` axes."""
    return "/".join(["c", str(number), *["0"] * (ndim - 1)])


def blocks(first: int, stop: int, block: int) -> Iterator[tuple[int, int, int]]:
    """Files that hold samples `first` to `stop` - 1: number, first and (excluded) last of these samples in it."""
    for number in range(first // block, -(-stop // block)):
        yield number, max(number * block, first), min((number + 1) * block, stop)


def _memory_array(
    dtype: np.dtype[Any], row: tuple[int, ...], samples: int, block: int
) -> tuple[zarr.Array, dict[str, Any]]:
    """An empty zarr array in memory and its files; a float chunk that gets lost reads as NaN, not as zero."""
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    files: dict[str, Any] = {}
    array = zarr.create_array(
        zarr.storage.MemoryStore(files),
        shape=(samples, *row),
        dtype=dtype.newbyteorder("="),
        chunks=(1 if row else block, *row),
        shards=(block, *row) if row else None,
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        fill_value=np.nan if dtype.kind == "f" else 0,
        config={"write_empty_chunks": True},  # so that a missing chunk is an error, never "all zero"
    )
    return array, files
