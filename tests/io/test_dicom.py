"""DICOM PET and CT read as SimpleITK reads them, facts by hand, what is written read by others."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.io import kind_of, read, write
from allpet.io.convert import convert, describe
from allpet.scan.core import Image
from allpet.scan.suv import from_suv, suv_factor, to_suv

sitk = pytest.importorskip("SimpleITK")

PET, CT = "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.2"
AXIAL = (1, 0, 0, 0, 1, 0)
Change = Callable[[Dataset, int], None]


def code(value: str, scheme: str = "SCT", meaning: str = "") -> Dataset:
    out = Dataset()
    out.CodeValue, out.CodingSchemeDesignator, out.CodeMeaning = value, scheme, meaning
    return out


def plane(k: int, values: np.ndarray, uid: str, step: float, orientation: tuple[float, ...]) -> Dataset:
    """One PET image as a scanner would write it, 70 kg, 350 MBq of FDG at 12:00, scan at 13:00."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = PET, generate_uid(entropy_srcs=[uid, str(k)]), "PT"
    data.SeriesInstanceUID, data.SeriesNumber, data.SeriesDescription = uid, 4, "PET AC"
    data.StudyInstanceUID, data.InstanceNumber = "1.2.3", 99 - k
    data.SeriesDate = data.AcquisitionDate = "20200102"
    data.SeriesTime = data.AcquisitionTime = "130000.00"
    data.Manufacturer, data.ManufacturerModelName = "ACME", "Ring 1"
    data.PatientWeight, data.PatientSize, data.PatientSex = "70", "1.75", "M"
    data.Units, data.DecayCorrection, data.CorrectedImage = "BQML", "START", ["DECY", "ATTN", "SCAT"]
    data.ActualFrameDuration, data.FrameReferenceTime = "600000", "0"
    item = Dataset()
    item.RadiopharmaceuticalStartTime = "120000.00"
    item.RadionuclideTotalDose, item.RadionuclideHalfLife = "350000000", "6586.2"
    item.RadionuclideCodeSequence = [code("C-111A1", "SRT", "^18^Fluorine")]
    item.Radiopharmaceutical = "FDG -- fluorodeoxyglucose"
    data.RadiopharmaceuticalInformationSequence = [item]
    data.ImageOrientationPatient = list(orientation)
    normal = np.cross(orientation[:3], orientation[3:])
    data.ImagePositionPatient = [f"{x:.6f}" for x in np.array([-7.5, 3.0, 20.0]) + normal * k * step]
    data.PixelSpacing, data.SliceThickness = ["2.5", "2.5"], f"{step:g}"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = values.shape
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.RescaleSlope, data.RescaleIntercept = f"{0.5 + k}", "0"
    data.PixelData = values.astype("<i2").tobytes()
    return data


