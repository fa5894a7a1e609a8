"""Who was scanned stays in the input: no tag of a DICOM series, and no name of its folder, is in anything written."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from allpet.cli import main
from allpet.geometry import ImageGrid
from allpet.io import write
from allpet.io.regions import write_regions
from allpet.mask import Region
from allpet.scan.core import Image
from allpet.scan.simulate import simulate

PERSONAL = """PatientName PatientID PatientAddress PatientComments OtherPatientIDs EthnicGroup Occupation
    PatientTelephoneNumbers PatientMotherBirthName AccessionNumber StudyID StudyDescription SeriesDescription
    ProtocolName ReferringPhysicianName PerformingPhysicianName OperatorsName NameOfPhysiciansReadingStudy
    RequestingPhysician
    InstitutionName InstitutionAddress InstitutionalDepartmentName StationName DeviceSerialNumber ImageComments
    AdmissionID StudyComments AdditionalPatientHistory PerformedProcedureStepDescription RequestedProcedureDescription
    PatientBirthName IssuerOfPatientID ResponsiblePerson PatientInsurancePlanCodeSequence""".split()
UID, DATE = "1.2.840.77310.8841", "19310317"


def series(folder: Path, modality: str = "PT") -> None:
    """A series in which every tag about a person or a place holds a word of its own."""
    values = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 2.0, (3, 24, 24)).astype(np.float32))
    known = {"tracer": "FDG", "isotope": "18F", "weight_kg": 70.0, "injected_mbq": 350.0, "start_s": 3600.0}
    known |= {"duration_s": 600.0, "decay_reference": "start"}
    write(Image(values, ImageGrid(24, 10.0), "kBq/mL", 8.0, **known), folder.with_suffix(".dicom"))
    os.replace(folder.with_suffix(".dicom"), folder)
    for k, file in enumerate(sorted(folder.iterdir())):
        data = pydicom.dcmread(file)
        for number, name in enumerate(PERSONAL):
            if pydicom.datadict.dictionary_VR(name) != "SQ":
                setattr(data, name, f"ZZTOP{number}")
            else:
                item = pydicom.Dataset()
                item.CodeValue = item.CodeMeaning = f"ZZTOP{number}"
                setattr(data, name, [item])
        data.PatientBirthDate = data.StudyDate = data.ContentDate = DATE
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = UID, f"{UID}.1", f"{UID}.2"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{UID}.3.{k}"
        data.private_block(0x0029, "ZZTOPVENDOR", create=True).add_new(0x01, "LO", "ZZTOPPRIVATE")
        if modality == "CT":
            data.Modality = "CT"
            data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            data.RescaleIntercept, data.RescaleSlope, data.RescaleType, data.KVP = "-1000", "0.03", "HU", "120"
            del data.Units, data.RadiopharmaceuticalInformationSequence
        data.save_as(folder / f"ZZTOPFILE{k}.dcm")
        file.unlink()


def told(path: Path) -> Iterator[bytes]:
    """Every form in which a file's bytes may speak: as they are, unpacked, and what is packed inside of them."""
    data = path.read_bytes()
    yield data
    yield data.replace(b"\0", b"")
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for name in packed.namelist():
                yield packed.read(name)
    at = data.find(b"\x1f\x8b", 1)
    while at >= 0:  # gzip inside of something else
        try:
            yield zlib.decompressobj(31).decompress(data[at:])
        except zlib.error:
            pass
        at = data.find(b"\x1f\x8b", at + 1)


def test_nothing_of_a_person_is_in_what_any_command_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, out = tmp_path / "in", tmp_path / "out"
    given.mkdir(), out.mkdir()
    pet, ct = given / "ZZTOPFOLDER DOE", given / "ZZTOPCT"
    series(pet), series(ct, "CT")
    data = simulate(3, region="brain", task="low-dose", dose_fraction=0.2, views=32, bins=32, background="quick")
    write(data.scan(), given / "scan.hs")
    hot = np.zeros((3, 32, 32))
    hot[1, 14:18, 14:18] = 1.0
    write_regions([Region.from_mask("hot", hot)], given / "roi.json")
    monkeypatch.chdir(out)
    for arguments in (
        ["convert", pet, "a.hv"],
        ["convert", pet, "a.nii.gz"],
        ["convert", pet / "ZZTOPFILE0.dcm", "a.dicom"],
        ["convert", pet, "suv.nii.gz", "--to-suv"],
        ["convert", "a.dicom", "again.hv"],
        ["convert", ct, "mu.nii.gz", "--to-mu"],
        ["convert", ct, "ct.hv"],
        ["recon", given / "scan.hs", "--out", "recon.nii.gz", "--iterations", "1", "--mumap", "mu.nii.gz"],
        ["apply", "attenuation", given / "scan.hs", "--out", "ac.zarr", "--ct", "mu.nii.gz", "--samples", "0"],
        ["apply", "low-dose", given / "scan.hs", "--out", "marked.hs", "--roi", given / "roi.json", "--images"],
        ["attend", given / "scan.hs", "--out", "attended", "--roi", given / "roi.json"],
    ):
        assert main([str(word) for word in arguments]) == 0, arguments
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".hv", ".v", ".gz", ".dcm", ".hs", ".s", ".json", ".jsonl", ".html"}
    words = [b"ZZTOP", UID.encode(), DATE.encode()]
    for path in files:
        assert "ZZTOP" not in str(path.relative_to(tmp_path))
        for content in told(path):
            assert not [word for word in words if word in content], path
    assert b'"command": "allpet convert DICOM a.hv"' in (out / "a.hv").read_bytes()


def test_the_words_looked_for_are_in_the_input(tmp_path: Path) -> None:
    series(tmp_path / "ZZTOPFOLDER")
    content = b"".join(path.read_bytes() for path in (tmp_path / "ZZTOPFOLDER").iterdir())
    assert all(word in content for word in (b"ZZTOP0", b"ZZTOPPRIVATE", UID.encode(), DATE.encode()))
