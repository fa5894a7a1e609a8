"""DICOM series of PET or CT images, one file a plane, to an :class:`Image`.

Planes are ordered by their position along the normal, never by name or number, and turned to our axes: row 0 anterior,
column 0 the patient's right, plane 0 at the head. DICOM's patient axes are (x to the left, y posterior, z to the head),
so however a patient lay, ImageOrientationPatient says it all. PET comes out in kBq/mL (BQML) or SUV (GML), CT in HU.
What identifies a person is not read: see :mod:`allpet.io.dicom_facts`.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.io.dicom_facts import facts_of, number, text, unit_of
from allpet.io.files import centre_of_square, check_finite, square
from allpet.scan.core import Acquired, Image

PRIVATE_GROUP, PRIVATE_CREATOR, PRIVATE_FACTS = 0x0A11, "ALLPET", 0x01
"""Private element of our own series: JSON of the facts that no standard attribute holds to the bit."""

_PET, _CT = "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.2"
_MULTI_FRAME = (f"{_PET}.1", "1.2.840.10008.5.1.4.1.1.130", f"{_CT}.1", f"{_CT}.2")
_DEFLATED, _RLE = b"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
_MAX_SIDE = 4096
_SAME = ("Modality", "Rows", "Columns", "PixelSpacing", "Units", "DecayCorrection")


@dataclass(frozen=True)
class _Plane:
    """A file and its attributes without the pixels."""

    path: Path
    data: Any


class _Bounded(io.BufferedReader):
    """A file that never makes room for more than it holds, whatever length a damaged element claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self.size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def require_pydicom() -> Any:
    """The package pydicom.

    Raises
    ------
    AllpetError : it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise AllpetError("DICOM needs the package pydicom; install it with: pip install 'allpet[dicom]'") from None
    return pydicom


def is_dicom(path: Path) -> bool:
    """Whether a file begins as a DICOM file does."""
    try:
        with open(path, "rb") as handle:
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return False


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Any error becomes an AllpetError that names the file; pydicom's warnings stay quiet."""
    import warnings

    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except AllpetError:
        raise
    except Exception as error:  # pydicom raises many kinds on damaged files, some only when a value is looked at
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise AllpetError(f"{path}: is not readable as DICOM ({why}); give whole, unchanged files") from None
    finally:
        logger.disabled = before


def _header(path: Path) -> _Plane:
    pydicom = require_pydicom()
    with _reading(path), _Bounded(path) as handle:
        if _DEFLATED in handle.read(1 << 16):  # it would be unpacked whole, whatever its size
            raise AllpetError(f"{path}: is deflated DICOM, which is not read; save it as Explicit VR Little Endian")
        handle.seek(0)
        return _Plane(path, pydicom.dcmread(handle, stop_before_pixels=True))


def _readable(plane: _Plane) -> bool:
    return text(plane.data, "SOPClassUID") in (_PET, _CT, *_MULTI_FRAME)


def _label(planes: Sequence[_Plane]) -> str:
    data = planes[0].data
    name = f"{text(data, 'SeriesNumber') or '?'} '{text(data, 'SeriesDescription')[:40]}' {text(data, 'Modality')}"
    return f"{name} {len(planes)} images ({planes[0].path.name})"


def _series(path: Path) -> list[_Plane]:
    """The files of the one series that a path stands for."""
    if path.is_dir():
        found = [_header(part) for part in sorted(path.rglob("*")) if part.is_file() and is_dicom(part)]
        if not found:
            raise AllpetError(f"{path}: holds no DICOM files; give the folder of a PET or CT series")
    else:
        if not is_dicom(path):
            raise AllpetError(f"{path}: is not a DICOM file (no DICM at byte 128); give a file of a PET or CT series")
        chosen = _header(path)
        with _reading(path):
            uid = text(chosen.data, "SeriesInstanceUID")
            beside = [part for part in sorted(path.parent.iterdir()) if part.is_file() and is_dicom(part)]
            others = [_header(part) for part in beside if not part.samefile(path)] if uid else []
            found = [chosen, *(part for part in others if text(part.data, "SeriesInstanceUID") == uid)]
    with _reading(path):
        series: dict[str, list[_Plane]] = {}
        for plane in filter(_readable, found):
            series.setdefault(text(plane.data, "SeriesInstanceUID"), []).append(plane)
        if not series:
            kinds = sorted({text(plane.data, "Modality") or "?" for plane in found})
            raise AllpetError(f"{path}: holds no PET or CT images but {', '.join(kinds)[:60]}; give a PET or CT series")
        if len(series) > 1:
            labels = [_label(planes) for planes in itertools.islice(series.values(), 12)]
            raise AllpetError(
                f"{path}: holds {len(series)} series: {'; '.join(labels)}; give the path of one file of a series"
            )
        return next(iter(series.values()))