def save(data: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    data.file_meta = meta
    data.save_as(path, enforce_file_format=True)


def series(
    folder: Path,
    change: Change | None = None,
    n: int = 3,
    size: tuple[int, int] = (5, 5),
    orientation: tuple[float, ...] = AXIAL,
    uid: str = "1.2.3.4",
    step: float = 3.27,
    prefix: str = "",
) -> Path:
    """A series of random values whose files' names and numbers say nothing of their order."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    values = rng.integers(-200, 3000, (n, *size))
    for k, name in enumerate(rng.permutation(n)):
        data = plane(k, values[k], uid, step, orientation)
        if change:
            change(data, k)
        save(data, folder / f"{prefix}{name}.dcm")
    return folder


def every(**attributes: Any) -> Change:
    """Change attributes of every image; those of the injection as ``item__Name``; None deletes."""

    def change(data: Dataset, k: int) -> None:
        for name, value in attributes.items():
            item, _, own = name.partition("item__")
            target = data.RadiopharmaceuticalInformationSequence[0] if own else data
            if value is None:
                delattr(target, own or item)
            else:
                setattr(target, own or item, value)

    return change


def private(group: int, creator: str, element: int, vr: str, value: str) -> Change:
    def change(data: Dataset, k: int) -> None:
        data.private_block(group, creator, create=True).add_new(element, vr, value)

    return change


def both(*changes: Change) -> Change:
    def change(data: Dataset, k: int) -> None:
        for one in changes:
            one(data, k)

    return change


def message(path: Path) -> str:
    with pytest.raises(AllpetError) as raised:
        read(path)
    assert "\n" not in str(raised.value) and str(path) in str(raised.value)
    return str(raised.value)


def make_image(n: int = 3, size: int = 5, unit: str = "kBq/mL", seed: int = 0, **known: Any) -> Image:
    values = np.random.default_rng(seed).normal(3.0, 9.0, (n, size, size)).astype(np.float32)
    facts: dict[str, Any] = {
        "tracer": "FDG",
        "isotope": "18F",
        "injected_mbq": 351.7,
        "weight_kg": 71.3,
        "height_m": 1.68,
        "sex": "F",
        "start_s": 3723.25,
        "duration_s": 900.0,
        "decay_reference": "start",
    }
    return Image(array=values, grid=ImageGrid(size, 2.0863), unit=unit, plane_mm=2.03125, **(facts | known))


# --- planes in space


@pytest.mark.parametrize(
    "orientation",
    [
        AXIAL,
        (-1, 0, 0, 0, -1, 0),  # head first, prone
        (-1, 0, 0, 0, 1, 0),  # feet first, supine
        (1, 0, 0, 0, -1, 0),  # feet first, prone
        (0, 1, 0, 0, 0, -1),  # sagittal
        (1, 0, 0, 0, 0, -1),  # coronal
        (0, -1, 0, 1, 0, 0),  # decubitus
    ],
)
def test_planes_are_turned_to_our_axes_as_simpleitk_turns_them(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    folder = series(tmp_path / "s", n=5, size=(5, 5), orientation=orientation, step=2.5)
    image = read(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    reader.SetOutputPixelType(sitk.sitkFloat64)
    turned = sitk.DICOMOrient(reader.Execute(), "LPI")
    expected = sitk.GetArrayFromImage(turned) / 1000
    assert isinstance(image, Image) and image.unit == "kBq/mL"
    assert np.array_equal(image.array.numpy(), expected.astype(np.float32))
    assert (image.grid.pixel_mm, image.plane_mm) == (2.5, 2.5)
    centre = turned.TransformContinuousIndexToPhysicalPoint([(side - 1) / 2 for side in turned.GetSize()])
    kept = [float(x) for x in image.header["nifti centre (mm)"].split(",")]
    assert np.allclose(kept, np.multiply(centre, (-1, -1, 1)), atol=1e-5)


@pytest.mark.parametrize("size", [(4, 5), (5, 2), (3, 5)])
def test_a_padded_series_stays_where_it_was(tmp_path: Path, size: tuple[int, int]) -> None:
    image = read(series(tmp_path / "s", size=size))
    write(image, tmp_path / "s.nii.gz")
    nifti = nibabel.load(tmp_path / "s.nii.gz")
    first = min((pydicom.dcmread(p) for p in (tmp_path / "s").iterdir()), key=lambda d: -d.ImagePositionPatient[2])
    for row, column in np.ndindex(*size):
        x, y, z = np.add(first.ImagePositionPatient, (2.5 * column, 2.5 * row, 0.0))
        voxel = np.linalg.inv(nifti.affine) @ (-x, -y, z, 1)
        assert np.allclose(voxel, np.rint(voxel), atol=1e-3)
        value = first.pixel_array[row, column] * float(first.RescaleSlope) / 1000
        assert nifti.get_fdata()[tuple(np.rint(voxel).astype(int)[:3])] == pytest.approx(value)


def test_a_point_in_the_patient_is_where_it_was(tmp_path: Path) -> None:
    """Feet first, prone, the hot pixel is the patient's front, left and foot-most of all."""

    def hot(data: Dataset, k: int) -> None:
        values = np.zeros((5, 5), "<i2")
        if k == 2:  # normal (1, 0, 0) x (0, -1, 0) = (0, 0, -1): the last plane is nearest the feet
            values[4, 4] = 100  # the row goes to +x (left), the column to -y (front)
        data.PixelData = values.tobytes()

    image = read(series(tmp_path / "s", hot, orientation=(1, 0, 0, 0, -1, 0)))
    assert [int(k) for k in torch.nonzero(image.array)[0]] == [2, 0, 4]


def test_values_and_sizes(tmp_path: Path) -> None:
    image = read(series(tmp_path / "s", n=4))
    stored = np.random.default_rng(0).integers(-200, 3000, (4, 5, 5))
    by_hand = stored * np.array([0.5, 1.5, 2.5, 3.5])[:, None, None] / 1000
    assert np.allclose(image.array, by_hand[::-1], rtol=1e-7)  # plane 3 has the largest z: the head
    assert image.plane_mm == 3.27 and len(image) == 4
    assert read(next((tmp_path / "s").iterdir())).array.shape == (4, 5, 5)
    rectangle = read(series(tmp_path / "r", size=(3, 5)))
    assert rectangle.array.shape == (3, 5, 5) and rectangle.header["padded to a square from"] == "3 x 5"


def test_ct_in_hounsfield_units(tmp_path: Path) -> None:
    path = Path(get_testdata_file("CT_small.dcm"))
    raw = pydicom.dcmread(path)
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "IM0001").write_bytes(path.read_bytes())
    image = read(tmp_path / "ct" / "IM0001")
    assert kind_of(tmp_path / "ct" / "IM0001") == "image" and image.unit == "HU"
    assert np.array_equal(image.array[0], raw.pixel_array * 1.0 + float(raw.RescaleIntercept))
    assert image.tracer is None and image.weight_kg is None


