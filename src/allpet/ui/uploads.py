"""Regions in files that somebody sends: looked at with distrust before they are read."""

from __future__ import annotations

import json
import math
import re
import tempfile
import zlib
from pathlib import Path
from typing import Any

from allpet.errors import AllpetError
from allpet.io.regions import MAX_JSON, read_regions, regions_of_json
from allpet.mask.region import Region
from allpet.ui.edits import MAX_WORK, work_of
from allpet.ui.library import Loaded

MAX_UPLOAD = 1 << 26
MAX_VOXELS = 1 << 26
"""Of a label map; unpacked, a small file can be huge."""
ENDINGS = (".nii.gz", ".nii", ".json")
_NAME = re.compile(r"[^/\\\x00-\x1f]{1,120}")


def check_name(name: str) -> str:
    """A file's name, without a folder.

    Raises
    ------
    AllpetError : something else, or another ending than :data:`ENDINGS`.
    """
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise AllpetError(f"name {name[:80]!r} is no file name; give one without a folder")
    if not name.lower().endswith(ENDINGS):
        raise AllpetError(f"{name}: regions are read from {', '.join(ENDINGS)}")
    return name


def regions_in(name: str, data: bytes, loaded: Loaded) -> list[Region]:
    """Regions of an image from the content of a file.

    Raises
    ------
    AllpetError : too large when unpacked, not readable, no region in it.
    """
    check_name(name)
    try:
        if name.lower().endswith(".json"):
            return _from_json(name, data, loaded)
        return _from_labels(name, data, loaded)
    except AllpetError:
        raise
    except (MemoryError, RecursionError):
        raise AllpetError(f"{name}: is too large or too deep to be read") from None
    except (ValueError, TypeError, KeyError, OverflowError, ArithmeticError) as error:
        raise AllpetError(f"{name}: cannot be read as regions ({' '.join(str(error).split())[:100]})") from None


def _from_json(name: str, data: bytes, loaded: Loaded) -> list[Region]:
    if len(data) > MAX_JSON:
        raise AllpetError(f"{name}: has {len(data)} bytes; at most {MAX_JSON} are read as regions")
    try:
        content = json.loads(data)
    except RecursionError:
        raise AllpetError(f"{name}: is nested too deeply") from None
    except ValueError as error:
        raise AllpetError(f"{name}: is not JSON ({str(error)[:80]})") from None
    grid = loaded.image.grid
    if sum(work_of(shape, grid.size, grid.pixel_mm) for shape in _shapes(content)) > 2 * MAX_WORK:
        raise AllpetError(f"{name}: its outlines have too many points to be drawn here; send a label map")
    if sum(_box(one) for one in _entries(content)) > 4 * MAX_VOXELS:
        raise AllpetError(f"{name}: its regions hold too many voxels; send a label map")
    try:
        return regions_of_json(content, loaded.shape, grid)
    except AllpetError as error:
        raise AllpetError(f"{name}: {error}") from None


def _entries(content: Any) -> list[dict[str, Any]]:
    found = content.get("regions") if isinstance(content, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _shapes(content: Any) -> list[Any]:
    lists = (one.get("shapes") for one in _entries(content))
    return [shape for shapes in lists if isinstance(shapes, list) for shape in shapes]


def _box(one: dict[str, Any]) -> int:
    """Voxels that a region's box claims."""
    voxels = one.get("voxels")
    sides = voxels.get("shape") if isinstance(voxels, dict) else None
    if not isinstance(sides, list) or len(sides) != 3 or any(type(side) is not int or side < 1 for side in sides):
        return 0  # refused where it is read
    return math.prod(sides)


def _from_labels(name: str, data: bytes, loaded: Loaded) -> list[Region]:
    packed = name.lower().endswith(".gz")
    _check_labels(name, data, packed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("labels.nii.gz" if packed else "labels.nii")
        path.write_bytes(data)
        try:
            return read_regions(path, loaded.image)
        except AllpetError as error:
            raise AllpetError(str(error).replace(str(path), name)) from None


def _check_labels(name: str, data: bytes, packed: bool) -> None:
    """The voxels that a header claims, before anything of that size is made."""
    import nibabel

    try:
        block = zlib.decompressobj(31).decompress(data, 352) if packed else data[:352]
        shape = [int(side) for side in nibabel.Nifti1Header(block[:348]).get_data_shape()]
    except Exception:  # nibabel raises many kinds on damaged files
        raise AllpetError(f"{name}: is not a readable NIfTI file; give a whole .nii.gz") from None
    if math.prod(shape) > MAX_VOXELS:
        raise AllpetError(f"{name}: has {' x '.join(map(str, shape))} voxels; at most {MAX_VOXELS} are read here")
