"""NIfTI images (``.nii``, ``.nii.gz``).

Our rows go from anterior to posterior, columns from the patient's right to left, planes from head to feet (the order
of STIR for head first, supine). In NIfTI's axes (x to the right, y anterior, z superior of the patient, in mm) pixel
(row i, column j, plane k) is at ``x = -(j - (n-1)/2) pixel_mm, y = -(i - (n-1)/2) pixel_mm, z = -k plane_mm``; the
array in the file is ``(column, row, plane)``. A file in any other orientation is turned to this one, to the nearest
axes where it is oblique. Where the image's centre lies elsewhere in the patient's axes, the header keeps it as
``nifti centre (mm)`` and it is written back; :class:`ImageGrid` itself is always centred. Unit, header and what is
known of the acquisition stand in a comment extension as JSON, so numbers come back to the bit.

Sizes are checked before anything is read: the header's against the file's. A ``.nii.gz`` that claims more than ten
times its own size is unpacked and counted first, in pieces that are thrown away.
"""

from __future__ import annotations

import gzip
import json
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.io.acquired import check_position
from allpet.io.files import centre_of_square, check_aspect, check_finite, file_size, replacing, square
from allpet.io.images import UNKNOWN_UNIT
from allpet.scan.core import Acquired, Image
from allpet.scan.units import LABEL

CENTRE = "nifti centre (mm)"
MAX_BYTES = 1 << 34
"""The largest array that is read, in bytes."""
MAX_START = 1 << 26
"""The most bytes before the array: header and extensions."""
_COMMENT = 6  # code of a NIfTI extension that holds plain text
_HEADER = 352  # bytes up to the extensions
_WORDS = {"tracer", "isotope", "region", "scanner", "sex", "decay_reference"}


def load(path: Path | str) -> Any:
    """Open with nibabel, after checking that the file is as long as its header says.

    Raises
    ------
    AllpetError : missing, not NIfTI, not three-dimensional, shorter than it says.
    """
    import nibabel

    path = Path(path)
    file_size(path)
    try:
        _check_sizes(path)
        with _quiet():
            nifti = nibabel.Nifti1Image.from_filename(path)
    except AllpetError:
        raise
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise AllpetError(f"{path}: is not a readable NIfTI file ({_one_line(error)}); give a whole .nii.gz") from None
    return nifti