@pytest.mark.parametrize(("voltage", "slope", "offset"), [(None, 5.10e-6, 4.71e-3), ("82", 3.64e-6, 6.26e-3)])
def test_ct_to_a_mu_map(tmp_path: Path, voltage: str | None, slope: float, offset: float) -> None:
    """Water 0.0096/mm; bone of 1000 HU by the tube voltage: 2000 slope + offset (Carney 2006, table II)."""
    values = np.zeros((5, 5), "<i2")
    values[:, 0], values[:, 1] = -1000, 1000
    as_ct = every(
        SOPClassUID=CT, Modality="CT", KVP=voltage or "", RescaleSlope="1", PixelData=values.tobytes(), BitsStored=16
    )
    series(tmp_path / "ct", as_ct)
    convert(tmp_path / "ct", tmp_path / "mu.nii.gz", to_mu=True)
    mu = read(tmp_path / "mu.nii.gz")
    assert mu.unit == "1/mm"
    assert np.allclose(mu.array[:, :, :3], [0.0, 2000 * slope + offset, 0.0096], rtol=1e-5)
    with pytest.raises(AllpetError, match="only a CT"):
        convert(tmp_path / "mu.nii.gz", tmp_path / "x.hv", to_mu=True)


def test_oblique_planes(tmp_path: Path) -> None:
    def turned(degrees: float) -> tuple[float, ...]:
        a = np.radians(degrees)
        return (float(np.cos(a)), float(np.sin(a)), 0, -float(np.sin(a)), float(np.cos(a)), 0)

    image = read(series(tmp_path / "a", orientation=turned(5)))
    assert image.header["oblique, turned by (degrees)"] == "5.00"
    assert "oblique by 40" in message(series(tmp_path / "b", orientation=turned(40)))


def test_series_that_are_not_whole_or_not_one(tmp_path: Path) -> None:
    folder = series(tmp_path / "gap", n=5)
    z = {path: pydicom.dcmread(path).ImagePositionPatient[2] for path in folder.iterdir()}
    sorted(z, key=lambda path: z[path])[2].unlink()
    assert "3.27 mm apart, but 6.54 mm" in message(folder)
    cut = series(tmp_path / "cut", every(NumberOfSlices=4))
    assert "3 of 4 slices" in message(cut)
    assert "same position" in message(
        series(tmp_path / "two", lambda data, k: k == 2 and setattr(data, "ImagePositionPatient", [-7.5, 3, 23.27]))
    )
    resized = lambda data, k: k == 1 and (setattr(data, "Rows", 4), setattr(data, "PixelData", data.PixelData[:40]))  # noqa: E731
    assert "differ in Rows: '" in message(series(tmp_path / "sizes", resized))
    assert "differ in Units" in message(
        series(tmp_path / "u", lambda data, k: k == 1 and setattr(data, "Units", "GML"))
    )
    assert "is turned against" in message(
        series(tmp_path / "t", lambda data, k: k == 1 and setattr(data, "ImageOrientationPatient", [0, 1, 0, 0, 0, -1]))
    )
    sheared = lambda data, k: setattr(data, "ImagePositionPatient", [0, k * 0.5, k * 3.27])  # noqa: E731
    assert "sideways" in message(series(tmp_path / "gantry", sheared))
    assert "square" in message(series(tmp_path / "pix", every(PixelSpacing=["2.5", "2.0"])))
    assert "ImagePositionPatient is missing" in message(series(tmp_path / "pos", every(ImagePositionPatient=None)))
    assert "RescaleSlope" in message(series(tmp_path / "slope", every(RescaleSlope=None)))
    assert "holds no PET or CT images but MR" in message(
        series(tmp_path / "mr", every(Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))
    )
    assert "multi-frame" in message(series(tmp_path / "multi", every(SOPClassUID="1.2.840.10008.5.1.4.1.1.130")))
    (tmp_path / "empty").mkdir()
    assert "no DICOM files" in message(tmp_path / "empty")
    (tmp_path / "empty" / "x.dcm").write_bytes(b"nothing")
    assert "no DICM" in message(tmp_path / "empty" / "x.dcm")


