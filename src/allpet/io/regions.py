"""Regions in files: NIfTI label maps (3D Slicer, ITK-SNAP, NiiVue) and JSON of shapes or voxels.

JSON::

    {"allpet_regions": 1,
     "regions": [{"name": "lesion", "kind": "hot", "strength": 2.0, "planes": [3, 5],
                  "combine": "union", "shapes": [{"type": "ellipse", "centre_mm": [40, -12], "axes_mm": [9, 7]}]}]}

`planes` are the first and the last, counted from 0 at the head; left out, the region is on all planes. `combine` is
union (default), intersection or difference (the first without the others); shapes are those of
:mod:`allpet.mask.outline`. In place of `shapes`, ``voxels`` holds the weights themselves, as this module writes them.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.io.files import file_size, replacing
from allpet.io.nifti import finite, position_of
from allpet.mask.outline import draw
from allpet.mask.region import COMBINE, FINE, KINDS, Region, label_map
from allpet.scan.core import Image
from allpet.scan.units import LABEL

VERSION = 1
HEADER_KEY = "regions"
MAX_REGIONS = 255
MAX_JSON = 1 << 24
"""The largest file of regions in bytes."""


def read_regions(path: Path | str, image: Image) -> list[Region]:
    """Regions of an image from a label map (``.nii.gz``, ``.nii``) or a ``.json``.

    Parameters
    ----------
    image : that the regions belong to. A label map on another grid is looked up at the patient's coordinates of both.

    Raises
    ------
    AllpetError : no such file, not readable, no region in it, or none inside of the image.
    """
    path = Path(path)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        from allpet.io.nifti import read_nifti

        return regions_of_labels(read_nifti(path), image, str(path))
    if path.suffix.lower() != ".json":
        raise AllpetError(f"{path}: regions are read from .nii.gz label maps and .json")
    if file_size(path) > MAX_JSON:
        raise AllpetError(f"{path}: has {file_size(path)} bytes; at most {MAX_JSON} are read as regions")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise AllpetError(f"{path}: is not JSON ({str(error)[:80]})") from None
    except OSError as error:
        raise AllpetError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return regions_of_json(data, (len(image), *image.grid.shape), image.grid)
    except AllpetError as error:
        raise AllpetError(f"{path}: {error}") from None


def regions_of_json(data: Any, shape: Sequence[int], grid: ImageGrid) -> list[Region]:
    """Regions from parsed JSON, see the module's head.

    Raises
    ------
    AllpetError : anything missing, unknown or out of range; names the region.
    """
    if not isinstance(data, dict) or data.get("allpet_regions") != VERSION:
        raise AllpetError(f'holds no regions; it must be an object with "allpet_regions": {VERSION}')
    found = data.get("regions")
    if not isinstance(found, list) or not 0 < len(found) <= MAX_REGIONS:
        raise AllpetError(f"regions must be a list of 1 to {MAX_REGIONS}")
    return [region_of_json(entry, shape, grid, f"region {number}") for number, entry in enumerate(found, 1)]


def region_of_json(entry: Any, shape: Sequence[int], grid: ImageGrid, default: str = "region") -> Region:
    """One region; see :func:`regions_of_json`."""
    if not isinstance(entry, dict):
        raise AllpetError(f"{default}: must be an object")
    name = str(entry.get("name") or default)[:80]
    known: dict[str, Any] = {"kind": str(entry.get("kind", "roi")), "why": str(entry.get("why", ""))[:500]}
    for key, fallback in (("strength", 1.0), ("score", 0.0)):
        value = entry.get(key, fallback)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise AllpetError(f"region '{name}': {key} is {value!r}; it must be a number")
        known[key] = float(value)
    if "voxels" in entry:
        start, levels = _voxels(entry["voxels"], name, shape)
        return Region(name, start, levels, **known)
    shapes, combine = entry.get("shapes"), str(entry.get("combine", "union"))
    if not isinstance(shapes, list) or not 0 < len(shapes) <= MAX_REGIONS or combine not in COMBINE:
        raise AllpetError(
            f"region '{name}': needs shapes (a list of 1 to {MAX_REGIONS}), combined by {', '.join(COMBINE)}"
        )
    first, last = _planes(entry.get("planes"), name, shape[0])
    try:
        drawn = [draw(one if isinstance(one, dict) else {}, grid) for one in shapes]
    except AllpetError as error:
        raise AllpetError(f"region '{name}': {error}") from None
    total = drawn[0]
    for one in drawn[1:]:
        total = COMBINE[combine](total, one)
    flat = Region.from_mask(name, total, **known)
    levels = np.repeat(flat.levels, last - first + 1, axis=0)
    return Region(name, (first, *flat.start[1:]), levels, **known)


def _planes(value: Any, name: str, count: int) -> tuple[int, int]:
    if value is None:
        return 0, count - 1
    if isinstance(value, list) and len(value) == 2 and all(type(k) is int for k in value):
        first, last = value
        if 0 <= first <= last < count:
            return first, last
    raise AllpetError(f"region '{name}': planes is {str(value)[:40]}; it must be first and last, from 0 to {count - 1}")


def _voxels(value: Any, name: str, shape: Sequence[int]) -> tuple[tuple[int, int, int], np.ndarray]:
    try:
        start, size = (tuple(value[key]) for key in ("start", "shape"))
        if len(start) != 3 or len(size) != 3 or any(type(k) is not int for k in start + size):
            raise ValueError("start and shape must be three integers")
        if any(k < 0 or n < 1 or k + n > side for k, n, side in zip(start, size, shape, strict=True)):
            raise ValueError(f"box {size} at {start} does not fit the image's {tuple(shape)}")
        packed = base64.b64decode(value["zlib"], validate=True)
        unpack = zlib.decompressobj()
        count = math.prod(size)
        data = unpack.decompress(packed, count + 1)
        if len(data) != count or unpack.unconsumed_tail:
            raise ValueError(f"holds {len(data)} bytes for {count} voxels")
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise AllpetError(f"region '{name}': voxels cannot be read ({str(error)[:100]})") from None
    return start, np.frombuffer(data, np.uint8).reshape(size)  # type: ignore[return-value]


def region_to_json(region: Region, voxels: bool = True) -> dict[str, Any]:
    """Facts of a region for JSON; `voxels`: with its weights."""
    facts: dict[str, Any] = {
        "name": region.name,
        "kind": region.kind,
        "strength": region.strength,
        "why": region.why,
        "score": region.score,
    }
    if voxels:
        packed = base64.b64encode(zlib.compress(region.levels.tobytes(), 6)).decode("ascii")
        facts["voxels"] = {"start": list(region.start), "shape": list(region.levels.shape), "zlib": packed}
    return facts


def write_regions(regions: Sequence[Region], path: Path | str) -> None:
    """Write regions as JSON with their voxels; :func:`read_regions` gives them back to the bit."""
    content = {"allpet_regions": VERSION, "regions": [region_to_json(region) for region in regions]}
    with replacing(Path(path)) as (part,):
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")


def label_image(regions: Sequence[Region], image: Image) -> Image:
    """Label map of regions on an image's grid; the header says what each label is (a map cannot show overlaps)."""
    labels = label_map(regions, (len(image), *image.grid.shape))
    names = [{"label": k, **region_to_json(region, voxels=False)} for k, region in enumerate(regions, 1)]
    header = {key: value for key, value in image.header.items() if key != "provenance"} | {
        HEADER_KEY: json.dumps(names)
    }
    return Image(torch.from_numpy(labels.astype(np.float32)), image.grid, LABEL, image.plane_mm, header=header)


