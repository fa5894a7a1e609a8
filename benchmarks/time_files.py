"""Readers and writers beside the packages underneath: what they check and convert, over the bare reading of the bytes.

A peer here is a floor, not a rival: it reads or writes the same numbers without looking at geometry, units, identity or
hashes. What is read is compared first. Files lie in a temporary folder and, being just written, in the page cache.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.io import read, write
from allpet.io.store import open_store, write_store
from allpet.scan.core import Image, Scan
from allpet.scan.dataset import Dataset

PLANE = "plane"


@pytest.fixture(scope="module")
def scan(tiny: bool) -> Scan:
    """Counts without factors: 64 planes of 128 x 128."""
    n, size = (3, 32) if tiny else (64, 128)
    counts = torch.poisson(torch.full((n, size, size), 20.0), generator=torch.Generator().manual_seed(0))
    return Scan(counts, ParallelBeam(size, size, 4.0), tracer="FDG", isotope="18F", region="brain", start_s=3600.0)


@pytest.fixture(scope="module")
def image(tiny: bool) -> Image:
    """An image of 64 planes of 128 x 128."""
    n, size = (3, 32) if tiny else (64, 128)
    values = 3 * torch.rand((n, size, size), generator=torch.Generator().manual_seed(0))
    return Image(values, ImageGrid(size, 4.0), "kBq/mL", 3.0, tracer="FDG", isotope="18F")


def _size(array: torch.Tensor) -> str:
    return " x ".join(str(n) for n in array.shape)


# -- Interfile ---------------------------------------------------------------------------------------------------------


def time_interfile_write(clock: Any, scan: Scan, tmp_path: Path) -> None:
    """Header and float32 data, put in place whole."""
    clock(lambda: write(scan, tmp_path / "a.hs"), _interfile("write", scan), count=len(scan), unit=PLANE)


def time_interfile_write_numpy(clock: Any, scan: Scan, tmp_path: Path) -> None:
    """The data alone."""
    data = scan.sinogram.numpy()
    clock(lambda: data.tofile(tmp_path / "a.s"), _interfile("write", scan), "numpy, data only", len(scan), PLANE)


def time_interfile_read(clock: Any, scan: Scan, tmp_path: Path) -> None:
    """With all checks of the header."""
    write(scan, tmp_path / "a.hs")
    assert torch.equal(read(tmp_path / "a.hs").sinogram, scan.sinogram)
    clock(lambda: read(tmp_path / "a.hs"), _interfile("read", scan), count=len(scan), unit=PLANE)


def time_interfile_read_numpy(clock: Any, scan: Scan, tmp_path: Path) -> None:
    """The data alone."""
    write(scan, tmp_path / "a.hs")
    raw = np.fromfile(tmp_path / "a.s", "<f4")
    assert raw.size == scan.sinogram.numel() and raw.sum() == float(scan.sinogram.sum())
    clock(
        lambda: np.fromfile(tmp_path / "a.s", "<f4"),
        _interfile("read", scan),
        "numpy, data only",
        len(scan),
        PLANE,
    )


def _interfile(what: str, scan: Scan) -> str:
    return f"{what} Interfile sinogram, {_size(scan.sinogram)}"


# -- NIfTI -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("what", ["write", "read"])
@pytest.mark.parametrize("tool", ["allpet", "nibabel"])
def time_nifti(clock: Any, image: Image, tmp_path: Path, ending: str, what: str, tool: str) -> None:
    """Ours, and nibabel's own with the same affine."""
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / f"a{ending}"
    write(image, path)
    file = nibabel.load(path)
    values, affine = np.array(file.dataobj), file.affine  # a copy: the file is written over

    def theirs() -> np.ndarray:
        return nibabel.load(path).get_fdata(dtype=np.float32)

    assert sorted(theirs().sum(axis=(0, 1)).tolist()) == pytest.approx(
        sorted(read(path).array.sum(dim=(1, 2)).tolist()), rel=1e-4
    )
    works = {
        ("allpet", "write"): lambda: write(image, path),
        ("allpet", "read"): lambda: read(path),
        ("nibabel", "write"): lambda: nibabel.save(nibabel.Nifti1Image(values, affine), path),
        ("nibabel", "read"): theirs,
    }
    clock(works[tool, what], f"{what} NIfTI {ending}, {_size(image.array)}", tool, len(image), PLANE)


# -- DICOM -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["write", "read"])
@pytest.mark.parametrize("tool", ["allpet", "pydicom"])
def time_dicom(clock: Any, image: Image, tmp_path: Path, what: str, tool: str) -> None:
    """A series: ours, and pydicom's files and pixels as they are."""
    pydicom = pytest.importorskip("pydicom")
    folder = tmp_path / "a.dicom"
    write(image, folder)
    files = sorted(folder.iterdir())
    loaded = [pydicom.dcmread(path) for path in files]

    def bare_read() -> list[np.ndarray]:
        out = []
        for path in files:
            data = pydicom.dcmread(path)
            out.append(data.pixel_array.astype(np.float32) * float(data.RescaleSlope))
        return out

    def bare_write() -> None:
        for path, data in zip(files, loaded, strict=True):
            data.save_as(path)

    def ours_write() -> None:
        write(image, folder)

    total = float(read(folder).array.sum())
    assert sum(float(plane.sum()) for plane in bare_read()) / 1000 == pytest.approx(total, rel=1e-3)  # Bq/mL to kBq/mL
    works = {
        ("allpet", "write"): ours_write,
        ("allpet", "read"): lambda: read(folder),
        ("pydicom", "write"): bare_write,
        ("pydicom", "read"): bare_read,
    }
    name = tool if tool == "allpet" else f"pydicom, {'pixels only' if what == 'read' else 'ready-made data sets'}"
    clock(works[tool, what], f"{what} DICOM series, {_size(image.array)}", name, len(image), PLANE)