def test_several_series_are_listed_and_one_is_picked_by_a_file(tmp_path: Path) -> None:
    folder = series(tmp_path / "study")
    series(folder, every(SeriesNumber=7, SeriesDescription="PET NAC", Units="CNTS"), n=2, uid="1.2.3.5", prefix="n")
    text = message(folder)
    assert "2 series" in text and "4 'PET AC' PT 3 images" in text and "7 'PET NAC' PT 2 images" in text
    assert read(folder / "n0.dcm").array.shape == (2, 5, 5) and read(folder / "n0.dcm").unit == "counts"
    assert read(folder / "0.dcm").array.shape == (3, 5, 5)


def test_time_frames_are_picked_by_a_file(tmp_path: Path) -> None:
    folder = series(tmp_path / "dyn", every(FrameReferenceTime="300000"))
    series(folder, every(FrameReferenceTime="900000", AcquisitionTime="131000"), prefix="late")
    assert "2 time frames" in message(folder)
    early, late = read(folder / "0.dcm"), read(folder / "late0.dcm")
    assert (early.start_s, early.decay_reference) == (3600.0, "start")
    # the later frame is corrected to 13:00, an hour after the injection: 2^(60/109.77) = 1.460637 takes it there
    assert (late.start_s, late.decay_reference) == (4200.0, "injection")
    assert torch.allclose(late.array, early.array * 1.460637, rtol=1e-6)
    assert suv_factor(late) * 1.460637 == pytest.approx(suv_factor(early), rel=1e-6) == pytest.approx(0.2921274)


# --- facts and SUV by hand: 350 MBq, 70 kg; 70/350 = 0.2 g/kBq, 2^(60/109.77) = 1.460637


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        # START, 12:00 -> 13:00: 0.2 * 1.460637
        (every(), 0.2921274),
        # ADMIN: 0.2
        (every(DecayCorrection="ADMIN"), 0.2),
        # series made by post-processing at 18:00, acquired at 13:00
        (every(SeriesTime="180000"), 0.2921274),
        # the same with GE's private scan time 12:30: 2^(30/109.77) = 1.208568, * 0.2
        (
            both(every(SeriesTime="180000"), private(0x0009, "GEMS_PETD_01", 0x0D, "DT", "20200102123000.00")),
            0.2417136,
        ),
        # post-processed, a bed from 13:10 to 13:20 with its mean count rate 894.74 s after the reference: the mean
        # over 600 s is reached -ln(0.969082) / (ln 2/6586.2) = 0.0314061/0.000105242 = 298.417 s after 13:10, so the
        # reference is 13:10 + 298.42 s - 894.74 s = 13:00:03.68; 2^(3603.68/6586.2) = 1.461203, * 0.2
        (every(SeriesTime="180000", AcquisitionTime="131000", FrameReferenceTime="894740"), 0.2922406),
        # injected 23:30, scanned 00:30 of the next day: one hour
        (every(SeriesTime="003000", AcquisitionTime="003000", item__RadiopharmaceuticalStartTime="233000"), 0.2921274),
        # the same with full dates; the time of day alone is another
        (
            every(
                SeriesTime="003000",
                AcquisitionTime="003000",
                item__RadiopharmaceuticalStartDateTime="20200101233000.00",
                item__RadiopharmaceuticalStartTime="200000",
            ),
            0.2921274,
        ),
        # dates of injection shifted by an anonymiser: times of day
        (every(item__RadiopharmaceuticalStartDateTime="19000101120000.00"), 0.2921274),
        # 68Ga without a half-life in the file: 2^(60/67.71) = e^(0.886132 * 0.693147) = e^0.614220 = 1.848214, * 0.2
        (
            every(
                item__RadionuclideCodeSequence=[code("35337001", meaning="^68^Gallium")],
                item__RadionuclideHalfLife=None,
                item__Radiopharmaceutical="PSMA-11",
            ),
            0.3696429,
        ),
        # not corrected: 0.2 * 1.460637 / 0.969082 (mean decay over 10 min, see test_suv)
        (every(DecayCorrection="NONE", CorrectedImage=["ATTN"]), 0.3014477),
        # the half-life in minutes instead of s does not fit 18F: that of the isotope is used
        (every(item__RadionuclideHalfLife="109.77"), 0.2921274),
    ],
)
def test_suv_factor_of_a_series(tmp_path: Path, change: Change, factor: float) -> None:
    image = read(series(tmp_path / "s", change))
    assert image.unit == "kBq/mL"
    stored = np.random.default_rng(0).integers(-200, 3000, (3, 5, 5))[0] * 0.5 / 1000  # plane 0 in kBq/mL
    assert np.allclose(to_suv(image).array[-1], stored * factor, rtol=2e-6)


