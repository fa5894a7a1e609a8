"""An :class:`Image` as a DICOM PET series: a folder with one file a plane.

Values are 16-bit with one scale a plane, ``slope = max|value| / 32767``, so each is right to half a slope of its plane.
Nobody is named: identifiers are made from the content, dates are fictitious (the injection at noon of 1 January 2000)
and only the differences between them mean something.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import shutil
import tempfile
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.io.acquired import check_position
from allpet.io.dicom import PRIVATE_CREATOR, PRIVATE_FACTS, PRIVATE_GROUP, require_pydicom
from allpet.io.dicom_facts import ISOTOPE_CODES
from allpet.io.files import part_of
from allpet.io.images import UNKNOWN_UNIT
from allpet.scan.core import Acquired, Image
from allpet.scan.corrected import ATTENUATION, BACKGROUND, CORRECTED, corrected_for
from allpet.scan.suv import CORRECTED_KEY, UNITS, half_life_s, mean_decay
from allpet.scan.units import ACTIVITY, COUNTS, MU, UNCALIBRATED

_UNITS: dict[str, tuple[str, float, str | None]] = {
    ACTIVITY: ("BQML", 1e3, None),
    UNITS["weight"]: ("GML", 1.0, "BW"),
    UNITS["lean"]: ("GML", 1.0, "LBMJANMA"),
    UNITS["lean-james"]: ("GML", 1.0, "LBMJAMES128"),
    UNITS["surface"]: ("CM2ML", 1.0, "BSA"),
    COUNTS: ("CNTS", 1.0, None),
    UNCALIBRATED: ("PROPCNTS", 1.0, None),
    MU: ("1CM", 10.0, None),
    UNKNOWN_UNIT: ("NONE", 1.0, None),
}
"""Unit: DICOM's unit, what to multiply by, SUV type."""
_PERSONAL = re.compile(r"\b(name|id|birth\w*|physician|operator|institution|address|accession|date|comments?)\b")
_INJECTION = datetime(2000, 1, 1, 12)
_LARGEST = 32767
_IMPLEMENTATION = "2.25.230039705418728085940297014676907125508"


def _refuse(folder: Path) -> None:
    """A folder is replaced only where it is empty or one of ours."""
    from allpet.io.dicom import is_dicom

    if not folder.parent.is_dir():
        raise AllpetError(f"{folder}: folder '{folder.parent}' does not exist; create it first")
    if not folder.exists():
        return
    pydicom = require_pydicom()
    for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
        if path.is_file() and is_dicom(path):
            try:
                data = pydicom.dcmread(path, stop_before_pixels=True)
                data.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)
                continue
            except Exception:  # damaged, or somebody else's
                pass
        raise AllpetError(f"{folder}: holds '{path.name}', which allpet did not write; name a new or empty folder")


def _dates(image: Image) -> tuple[datetime, datetime]:
    """Fictitious times of injection and frame."""
    start = image.start_s or 0.0
    if not abs(start) < 1e8:
        raise AllpetError(f"a frame that starts {start:g} s after the injection cannot be written as DICOM")
    return _INJECTION, _INJECTION + timedelta(seconds=start)


def _decay(image: Image) -> tuple[str, float | None, float]:
    """DecayCorrection, DecayFactor and time of the mean count rate after the frame's start in s."""
    duration = image.duration_s or 0.0
    try:
        half_life = half_life_s(image)
    except AllpetError:
        half_life = 0.0
    mean = mean_decay(half_life, duration) if half_life else 1.0
    rate_s = -math.log(mean) * half_life / math.log(2) if half_life and mean < 1 else duration / 2
    if image.decay_reference == "start":
        return "START", 1 / mean, rate_s
    if image.decay_reference == "injection":
        exponent = (image.start_s or 0.0) / half_life if half_life else 0.0
        return "ADMIN", 2.0 ** min(exponent, 100.0) / mean, rate_s
    return "NONE", None, rate_s