def regions_of_labels(labels: Image, image: Image, where: str) -> list[Region]:
    """Regions from a label map, whole numbers from 1 on; a map of weights in [0, 1] is one region.

    Raises
    ------
    AllpetError : other values, no label, too many, or none inside of the image.
    """
    values = labels.array.numpy()
    found = np.unique(values)
    weights = bool(found[0] >= 0 and found[-1] <= 1 and len(found) > 2)
    wrong = found[(found != np.rint(found)) | (found < 0)]
    if not weights and len(wrong):
        raise AllpetError(f"{where}: has values such as {wrong[0]:g}; a label map holds whole numbers from 0 on")
    names = found[found > 0] if not weights else np.ones(1)
    if not len(names):
        raise AllpetError(f"{where}: holds no region; at least one voxel must have a label")
    if len(names) > MAX_REGIONS:
        raise AllpetError(f"{where}: has {len(names)} labels; at most {MAX_REGIONS} regions are taken")
    known = _names(labels)
    index = _look_up(labels, image)
    regions = []
    for value in names:
        part = values if weights else (values == value).astype(np.float32)
        total = _sampled(part, index, image.grid.size)
        if total.any():
            facts = {"name": f"region {value:g}", **known.get(int(value), {})}
            regions.append(Region.from_mask(mask=total.clip(0, 1), **facts))
    if not regions:
        raise AllpetError(f"{where}: its regions lie outside of the image; both must be of one patient and position")
    return regions


def _names(labels: Image) -> dict[int, dict[str, Any]]:
    """What our own header says of the labels; nothing where it says nothing sound."""
    try:
        entries = json.loads(str(labels.header.get(HEADER_KEY, "[]")))
        found = {}
        for entry in entries:
            facts = {
                "name": str(entry["name"])[:80],
                "kind": str(entry["kind"]),
                "strength": float(entry["strength"]),
                "why": str(entry["why"])[:500],
                "score": finite(entry.get("score", 0.0)),
            }
            if facts["kind"] in KINDS:
                found[int(entry["label"])] = facts
        return found
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _look_up(labels: Image, image: Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of the label map's voxel at every point of the image, by axis; -1 outside. Rows and columns are looked up
    at :data:`FINE` points a pixel."""
    own, other = image.grid, labels.grid
    shift = position_of(image) - position_of(labels)  # patient axes: columns and rows run against x and y
    fine = own.pixel_mm * ((np.arange(FINE) + 0.5) / FINE - 0.5)
    if own == other:
        fine = np.zeros(1)
    across = ((own.x[:, None] + fine).ravel() - shift[0]) / other.pixel_mm + (other.size - 1) / 2
    down = ((-own.y[:, None] + fine).ravel() - shift[1]) / other.pixel_mm + (other.size - 1) / 2
    level = (np.arange(len(image)) - (len(image) - 1) / 2) * image.plane_mm - shift[2]
    level = level / labels.plane_mm + (len(labels) - 1) / 2

    def nearest(position: np.ndarray, count: int) -> np.ndarray:
        found = np.rint(position)  # of a damaged map beyond any integer
        return np.where((found >= 0) & (found < count), found, -1).astype(int)

    return nearest(level, len(labels)), nearest(down, other.size), nearest(across, other.size)


def _sampled(values: np.ndarray, index: tuple[np.ndarray, np.ndarray, np.ndarray], side: int) -> np.ndarray:
    """Mean of the values at the points of every pixel of planes with `side` pixels a side, float32."""
    padded = np.pad(values, ((0, 1), (0, 1), (0, 1)))  # index -1 finds 0
    level, down, across = index
    fine = len(down) // side
    out = np.zeros((len(level), side, side), np.float32)
    for k, source in enumerate(level):
        if padded[source].any():
            points = padded[source][np.ix_(down, across)]
            out[k] = points.reshape(side, fine, side, fine).mean(axis=(1, 3))
    return out