def test_units(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(-200, 3000, (3, 5, 5))[0] * 0.5  # plane 0, slope 0.5

    def first(name: str, change: Change) -> tuple[Image, np.ndarray]:
        image = read(series(tmp_path / name, change))
        return image, image.array[-1].numpy()

    image, values = first("gml", every(Units="GML"))
    assert image.unit == "SUV" and np.allclose(values, stored) and to_suv(image) is image
    # SUV back to kBq/mL at 13:00: / 0.2921274
    assert np.allclose(from_suv(image).array[-1], stored / 0.2921274, rtol=1e-5)
    assert first("lean", every(Units="GML", SUVType="LBMJANMA"))[0].unit == "SUL"
    image, values = first("cnts", every(Units="CNTS"))
    assert image.unit == "counts" and np.allclose(values, stored)
    with pytest.raises(AllpetError, match="counts"):
        to_suv(image)
    philips = "Philips PET Private Group"
    suv = both(every(Units="CNTS"), private(0x7053, philips, 0x00, "DS", "0.001"))
    image, values = first("p0", suv)
    assert image.unit == "SUV" and np.allclose(values, stored * 0.001)
    activity = both(every(Units="CNTS"), private(0x7053, philips, 0x09, "DS", "4.0"))
    image, values = first("p9", activity)
    assert image.unit == "kBq/mL" and np.allclose(values, stored * 4 / 1000)
    assert suv_factor(image) == pytest.approx(0.2921274, rel=1e-6)
    # both: 0.001 g/mL and 4 Bq/mL a count: 0.001/0.004 = 0.25 g/mL for 1 kBq/mL, whatever dose and weight say
    image, values = first("p09", both(suv, activity, every(PatientWeight=None)))
    assert image.unit == "kBq/mL" and np.allclose(to_suv(image).array[-1], stored * 0.001)
    assert suv_factor(image) == pytest.approx(0.25)
    # a factor of 0 is none
    zero = both(every(Units="CNTS"), private(0x7053, philips, 0x00, "DS", "0"))
    assert first("zero", zero)[0].unit == "counts"


def test_facts(tmp_path: Path) -> None:
    image = read(series(tmp_path / "s", every(BodyPartExamined="BRAIN")))
    assert (image.tracer, image.isotope, image.region, image.scanner) == ("FDG", "18F", "brain", "ACME Ring 1")
    assert (image.injected_mbq, image.weight_kg, image.height_m, image.sex) == (350.0, 70.0, 1.75, "M")
    assert (image.start_s, image.duration_s, image.decay_reference) == (3600.0, 600.0, "start")
    shown = describe(tmp_path / "s")
    assert shown["SUV for 1 kBq/mL"] == pytest.approx(0.2921274, rel=1e-6) and shown["injected_mbq"] == 350.0
    beds = read(series(tmp_path / "beds", lambda data, k: setattr(data, "AcquisitionTime", f"13{2 * k:02d}00")))
    assert (beds.start_s, beds.decay_reference) == (3600.0, "start")
    assert suv_factor(beds) == pytest.approx(0.2921274, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (every(PatientWeight=None), "0010,1030"),
        (every(PatientWeight="70000"), "PatientWeight .* 70000; it must be in kg"),
        (every(item__RadionuclideTotalDose=None), "0018,1074"),
        (every(item__RadionuclideTotalDose="350"), "350, too little in Bq; is it in MBq"),
        (every(item__RadionuclideTotalDose="350000"), "too little in Bq"),
        (every(item__RadiopharmaceuticalStartTime=None), "0018,1072"),
        (every(CorrectedImage=["ATTN"]), "lacks DECY"),
        (every(CorrectedImage=["DECY"]), "lacks ATTN"),
        (every(item__RadionuclideCodeSequence=None, item__RadionuclideHalfLife=None), "0018,1075"),
        (every(RadiopharmaceuticalInformationSequence=None), "0018,1074"),
        (lambda data, k: setattr(data, "RadiopharmaceuticalInformationSequence", [Dataset(), Dataset()]), "more than"),
    ],
)
def test_what_suv_lacks_is_named_and_the_image_still_read(tmp_path: Path, change: Change, named: str) -> None:
    image = read(series(tmp_path / "s", change))
    with pytest.raises(AllpetError, match=named) as raised:
        suv_factor(image)
    assert "\n" not in str(raised.value)
    assert str(describe(tmp_path / "s").get("SUV for 1 kBq/mL", "none")).startswith("none")