def _code(value: str, scheme: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _isotope(image: Image) -> Any:
    """The item of RadiopharmaceuticalInformationSequence."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.Radiopharmaceutical = (image.tracer or "")[:64]
    item.RadionuclideCodeSequence = []
    if image.isotope in ISOTOPE_CODES:
        sct, _, meaning = ISOTOPE_CODES[image.isotope]
        item.RadionuclideCodeSequence = [_code(sct, "SCT", meaning)]
    try:
        item.RadionuclideHalfLife = _ds(half_life_s(image))
    except AllpetError:
        pass
    if image.injected_mbq is not None:
        item.RadionuclideTotalDose = _ds(image.injected_mbq * 1e6)
    if image.start_s is not None:
        injected, _ = _dates(image)
        item.RadiopharmaceuticalStartTime = injected.strftime("%H%M%S.%f")
        item.RadiopharmaceuticalStartDateTime = injected.strftime("%Y%m%d%H%M%S.%f")
    return item


def _ds(value: float) -> str:
    """Decimal string of at most 16 characters, as exact as these allow."""
    from pydicom.valuerep import format_number_as_ds

    return str(format_number_as_ds(float(value)))


def _private(image: Image) -> str:
    """JSON of everything known, to the bit, without keys that name a person."""
    from allpet.io.nifti import CENTRE

    kept = {
        str(key): str(value)
        for key, value in image.header.items()
        if key != CENTRE and not _PERSONAL.search(str(key).lower())
    }
    known = {part.name: getattr(image, part.name) for part in fields(Acquired)} | {"header": kept}
    return json.dumps({"pixel_mm": image.grid.pixel_mm, "plane_mm": image.plane_mm, **known}, default=str)


def _corrected(image: Image) -> str:
    """What DICOM calls the corrections that the image says it has; attenuation where it says nothing."""
    if CORRECTED not in image.header:
        return "ATTN"
    found = corrected_for(image)
    words = {"ATTN": {ATTENUATION}, "SCAT": {BACKGROUND, "scatter"}, "RAN": {BACKGROUND, "randoms"}}
    return ", ".join(word for word, any_of in words.items() if any_of & found)


def _common(image: Image, uid: Any) -> Any:
    """Attributes that all planes share."""
    from pydicom.dataset import Dataset
    from pydicom.uid import PositronEmissionTomographyImageStorage

    import allpet

    data = Dataset()
    units, _, suv_type = _UNITS[image.unit]
    decay, factor, rate_s = _decay(image)
    _, start = _dates(image)
    # patient and study: pseudonyms made from the content
    data.PatientName, data.PatientID = "ALLPET^RESEARCH", f"allpet-{uid('patient')[-8:]}"
    data.PatientBirthDate, data.PatientSex = "", image.sex or ""
    data.PatientIdentityRemoved, data.DeidentificationMethod = "YES", "allpet: whitelist of technical facts"
    if image.weight_kg is not None:
        data.PatientWeight = _ds(image.weight_kg)
    if image.height_m is not None:
        data.PatientSize = _ds(image.height_m)
    data.StudyInstanceUID, data.StudyID = uid("study"), ""
    data.StudyDate, data.StudyTime = start.strftime("%Y%m%d"), start.strftime("%H%M%S.%f")
    data.ReferringPhysicianName, data.AccessionNumber = "", ""
    # series
    data.SOPClassUID, data.Modality = PositronEmissionTomographyImageStorage, "PT"
    data.SeriesInstanceUID, data.SeriesNumber = uid("series"), 1
    data.SeriesDescription = f"allpet {image.tracer or 'PET'} - research only"[:64]
    data.SeriesDate, data.SeriesTime = data.StudyDate, data.StudyTime
    data.AcquisitionDate, data.AcquisitionTime = data.StudyDate, data.StudyTime
    data.ContentDate, data.ContentTime = data.StudyDate, data.StudyTime
    data.PatientPosition, data.Laterality = "HFS", ""
    data.Manufacturer, data.ManufacturerModelName = "allpet", ""
    data.SoftwareVersions = allpet.__version__
    data.DerivationDescription = "Written by allpet, for research only, not for diagnosis"
    data.Units, data.CountsSource, data.SeriesType = units, "EMISSION", ["STATIC", "IMAGE"]
    if suv_type:
        data.SUVType = suv_type
    data.NumberOfSlices, data.CollimatorType = len(image), "NONE"
    listed = str(image.header.get(CORRECTED_KEY, _corrected(image) if units in ("BQML", "GML", "CM2ML") else ""))
    corrected = [part for part in re.split(r"[,\s\\]+", listed) if re.fullmatch(r"[A-Z0-9]{2,8}", part)]
    corrected = [part for part in corrected if part != "DECY"] + (["DECY"] if decay != "NONE" else [])
    data.CorrectedImage, data.DecayCorrection = corrected or "", decay
    if factor is not None:
        data.DecayFactor = _ds(factor)
    data.DoseCalibrationFactor, data.ScatterFractionFactor, data.DeadTimeFactor = "", "", ""
    data.RadiopharmaceuticalInformationSequence = [_isotope(image)]
    # image
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = uid("frame"), ""
    data.FrameReferenceTime = _ds(rate_s * 1e3)
    data.ActualFrameDuration = str(round((image.duration_s or 0.0) * 1e3))
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows = data.Columns = image.grid.size
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelSpacing = [_ds(image.grid.pixel_mm)] * 2
    data.SliceThickness = data.SpacingBetweenSlices = _ds(image.plane_mm)
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.RescaleIntercept, data.BurnedInAnnotation = "0", "NO"
    data.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True).add_new(PRIVATE_FACTS, "UT", _private(image))
    return data


def _put_plane(data: Any, values: np.ndarray, position: np.ndarray, index: int, uid: Any) -> None:
    """Set the attributes that are one plane's own."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    largest = float(np.abs(values).max(initial=0.0))
    slope = (float(_ds(largest / _LARGEST)) if largest > 0 else 0.0) or 1.0
    stored = np.clip(np.rint(values / slope), -_LARGEST, _LARGEST).astype("<i2")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, uid(f"plane {index}")
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, UID(_IMPLEMENTATION)
    meta.ImplementationVersionName = "ALLPET"
    data.file_meta, data.SOPInstanceUID = meta, meta.MediaStorageSOPInstanceUID
    data.InstanceNumber = data.ImageIndex = index + 1
    data.ImagePositionPatient = [_ds(x) for x in position]
    data.RescaleSlope = _ds(slope)
    data.SmallestImagePixelValue, data.LargestImagePixelValue = int(stored.min()), int(stored.max())
    data.WindowCenter, data.WindowWidth = _ds(largest / 2), _ds(largest or 1.0)
    data.PixelData = stored.tobytes()


def write_dicom(image: Image, folder: Path | str) -> None:
    """Write a PET series into a folder, whole or not at all; a series that allpet wrote is replaced.

    Parameters
    ----------
    image : in kBq/mL (BQML), SUV (GML, CM2ML), counts (CNTS), 1/mm (1CM) or an unknown unit (NONE). Keys of the header
        that may name a person are left out.

    Raises
    ------
    AllpetError : another unit, values that are not finite, a folder that holds something else or cannot be written, no
        pydicom.
    """
    folder = Path(folder)
    check_position(image, folder)
    require_pydicom()
    if image.unit not in _UNITS:
        raise AllpetError(f"{folder}: unit '{image.unit}' cannot be DICOM PET; known are {', '.join(_UNITS)}")
    _refuse(folder)
    array = image.array.detach().cpu().numpy()
    if not np.isfinite(array).all():
        raise AllpetError(f"{folder}: the image holds NaN or infinite values; every value must be finite")
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes())
    digest.update((_private(image) + image.unit + repr(_origin(image).tolist())).encode())

    def uid(name: str) -> str:
        """UUID-derived identifier (PS3.5, B.2) of version 8, from the content."""
        number = int.from_bytes(hashlib.sha256(digest.digest() + name.encode()).digest()[:16], "big")
        number = number & ~(0xF << 76) & ~(0x3 << 62) | (0x8 << 76) | (0x2 << 62)
        return f"2.25.{number}"

    common, first = _common(image, uid), _origin(image)
    part = Path(tempfile.mkdtemp(prefix=part_of(folder), suffix=".part", dir=folder.parent))
    try:
        for k, values in enumerate(array):
            position = first - (0, 0, k * image.plane_mm)
            _put_plane(common, values.astype(np.float64) * _UNITS[image.unit][1], position, k, uid)
            plane = io.BytesIO()  # pydicom wraps what a disk says in a traceback
            common.save_as(plane, enforce_file_format=True)
            (part / f"{k + 1:05d}.dcm").write_bytes(plane.getbuffer())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o777 & ~umask)
        _put(part, folder)
    except OSError as error:
        raise AllpetError(f"{folder}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _put(part: Path, folder: Path) -> None:
    """Rename the new folder to its place; an old one goes aside first and comes back if that fails."""
    if not folder.exists():
        os.replace(part, folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
    os.replace(folder, aside / "old")
    try:
        os.replace(part, folder)
    except OSError:
        os.replace(aside / "old", folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _origin(image: Image) -> np.ndarray:
    """Centre of the first pixel of plane 0 in DICOM's patient axes in mm."""
    from allpet.io.nifti import position_of

    half = (image.grid.size - 1) / 2 * image.grid.pixel_mm
    x, y, z = position_of(image)
    return np.array([-x - half, -y - half, z + (len(image) - 1) / 2 * image.plane_mm])