def _same(path: Path, planes: Sequence[_Plane]) -> None:
    """One kind of plane only."""
    first = planes[0]
    if text(first.data, "SOPClassUID") in _MULTI_FRAME or (number(first.data, "NumberOfFrames") or 1) > 1:
        raise AllpetError(f"{first.path}: is multi-frame DICOM, which is not read; save it with one image a file")
    for name in _SAME:
        wanted = text(first.data, name)
        other = next((plane for plane in planes if text(plane.data, name) != wanted), None)
        if other:
            raise AllpetError(
                f"{path}: images differ in {name}: '{wanted}' in {first.path.name}, "
                f"'{text(other.data, name)}' in {other.path.name}; give one series of equal images"
            )
    rows, columns = (number(first.data, name) or 0 for name in ("Rows", "Columns"))
    if not (0 < rows <= _MAX_SIDE and 0 < columns <= _MAX_SIDE):
        raise AllpetError(f"{first.path}: has {rows:g} x {columns:g} pixels; each side must be 1 to {_MAX_SIDE}")
    if (number(first.data, "SamplesPerPixel") or 1) != 1:
        raise AllpetError(f"{first.path}: is a colour image; a PET or CT image has one value a pixel")


def _vector(plane: _Plane, name: str, size: int) -> np.ndarray:
    try:
        value = np.array([float(part) for part in plane.data.get(name) or ()])
    except (TypeError, ValueError):
        value = np.array([])
    if value.shape != (size,) or not np.isfinite(value).all():
        raise AllpetError(f"{plane.path}: {name} is missing or not {size} numbers; it is needed")
    return value


@dataclass(frozen=True)
class _Stack:
    """Ordered planes with the directions of (stack, row, column) as rows of a matrix, steps in mm and the centre."""

    planes: list[_Plane]
    axes: np.ndarray
    steps: tuple[float, float, float]
    centre: np.ndarray


def _stack(path: Path, planes: Sequence[_Plane], picked: bool) -> _Stack:
    first = planes[0]
    cosines = _vector(first, "ImageOrientationPatient", 6)
    along_row, along_column = cosines[:3], cosines[3:]
    norms = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if abs(norms[0] - 1) > 1e-2 or abs(norms[1] - 1) > 1e-2 or abs(along_row @ along_column) > 1e-2:
        raise AllpetError(f"{first.path}: ImageOrientationPatient is no pair of right-angled unit vectors")
    for plane in planes:
        if np.abs(_vector(plane, "ImageOrientationPatient", 6) - cosines).max() > 1e-3:
            raise AllpetError(f"{path}: {plane.path.name} is turned against {first.path.name}; give parallel planes")
    normal = np.cross(along_row, along_column)
    positions = {id(plane): _vector(plane, "ImagePositionPatient", 3) for plane in planes}
    ordered = sorted(planes, key=lambda plane: float(positions[id(plane)] @ normal))
    ordered = _one_frame(path, ordered, [float(positions[id(plane)] @ normal) for plane in ordered], picked, first)
    at = np.array([positions[id(plane)] for plane in ordered])
    row_mm, column_mm = _vector(first, "PixelSpacing", 2)
    if min(row_mm, column_mm) <= 0:
        raise AllpetError(f"{first.path}: PixelSpacing is {row_mm:g} x {column_mm:g} mm; it must be positive")
    step = _plane_mm(path, ordered, at, normal)
    rows, columns = (number(first.data, name) or 0 for name in ("Rows", "Columns"))
    corner = along_row * (columns - 1) / 2 * column_mm + along_column * (rows - 1) / 2 * row_mm
    return _Stack(
        ordered, np.stack([normal, along_column, along_row]), (step, row_mm, column_mm), at.mean(axis=0) + corner
    )