# --- written series


@settings(max_examples=25)
@given(n=st.integers(1, 4), size=st.integers(1, 6), seed=st.integers(0, 99), scale=st.floats(-30, 30))
def test_what_is_written_is_right_to_half_a_slope(
    tmp_path_factory: pytest.TempPathFactory, n: int, size: int, seed: int, scale: float
) -> None:
    image = make_image(n, size, seed=seed, start_s=None if seed % 2 else 60.0 * seed, header={"study": "one"})
    image = replace(image, array=image.array * 10.0**scale)
    path = tmp_path_factory.mktemp("w") / "x.dicom"
    write(image, path)
    back = read(path)
    largest = image.array.abs().amax((1, 2), keepdim=True).double()
    error = (back.array.double() - image.array.double()).abs()
    assert bool((error <= largest * (0.5 / 32767 + 1e-7)).all())
    assert (back.grid, back.plane_mm, back.unit) == (image.grid, image.plane_mm, image.unit)
    assert back.acquired() == image.acquired()


@pytest.mark.parametrize("reference", ["start", "injection", "none", None])
@pytest.mark.parametrize("unit", ["kBq/mL", "SUV", "SUL", "counts", "counts/mm", "1/mm", "unknown"])
def test_standard_attributes_alone_say_the_same(tmp_path: Path, unit: str, reference: str | None) -> None:
    image = make_image(unit=unit, decay_reference=reference)
    write(image, tmp_path / "x.dicom")
    for path in (tmp_path / "x.dicom").iterdir():
        data = pydicom.dcmread(path)
        data.remove_private_tags()
        data.save_as(path)
    back = read(tmp_path / "x.dicom")
    assert back.unit == unit
    assert torch.allclose(back.array, image.array, atol=float(image.array.abs().max()) / 32767)
    known = back.acquired() | {"header": None, "scanner": None}
    assert known == pytest.approx(image.acquired() | {"header": None, "decay_reference": reference or "none"})
    if unit == "kBq/mL" and reference:
        assert suv_factor(back) == pytest.approx(suv_factor(image), rel=1e-12)


def test_simpleitk_sees_the_same_image_in_dicom_and_nifti(tmp_path: Path) -> None:
    for k, header in enumerate(({}, {"nifti centre (mm)": "10.0, -20.5, 33.0"})):
        image = make_image(4, 6, header=header)
        write(image, tmp_path / f"{k}.dicom")
        write(image, tmp_path / f"{k}.nii.gz")
        nifti = sitk.ReadImage(str(tmp_path / f"{k}.nii.gz"))
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(path) for path in sorted((tmp_path / f"{k}.dicom").iterdir())])
        dicom = reader.Execute()
        for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert np.allclose(getattr(dicom, name)(), getattr(nifti, name)(), atol=1e-5), name
        values = sitk.GetArrayFromImage(dicom) / 1000
        assert np.allclose(values, sitk.GetArrayFromImage(nifti), atol=float(image.array.abs().max()) / 65000)
        found = reader.GetGDCMSeriesFileNames(str(tmp_path / f"{k}.dicom"))
        assert len(found) == 4
        reader.SetFileNames(found)
        back = sitk.DICOMOrient(reader.Execute(), "LPI")
        assert np.allclose(sitk.GetArrayFromImage(back) / 1000, values)
        assert np.allclose(back.GetOrigin(), nifti.GetOrigin(), atol=1e-5)