@contextmanager
def _quiet() -> Iterator[None]:
    """What nibabel finds odd in a header stays unsaid: the file is read, or refused in one line."""
    import warnings

    from nibabel.imageglobals import logger

    def silent(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeFilter(silent)


def _check_sizes(path: Path) -> None:
    """Compare the header's sizes with the file's before anything of that size is made."""
    import nibabel

    packed = path.name.lower().endswith(".gz")
    with gzip.open(path) if packed else open(path, "rb") as handle:
        block = handle.read(_HEADER)
        with _quiet():
            header = nibabel.Nifti1Header(block[:348])
        if bytes(header["magic"]) != b"n+1\0":
            raise AllpetError(
                f"{path}: is not a single NIfTI-1 file (magic {bytes(header['magic'])!r}); give a .nii.gz"
            )
        shape = [int(side) for side in header.get_data_shape()]
        if len(shape) < 3 or any(side != 1 for side in shape[3:]) or min(shape) < 1:
            raise AllpetError(f"{path}: has shape {' x '.join(map(str, shape))}; a single 3-D image is needed")
        start = float(header["vox_offset"])
        count = math.prod(shape) * int(header.get_data_dtype().itemsize)
        if not _HEADER <= start <= MAX_START or count > MAX_BYTES:
            raise AllpetError(f"{path}: claims {count} bytes from {start:g} on; at most {MAX_BYTES} can be read")
        if len(block) == _HEADER and block[348]:
            _check_extensions(path, handle, int(start), "big" if header.endianness == ">" else "little")
        needed, size = int(start) + count, file_size(path)
        if packed and needed > 10 * size:
            left = needed - handle.tell()
            while left > 0 and (piece := handle.read(min(left, 1 << 16))):
                left -= len(piece)
            size = needed - left
        elif packed:
            size = needed  # nibabel finds out, for little memory
    if size < needed:
        raise AllpetError(f"{path}: holds {size} bytes; its header needs {needed}: copy the file again")


def _check_extensions(path: Path, handle: Any, start: int, order: Literal["big", "little"]) -> None:
    """Every extension must end before the data start."""
    at = _HEADER
    while at + 16 <= start:
        handle.seek(at)
        size = int.from_bytes(handle.read(4), order)
        if size < 16 or at + size > start:
            raise AllpetError(
                f"{path}: has an extension of {size} bytes at {at}; it must end before the data at {start}"
            )
        at += size


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def geometry(nifti: Any, path: Path) -> tuple[np.ndarray, float, float]:
    """Orientation towards (L, P, I), pixel side and distance between planes in mm.

    Raises
    ------
    AllpetError : no usable affine, pixels that are not square.
    """
    from nibabel import orientations

    affine = np.asarray(nifti.affine, float)
    axes = orientations.io_orientation(affine) if np.isfinite(affine).all() else np.full((3, 2), np.nan)
    if np.isnan(axes).any():
        raise AllpetError(f"{path}: its affine is singular or not finite; a NIfTI image with sizes in mm is needed")
    turn = orientations.ornt_transform(axes, orientations.axcodes2ornt("LPI"))
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    width, height, plane_mm = (float(sizes[int(np.flatnonzero(turn[:, 0] == k)[0])]) for k in range(3))
    if abs(width - height) > 1e-3 * width:
        raise AllpetError(f"{path}: has pixels of {width:g} x {height:g} mm; they must be square")
    if not (0 < width < math.inf and 0 < plane_mm < math.inf):
        raise AllpetError(f"{path}: has pixels of {width:g} mm, {plane_mm:g} mm apart; sizes must be positive")
    return turn, width, plane_mm


def read_nifti(path: Path | str) -> Image:
    """Read a NIfTI image; one that is not square is padded to a centred square.

    Raises
    ------
    AllpetError : see :func:`load` and :func:`geometry`; truncated data, NaN.
    """
    from nibabel import orientations

    path = Path(path)
    nifti = load(path)
    turn, pixel_mm, plane_mm = geometry(nifti, path)
    try:
        with _quiet(), np.errstate(over="ignore", invalid="ignore"):  # check_finite reports what is too large
            array = np.asarray(nifti.get_fdata(dtype=np.float32, caching="unchanged"))
    except Exception as error:
        raise AllpetError(f"{path}: its data cannot be read ({_one_line(error)}); copy the file again") from None
    centre = nifti.affine[:3, :3] @ ((np.array(array.shape[:3]) - 1) / 2) + nifti.affine[:3, 3]
    array = orientations.apply_orientation(array.reshape(array.shape[:3]), turn)
    check_aspect(path, *array.shape[1::-1])
    array = array.transpose(2, 1, 0).copy()  # a turned axis of one voxel keeps a negative stride otherwise
    check_finite(path, array)
    planes, (down, right) = len(array), centre_of_square(*array.shape[1:])
    array, note = square(path, array)
    centre = centre - np.array([right, down, 0.0]) * pixel_mm  # rows go to the back, columns to the left
    known, header = _comment(nifti)
    unit = known.pop("unit", None) or UNKNOWN_UNIT
    pixel_mm, plane_mm = known.pop("pixel_mm", pixel_mm), known.pop("plane_mm", plane_mm)
    header.pop(CENTRE, None)
    if not np.allclose(centre, default_centre(planes, plane_mm), rtol=1e-5, atol=1e-3 * pixel_mm):
        header[CENTRE] = ", ".join(repr(float(x)) for x in centre)
    return Image(
        torch.from_numpy(array), ImageGrid(array.shape[-1], pixel_mm), unit, plane_mm, header=header | note, **known
    )


def default_centre(planes: int, plane_mm: float) -> tuple[float, float, float]:
    """Where the centre of an image stands in the patient's axes if nobody says otherwise: plane 0 at z = 0."""
    return 0.0, 0.0, -(planes - 1) / 2 * plane_mm


def _comment(nifti: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What :func:`write_nifti` put in the comment: fields, and header; sizes only where the affine agrees with them."""
    for extension in nifti.header.extensions:
        if extension.get_code() != _COMMENT:  # another program's
            continue
        try:
            text = extension.get_content()
            text = text.decode("utf-8") if isinstance(text, bytes) else str(text)
            comment = json.loads(text.rstrip("\0"))["allpet"]
            known: dict[str, Any] = {"unit": str(comment["unit"])}
            header = dict(comment["header"])
            sizes = {name: float(comment[name]) for name in ("pixel_mm", "plane_mm")}
            for name, value in dict(comment.get("acquired", {})).items():
                if name in _FACTS:
                    known[name] = str(value) if name in _WORDS else finite(value)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        zooms = nifti.header.get_zooms()[:3]
        same = np.allclose(zooms, (sizes["pixel_mm"], sizes["pixel_mm"], sizes["plane_mm"]), rtol=1e-5)
        return known | (sizes if same else {}), header
    match = re.search(r"unit=(\S+)", bytes(nifti.header["descrip"]).decode("latin-1"))
    return ({"unit": match[1]} if match else {}), {}


_FACTS = {part.name for part in fields(Acquired)} - {"header"}


def finite(value: Any) -> float:
    """A number; ``ValueError`` where it is none or not finite."""
    if not math.isfinite(number := float(value)):
        raise ValueError(value)
    return number


def position_of(image: Image) -> np.ndarray:
    """Centre of the image in the patient's axes in mm: what the header kept, else the default."""
    try:
        centre = np.array([float(x) for x in str(image.header[CENTRE]).split(",")])
        if centre.shape == (3,) and np.isfinite(centre).all():
            return centre
    except (KeyError, ValueError):
        pass
    return np.array(default_centre(len(image), image.plane_mm))


def write_nifti(image: Image, path: Path | str) -> None:
    """Write an image as float32 NIfTI, labels as unsigned integers; nothing is left where it fails.

    Raises
    ------
    AllpetError : the folder does not exist or cannot be written; a patient who lies otherwise than head first, supine.
    """
    import nibabel

    path = Path(path)
    check_position(image, path)
    n, pixel_mm, plane_mm = image.grid.size, image.grid.pixel_mm, image.plane_mm
    steps = -np.array([pixel_mm, pixel_mm, plane_mm])
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = position_of(image) - steps * (np.array([n, n, len(image)]) - 1) / 2
    array = image.array.detach().cpu().numpy()
    if image.unit == LABEL:
        array = array.astype(np.uint16 if array.max(initial=0) > 255 else np.uint8)
    nifti = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.header["descrip"] = f"allpet unit={image.unit}".encode()[:79]
    nifti.set_qform(affine, 1)
    nifti.set_sform(affine, 1)
    acquired = {name: value for name in sorted(_FACTS) if (value := getattr(image, name)) is not None}
    comment = {
        "unit": image.unit,
        "pixel_mm": pixel_mm,
        "plane_mm": plane_mm,
        "acquired": acquired,
        "header": {str(key): value for key, value in image.header.items() if key != CENTRE},
    }
    text = json.dumps({"allpet": comment}, default=str)
    nifti.header.extensions.append(nibabel.nifti1.Nifti1Extension(_COMMENT, text.encode()))
    content = nifti.to_bytes()
    with replacing(path) as (part,):
        part.write_bytes(gzip.compress(content, 6, mtime=0) if path.name.lower().endswith(".gz") else content)