def _one_frame(path: Path, planes: list[_Plane], at: list[float], picked: bool, first: _Plane) -> list[_Plane]:
    """Planes of one time frame: those of the picked file's where a series holds several."""
    doubled = next((k for k in range(1, len(at)) if at[k] - at[k - 1] < 1e-3), None)
    if doubled is None:
        return planes

    def frame(plane: _Plane) -> tuple[str, ...]:
        return tuple(
            text(plane.data, name)
            for name in ("FrameReferenceTime", "AcquisitionDate", "AcquisitionTime", "TriggerTime")
        )

    frames = {frame(plane) for plane in planes}
    if len(frames) > 1 and len(planes) % len(frames) == 0:
        if not picked:
            raise AllpetError(f"{path}: holds {len(frames)} time frames; give the path of one file to read its frame")
        kept = [(plane, z) for plane, z in zip(planes, at, strict=True) if frame(plane) == frame(first)]
        if all(b[1] - a[1] >= 1e-3 for a, b in itertools.pairwise(kept)):
            return [plane for plane, _ in kept]
    a, b = planes[doubled - 1].path.name, planes[doubled].path.name
    raise AllpetError(f"{path}: {a} and {b} are at the same position; give one image a position")


def _plane_mm(path: Path, planes: Sequence[_Plane], at: np.ndarray, normal: np.ndarray) -> float:
    """Distance between planes; every gap must be the same."""
    data = planes[0].data
    stated = [number(data, name) for name in ("SpacingBetweenSlices", "SliceThickness")]
    if len(planes) == 1:
        step = next((abs(value) for value in stated if value), 0.0)
        if step <= 0:
            raise AllpetError(f"{planes[0].path}: a single image needs SliceThickness; it is missing")
        return step
    z = at @ normal
    gaps = np.diff(z)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > max(0.01, 0.01 * usual))
    if odd.size:
        k = int(odd[0])
        a, b = planes[k].path.name, planes[k + 1].path.name
        raise AllpetError(
            f"{path}: planes are {usual:g} mm apart, but {gaps[k]:g} mm between {a} and {b}; copy the whole series"
        )
    wanted = number(data, "NumberOfSlices")
    if text(data, "Modality") == "PT" and wanted and len(planes) < wanted <= 2**15:
        raise AllpetError(f"{path}: holds {len(planes)} of {wanted:g} slices (NumberOfSlices); copy the whole series")
    sideways = np.linalg.norm(np.diff(at, axis=0) - gaps[:, None] * normal, axis=1).max()
    if sideways > max(0.05, 0.02 * usual):
        raise AllpetError(f"{path}: planes are shifted sideways by {sideways:g} mm each (tilted gantry?); untilt them")
    step = float(z[-1] - z[0]) / (len(z) - 1)
    exact = next((abs(value) for value in stated if value and abs(abs(value) - step) < 1e-5), None)
    return exact or round(step, 6)


def _pixels(plane: _Plane) -> np.ndarray:
    """Rescaled values, float64 ``(row, column)``."""
    pydicom = require_pydicom()
    with _Bounded(plane.path) as handle:
        data = pydicom.dcmread(handle)
    shape = (int(data.Rows), int(data.Columns))
    stored = data.get("PixelData") or data.get("FloatPixelData") or data.get("DoubleFloatPixelData")
    if not stored:
        raise AllpetError(f"{plane.path}: has no pixels; copy the file again")
    syntax = pydicom.uid.UID(text(data.file_meta, "TransferSyntaxUID"))
    largest = len(stored) * (64 if syntax == _RLE else 1000 if syntax.is_compressed else 1)
    if shape[0] * shape[1] * (int(data.BitsAllocated) // 8) > largest:
        raise AllpetError(f"{plane.path}: has fewer pixels than {shape[0]} x {shape[1]}; copy the file again")
    if syntax.is_compressed and syntax != _RLE and not _decodable(syntax):
        raise AllpetError(
            f"{plane.path}: is compressed as {syntax.name}; install pylibjpeg[all] or save it uncompressed"
        )
    array = np.asarray(data.pixel_array, np.float64)
    if array.shape != shape:
        raise AllpetError(f"{plane.path}: holds pixels of shape {array.shape}; they must be {shape[0]} x {shape[1]}")
    slope, intercept = number(data, "RescaleSlope"), number(data, "RescaleIntercept")
    if slope is None and text(data, "Modality") == "PT":
        raise AllpetError(f"{plane.path}: RescaleSlope (0028,1053) is missing; without it values have no scale")
    return array * (1.0 if slope is None else slope) + (intercept or 0.0)


def _decodable(syntax: Any) -> bool:
    from pydicom.pixels import get_decoder

    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _to_our_axes(path: Path, array: np.ndarray, stack: _Stack) -> tuple[np.ndarray, list[float], dict[str, str]]:
    """Turn ``(stack, row, column)`` to (towards the feet, posterior, left): to the nearest axes where it is oblique."""
    toward = np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]], float)
    cosine = stack.axes @ toward.T
    turn = max(itertools.permutations(range(3)), key=lambda p: min(abs(cosine[p[k], k]) for k in range(3)))
    angle = math.degrees(math.acos(min(1.0, min(abs(cosine[turn[k], k]) for k in range(3)))))
    if angle > 30:
        raise AllpetError(f"{path}: is oblique by {angle:.0f} degrees; resample it along the patient's axes")
    note = {"oblique, turned by (degrees)": f"{angle:.2f}"} if angle > 0.5 else {}
    array = array.transpose(turn)
    array = np.flip(array, tuple(k for k in range(3) if cosine[turn[k], k] < 0))
    return array.copy(), [stack.steps[turn[k]] for k in range(3)], note