def test_attributes_that_pet_must_have(tmp_path: Path) -> None:
    """Types 1 and 2 of the modules of a PET image (PS3.3, A.21): there; type 1: not empty."""
    write(make_image(), tmp_path / "x.dicom")
    data = pydicom.dcmread(tmp_path / "x.dicom" / "00002.dcm")
    filled = """SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality SeriesDate SeriesTime Units
        CountsSource SeriesType NumberOfSlices DecayCorrection FrameOfReferenceUID PixelSpacing ImageOrientationPatient
        ImagePositionPatient ImageType SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored
        HighBit PixelRepresentation PixelData RescaleIntercept RescaleSlope FrameReferenceTime ActualFrameDuration
        ImageIndex DecayFactor"""
    present = """PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID
        AccessionNumber SeriesNumber CorrectedImage CollimatorType RadiopharmaceuticalInformationSequence Manufacturer
        PositionReferenceIndicator InstanceNumber SliceThickness AcquisitionDate AcquisitionTime"""
    for name in filled.split():
        assert name in data and not data[name].is_empty, name
    for name in present.split():
        assert name in data, name
    assert "allpet" in data.SeriesDescription and "research only" in data.SeriesDescription
    assert data.RescaleIntercept == 0 and data.PixelRepresentation == 1
    # decay over 900 s of 18F: x = ln 2 * 900/6586.2 = 0.0947184; x/(1 - e^-x) = 0.0947184/0.0903709 = 1.048107
    assert data.DecayFactor == pytest.approx(1.048107, rel=1e-5)
    uids = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "x.dicom").iterdir()}
    assert len(uids) == 3 and all(uid.startswith("2.25.") and uid.is_valid for uid in uids)
    write(make_image(), tmp_path / "same.dicom")
    write(make_image(seed=1), tmp_path / "other.dicom")
    assert pydicom.dcmread(tmp_path / "same.dicom" / "00002.dcm").SOPInstanceUID == data.SOPInstanceUID
    assert pydicom.dcmread(tmp_path / "other.dicom" / "00002.dcm").SeriesInstanceUID != data.SeriesInstanceUID