# -- the store ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tiny: bool) -> Dataset:
    """512 smooth sinograms of 128 x 128 (noise does not compress, which would time the disk)."""
    n, size = (16, 32) if tiny else (512, 128)
    rows = torch.rand((n, size // 16, size // 16), generator=torch.Generator().manual_seed(0))
    rows = torch.nn.functional.interpolate(rows[:, None], size=(size, size), mode="bilinear")[:, 0]
    facts = {"units": {"sinogram": "kBq/mL*mm"}, "prompt": {"tracer": "FDG", "isotope": "18F", "region": "brain"}}
    return Dataset({"sinogram": rows.numpy()}, ParallelBeam(size, size, 2.0), facts)


@pytest.mark.parametrize("tool", ["allpet", "zarr"])
def time_store_write(clock: Any, dataset: Dataset, tmp_path: Path, tool: str) -> None:
    """Ours with hashes and in one step; zarr with the same chunks, shards and packing."""
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    write_store(dataset, path)
    like = zarr.open_group(path, mode="r")["sinogram"]
    rows = dataset["sinogram"]

    def theirs() -> None:
        array = zarr.create_array(
            store=tmp_path / "b.zarr",
            shape=rows.shape,
            dtype=rows.dtype,
            chunks=like.chunks,
            shards=like.shards,
            compressors=like.compressors,
            overwrite=True,
        )
        array[:] = rows

    theirs()
    assert np.array_equal(zarr.open_array(tmp_path / "b.zarr", mode="r")[:], open_store(path).rows("sinogram"))
    work = theirs if tool == "zarr" else lambda: write_store(dataset, path)
    name = "zarr, no hashes, not in one step" if tool == "zarr" else "allpet"
    clock(work, f"write store, {' x '.join(map(str, rows.shape))}", name, len(rows), "row")


@pytest.mark.parametrize("how", ["all rows in order", "64 rows at random"])
@pytest.mark.parametrize("tool", ["allpet", "zarr"])
def time_store_read(clock: Any, dataset: Dataset, tmp_path: Path, how: str, tool: str, tiny: bool) -> None:
    """Ours checks each file's hash when it is read first; zarr reads the same files."""
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    write_store(dataset, path)
    n = len(dataset)
    picked = np.random.default_rng(0).permutation(n)[: (4 if tiny else 64)] if how.startswith("64") else np.arange(n)

    def ours() -> np.ndarray:
        return open_store(path).rows("sinogram", picked)

    def theirs() -> np.ndarray:
        array = zarr.open_group(path, mode="r")["sinogram"]
        return array[:] if len(picked) == n else array.oindex[picked]

    assert np.array_equal(ours(), theirs())
    clock(theirs if tool == "zarr" else ours, f"read store, {how}", tool, len(picked), "row")


# -- list mode ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["allpet", "petsird"])
def time_petsird(clock: Any, tmp_path: Path, tiny: bool, tool: str) -> None:
    """Events to sinograms, beside the package's own decoding of the same file into Python objects."""
    petsird = pytest.importorskip("petsird")
    from fuzz_files import petsird as small_file

    path, events = _longer(petsird, small_file(tmp_path), tmp_path / "long.petsird", 1 if tiny else 60)

    def theirs() -> int:
        found = 0
        with petsird.BinaryPETSIRDReader(str(path)) as reader:
            reader.read_header()
            for block in reader.read_time_blocks():
                found += sum(len(pair) for kinds in block.value.prompt_events for pair in kinds)
        return found

    assert theirs() == events
    assert 0.5 * events < float(read(path).sinogram.sum()) <= events  # pairs within a module have no place in it
    work = theirs if tool == "petsird" else lambda: read(path)
    name = "petsird, events decoded only" if tool == "petsird" else "allpet"
    clock(work, "read PETSIRD list mode", name, events, "event")


def _longer(petsird: Any, source: Path, target: Path, times: int) -> tuple[Path, int]:
    """The same file with its time blocks many times over, and its prompts."""
    with petsird.BinaryPETSIRDReader(str(source)) as reader:
        header, blocks = reader.read_header(), list(reader.read_time_blocks())
    with petsird.BinaryPETSIRDWriter(str(target)) as writer:
        writer.write_header(header)
        writer.write_time_blocks(blocks * times)
    return target, times * sum(len(pair) for block in blocks for kinds in block.value.prompt_events for pair in kinds)


@pytest.mark.parametrize("tool", ["allpet", "numpy"])
def time_list_mode(clock: Any, tool: str) -> None:
    """A measured list-mode file (mMR, $ALLPET_DATA) to sinograms; numpy counts its words of each kind."""
    if "ALLPET_DATA" not in os.environ:
        pytest.skip("needs $ALLPET_DATA")
    path = Path(os.environ["ALLPET_DATA"]) / "mmr_fdg_listmode" / "small_listmode_file.l"
    words = path.stat().st_size // 4

    def theirs() -> np.ndarray:
        return np.bincount(np.fromfile(path, "<u4") >> 30, minlength=4)

    prompts = float(read(path).sinogram.sum())
    assert theirs()[:2].sum() >= prompts > 0.5 * theirs()[1]
    work = theirs if tool == "numpy" else lambda: read(path)
    clock(work, "read list mode (mMR)", "numpy, words counted only" if tool == "numpy" else tool, words, "word")