def read_dicom(path: Path | str) -> Image:
    """Read one series of PET or CT images.

    Parameters
    ----------
    path : a folder that holds one series, at any depth, or one file of it, which picks its series (and its time frame)
        among the files of its folder.

    Returns
    -------
    Image in kBq/mL, SUV, counts (CNTS without Philips's factors) or HU, padded to a square where it is none. Values of
    a frame that starts after the time its series is corrected to are taken on to the injection.

    Raises
    ------
    AllpetError : several series, a gap, two images at one position, images that differ, an orientation that is far
        from the patient's axes, a compression that cannot be read, a damaged file, no pydicom.
    """
    path = Path(path)
    require_pydicom()
    planes = _series(path)
    with _reading(path):
        _same(path, planes)
        stack = _stack(path, planes, picked=not path.is_dir())
        headers = [plane.data for plane in stack.planes]
        facts = facts_of(headers)
        unit = unit_of(headers[0])[0]
        first = _pixels(stack.planes[0])  # before room is made for all, so that a damaged size costs nothing
        array = np.empty((len(headers), *first.shape), np.float32)
        for k, plane in enumerate(stack.planes):
            with np.errstate(over="ignore", invalid="ignore"):
                array[k] = (_pixels(plane) if k else first) * (unit_of(plane.data)[1] * facts.factor)
        array, (plane_mm, height, width), note = _to_our_axes(path, array, stack)
        if abs(width - height) > 1e-3 * width:
            raise AllpetError(f"{path}: has pixels of {width:g} x {height:g} mm; they must be square")
        check_finite(path, array)
        shift = centre_of_square(*array.shape[1:])
        array, padded = square(path, array)
        known, sizes = facts.known, (width, plane_mm)
        own = _own_facts(headers[0], sizes) if facts.factor == 1 else None
        if own:
            known, sizes = own
        known["header"] = {**known["header"], **_centre(stack, len(array), sizes, shift), **note, **padded}
        grid = ImageGrid(array.shape[-1], sizes[0])
        return Image(array=torch.from_numpy(array), grid=grid, unit=unit, plane_mm=sizes[1], **known)


def _centre(stack: _Stack, planes: int, sizes: tuple[float, float], shift: tuple[float, float]) -> dict[str, str]:
    """Header key of the image's centre, in NIfTI's axes, where it is not where a centred image has it.

    `shift`: pixels, down and to the right, that the square's centre lies off the image's.
    """
    from allpet.io.nifti import CENTRE, default_centre

    centre = stack.centre * (-1, -1, 1) - np.array([shift[1], shift[0], 0.0]) * sizes[0]
    if np.allclose(centre, default_centre(planes, sizes[1]), rtol=1e-5, atol=1e-3 * sizes[0]):
        return {}
    return {CENTRE: ", ".join(repr(round(float(x), 6)) for x in centre)}


def _own_facts(data: Any, sizes: tuple[float, float]) -> tuple[dict[str, Any], tuple[float, float]] | None:
    """Facts and exact sizes that :func:`allpet.io.dicom_write.write_dicom` put in, None where they do not fit."""
    try:
        stored = json.loads(data.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)[PRIVATE_FACTS].value)
        exact = float(stored["pixel_mm"]), float(stored["plane_mm"])
        if not np.allclose(exact, sizes, rtol=1e-5):
            return None
        known: dict[str, Any] = {"header": {str(key): str(value) for key, value in stored["header"].items()}}
        for part in fields(Acquired):
            value = stored.get(part.name)
            if part.name == "header" or value is None:
                continue
            known[part.name] = float(value) if "float" in str(part.type) else str(value)
            if isinstance(known[part.name], float) and not math.isfinite(known[part.name]):
                return None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return known, exact