def test_only_our_own_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, folder = make_image(), tmp_path / "x.dicom"
    write(image, folder)
    write(make_image(2), folder)
    assert len(list(folder.iterdir())) == 2
    (tmp_path / "new").mkdir()
    write(image, tmp_path / "new")
    foreign = series(tmp_path / "foreign")
    with pytest.raises(AllpetError, match="allpet did not write"):
        write(image, foreign)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(AllpetError, match=r"notes\.txt"):
        write(image, folder)
    (folder / "notes.txt").unlink()
    for unit, value in (("HU", 1.0), ("kBq/mL", float("inf"))):
        with pytest.raises(AllpetError, match=r"HU|infinite"):
            write(replace(image, unit=unit, array=torch.full((1, 5, 5), value)), folder)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Dataset, "save_as", full)
    for target in (folder, tmp_path / "y.dicom"):
        with pytest.raises(AllpetError, match="No space left"):
            write(image, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign", "new", "x.dicom"]
    assert len(list(folder.iterdir())) == 2


def test_convert_there_and_back(tmp_path: Path) -> None:
    image = make_image()
    write(image, tmp_path / "a.nii.gz")
    write(image, tmp_path / "a.hv")
    for ending in ("nii.gz", "hv"):
        convert(tmp_path / f"a.{ending}", tmp_path / f"{ending}.dicom")
        convert(tmp_path / f"{ending}.dicom", tmp_path / f"back.{ending}")
        back = read(tmp_path / f"back.{ending}")
        assert torch.allclose(back.array, image.array, atol=float(image.array.abs().max()) / 65000)
        assert (back.grid, back.plane_mm, back.unit) == (image.grid, image.plane_mm, image.unit)
        assert suv_factor(back) == pytest.approx(suv_factor(image))
    with pytest.raises(AllpetError, match="no sinogram"):
        convert(tmp_path / "a.hv", tmp_path / "x.hs")


# --- identity, compression, damage

IDENTIFYING = """PatientName PatientID PatientBirthDate PatientAddress PatientComments OtherPatientIDs PatientAge
    EthnicGroup Occupation PatientTelephoneNumbers MilitaryRank PatientMotherBirthName AccessionNumber StudyID
    StudyDescription SeriesDescription ProtocolName ReferringPhysicianName PerformingPhysicianName OperatorsName
    NameOfPhysiciansReadingStudy RequestingPhysician InstitutionName InstitutionAddress InstitutionalDepartmentName
    StationName DeviceSerialNumber ImageComments AdmissionID StudyComments AdditionalPatientHistory
    PerformedProcedureStepDescription RequestedProcedureDescription RequestAttributesSequence StudyInstanceUID
    SeriesInstanceUID SOPInstanceUID FrameOfReferenceUID StudyDate SeriesDate AcquisitionDate ContentDate
    PerformedProcedureStepStartDate StudyTime ContentTime""".split()


def test_identity_never_leaves_the_input(tmp_path: Path) -> None:
    markers: set[str] = {"ZZNAME0"}

    def mark(data: Dataset, k: int) -> None:
        for number, name in enumerate(IDENTIFYING):
            vr = pydicom.datadict.dictionary_VR(name)
            if vr == "SQ":
                data.add_new(name, "SQ", [code("ZZNAME0", meaning="ZZNAME0")])
                continue
            own = 77310 + number
            value = {"DA": f"19{number:02d}0317", "TM": "031733", "UI": f"1.2.{own}8841", "AS": "077Y"}.get(vr)
            value = value or f"ZZNAME{own}"
            if name == "SOPInstanceUID":
                value += f".{k}"
            if name == "AcquisitionDate":
                value = data.SeriesDate
            setattr(data, name, value)
            markers.add(value if name != "SOPInstanceUID" else f"1.2.{own}8841")
        data.private_block(0x0029, "VENDOR", create=True).add_new(0x01, "LO", "ZZNAME0")
        item = data.RadiopharmaceuticalInformationSequence[0]
        item.Radiopharmaceutical = "FDG ZZNAME0"

    folder = series(tmp_path / "in", mark)
    image = read(folder)
    assert image.tracer == "FDG"
    write(image, tmp_path / "a.hv")
    write(image, tmp_path / "a.nii.gz")
    write(image, tmp_path / "a.dicom")
    files = [path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents]
    assert len(files) == 6
    raw = {path.name: path.read_bytes() for path in files}
    raw["a.nii.gz"] = gzip.decompress(raw["a.nii.gz"])
    raw["facts"] = repr(describe(tmp_path / "a.dicom")).encode()
    markers -= {"077Y"}  # short enough to turn up by chance
    for name, content in raw.items():
        assert not [marker for marker in markers if marker.encode() in content], name


def test_keys_that_name_a_person_do_not_get_into_dicom(tmp_path: Path) -> None:
    write(
        make_image(header={"patient name": "ZZNAME0", "patient ID": "ZZNAME0", "filter": "none"}), tmp_path / "x.dicom"
    )
    assert not [path for path in (tmp_path / "x.dicom").iterdir() if b"ZZNAME0" in path.read_bytes()]
    assert read(tmp_path / "x.dicom").header == {"filter": "none"}


def test_compression(tmp_path: Path) -> None:
    folder = series(tmp_path / "s")
    plain = read(folder)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(path)
    assert torch.equal(read(folder).array, plain.array)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = JPEGLSLossless
        data.save_as(path)
    with pytest.raises(AllpetError, match=r"JPEG-LS.*pylibjpeg|not readable as DICOM"):
        read(folder)
    packed = pydicom.dcmread(get_testdata_file("image_dfl.dcm"))
    assert packed.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert "deflated" in message(Path(get_testdata_file("image_dfl.dcm")))


def test_without_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series(tmp_path / "s", n=1)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    for attempt in (lambda: read(tmp_path / "s"), lambda: write(make_image(), tmp_path / "x.dicom")):
        with pytest.raises(AllpetError, match=r"pip install 'allpet\[dicom\]'"):
            attempt()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, bytes]]:
    folder = series(tmp_path_factory.mktemp("fuzz") / "s", n=2)
    return [(path, path.read_bytes()) for path in sorted(folder.iterdir())]


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_files(whole: list[tuple[Path, bytes]], data: st.DataObject) -> None:
    for path, content in whole:
        path.write_bytes(content)
    path, content = whole[data.draw(st.integers(0, 1))]
    raw = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(128, len(raw) - 1))] = data.draw(st.integers(0, 255))
    what = data.draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
    at, width = data.draw(st.integers(0, len(raw))), data.draw(st.integers(1, 40))
    if what == "cut":
        del raw[at:]
    elif what == "insert":
        raw[at:at] = data.draw(st.binary(max_size=40))
    elif what == "drop":
        del raw[at : at + width]
    path.write_bytes(raw)
    for source in (path, path.parent):
        try:
            assert isinstance(read(source), Image)
        except AllpetError as error:
            assert "\n" not in str(error)


def test_no_room_is_made_for_what_a_damaged_length_claims(tmp_path: Path) -> None:
    """4 GiB of pixels, or planes of 4000 x 4000, in a file of 1 kB."""
    folder = series(tmp_path / "s", n=2)
    path = next(folder.iterdir())
    whole = path.read_bytes()
    pixels = whole.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
    rows = whole.index(b"\x28\x00\x10\x00US") + 8
    for start, claimed in ((pixels, b"\xfe\xff\xff\xff"), (rows, b"\xa0\x0f")):
        path.write_bytes(whole[:start] + claimed + whole[start + len(claimed) :])
        tracemalloc.start()
        with contextlib.suppress(AllpetError):  # pixels of a wrong length are still all there
            read(folder)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20
