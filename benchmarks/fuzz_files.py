"""One small whole file of each format, for :mod:`fuzz_readers` to damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def _scan(ring: bool = False) -> Any:
    import torch

    from allpet.geometry import ParallelBeam, RingBeam
    from allpet.scan.core import Scan

    beam = RingBeam(12, 15, 300.0, 4) if ring else ParallelBeam(12, 15, 2.05)
    values = torch.from_numpy(np.random.default_rng(0).poisson(20, (3, *beam.shape)).astype(np.float32))
    return Scan(
        values,
        beam,
        tracer="FDG",
        isotope="18F",
        region="brain",
        duration_s=60.0,
        start_s=3600.0,
        header={"a key": "b"},
    )


def _image() -> Any:
    import torch

    from allpet.geometry import ImageGrid
    from allpet.scan.core import Image

    values = np.random.default_rng(0).gamma(1.0, 3.0, (3, 16, 16)).astype(np.float32)
    return Image(torch.from_numpy(values), ImageGrid(16, 2.05), "kBq/mL", 3.0, tracer="FDG", weight_kg=70.0)


def interfile(folder: Path) -> Path:
    """An arc-corrected sinogram with a factor beside it."""
    from allpet.io import write

    scan = _scan()
    scan.background = scan.sinogram * 0.1
    write(scan, folder / "scan.hs")
    return folder / "scan.hs"


def ring(folder: Path) -> Path:
    """A raw ring sinogram."""
    from allpet.io import write

    write(_scan(ring=True), folder / "scan.hs")
    return folder / "scan.hs"


def interfile_image(folder: Path) -> Path:
    """An Interfile image."""
    from allpet.io import write

    write(_image(), folder / "image.hv")
    return folder / "image.hv"


def nifti(folder: Path) -> Path:
    """An unpacked NIfTI image."""
    from allpet.io import write

    write(_image(), folder / "image.nii")
    return folder / "image.nii"


def nifti_gz(folder: Path) -> Path:
    """A packed NIfTI image; most cases are damaged inside and packed again."""
    from allpet.io import write

    write(_image(), folder / "image.nii.gz")
    return folder / "image.nii.gz"


def list_mode(folder: Path) -> Path:
    """List mode with its header."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 4084 * 252 * 344, 500, np.uint32) | rng.choice([0, 1 << 30], 500).astype(np.uint32)
    words[::50] = (1 << 31) + np.arange(10)
    (folder / "events.l").write_bytes(words.astype("<u4").tobytes())
    (folder / "events.hdr").write_text(
        "!INTERFILE:=\n!originating system:=2008\nname of data file:=events.l\n!data offset in bytes:=0\n"
        "%study date (yyyy:mm:dd):=2017:03:27\n%study time (hh:mm:ss GMT+00:00):=17:00:35\nisotope name:=F-18\n"
        "%tracer injection date (yyyy:mm:dd):=2017:03:27\n%tracer injection time (hh:mm:ss GMT+00:00):=16:07:00\n"
        "tracer activity at time of injection (Bq):=4.65e+007\n%axial compression:=1\nnumber of rings:=64\n"
        "%maximum ring difference:=60\n%number of views:=252\n%total listmode word counts:=500\n"
    )
    return folder / "events.hdr"


def dicom(folder: Path) -> Path:
    """A DICOM series."""
    from allpet.io import write

    write(_image(), folder / "series.dicom")
    return folder / "series.dicom"


def petsird(folder: Path) -> Path:
    """A ring of 24 elements and 2 rings with efficiencies and events."""
    import petsird as p

    def turn(angle: float, *shift: float) -> Any:
        c, s = np.cos(angle), np.sin(angle)
        matrix = np.array([[c, -s, 0, shift[0]], [s, c, 0, shift[1]], [0, 0, 1, shift[2]]], np.float32)
        return p.RigidTransformation(matrix=matrix)

    corners = [p.Coordinate(c=np.array(c, np.float32)) for c in np.ndindex(2, 2, 2)]
    elements = p.ReplicatedBoxSolidVolume(object=p.BoxSolidVolume(shape=p.BoxShape(corners=corners)))
    elements.transforms += [turn(0, 100, 25 * k, 4 * z) for k in (-0.5, 0.5) for z in (0, 1)]
    modules = p.ReplicatedDetectorModule(object=p.DetectorModule(detecting_elements=elements))
    modules.transforms += [turn(2 * np.pi * k / 12, 0, 0, 0) for k in range(12)]
    scanner = p.ScannerInformation(
        model_name="ring",
        scanner_geometry=p.ScannerGeometry(replicated_modules=[modules]),
        tof_bin_edges=[[p.BinEdges(edges=np.array([-200, 0, 200], np.float32))]],
        event_energy_bin_edges=[p.BinEdges(edges=np.array([430, 650], np.float32))],
        detection_efficiencies=p.DetectionEfficiencies(
            calibration_factor=1.0,
            detection_bin_efficiencies=[[0.5] * 48],
            module_pair_sgidlut=[[[[0 if a != b else -1 for b in range(a + 1)] for a in range(12)]]],
            module_pair_efficiencies_vectors=[[[p.ModulePairEfficiencies(values=[[0.9] * 4] * 4, sgid=0)]]],
        ),
    )
    rng = np.random.default_rng(0)
    events = [p.CoincidenceEvent(detection_bins=sorted(rng.integers(0, 48, 2).tolist())) for _ in range(200)]
    block = p.EventTimeBlock(
        time_interval=p.TimeInterval(stop=9), prompt_events=[[events]], delayed_events=[[events[:9]]]
    )
    with p.BinaryPETSIRDWriter(str(folder / "events.petsird")) as writer:
        writer.write_header(p.Header(scanner=scanner, exam=p.ExamInformation()))
        writer.write_time_blocks([p.TimeBlock.EventTimeBlock(block)] * 2)
    return folder / "events.petsird"


def store(folder: Path) -> Path:
    """A dataset store."""
    from allpet.save import save

    save(_scan(), folder / "data.zarr")
    return folder / "data.zarr"
