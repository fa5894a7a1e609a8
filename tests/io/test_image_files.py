"""Images through Interfile and NIfTI, and the choice of a format by its ending."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.io import kind_of, read, write
from allpet.io.convert import convert, describe
from allpet.scan.core import Image, Scan


def make_image(n: int = 2, size: int = 5, pixel_mm: float = 2.05, plane_mm: float = 3.27, seed: int = 0) -> Image:
    values = np.random.default_rng(seed).normal(0.0, 9.0, (n, size, size)).astype(np.float32)
    return Image(torch.from_numpy(values), ImageGrid(size, pixel_mm), "SUV", plane_mm, header={"study": "one"})


@pytest.mark.parametrize("ending", [".hv", ".nii.gz", ".nii"])
@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 4), size=st.integers(1, 7), pixel_mm=st.floats(0.01, 99), plane_mm=st.floats(0.01, 99))
def test_what_is_written_is_read_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, ending: str, n: int, size: int, pixel_mm: float, plane_mm: float
) -> None:
    image = make_image(n, size, pixel_mm, plane_mm)
    path = tmp_path_factory.mktemp("i") / f"image{ending}"
    write(image, path)
    back = read(path)
    assert isinstance(back, Image)
    assert torch.equal(back.array, image.array)
    assert (back.grid, back.unit, back.plane_mm) == (image.grid, "SUV", plane_mm)
    assert back.header["study"] == "one"


def test_nifti_tells_where_the_patients_sides_are(tmp_path: Path) -> None:
    """A point at the patient's front, left and head: world x (right) < 0, y (front) > 0, z (head) the largest."""
    image = Image(torch.zeros(3, 9, 9), ImageGrid(9, 2.0), plane_mm=4.0)
    image.array[0, 1, 6] = 1
    write(image, tmp_path / "p.nii.gz")
    nifti = nibabel.load(tmp_path / "p.nii.gz")
    voxel = np.argwhere(nifti.get_fdata())[0]
    assert np.allclose(nifti.affine @ [*voxel, 1], [-4.0, 6.0, 0.0, 1.0])
    assert nibabel.aff2axcodes(nifti.affine) == ("L", "P", "I")
    assert nifti.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "SRP", "PIR"])
def test_nifti_in_any_orientation_is_turned_to_ours(tmp_path: Path, axes: str) -> None:
    ours = make_image(3, 5, 2.0, 4.0)
    write(ours, tmp_path / "ours.nii")
    source = nibabel.load(tmp_path / "ours.nii")
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(source.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(source.as_reoriented(turn), tmp_path / "turned.nii")
    back = read(tmp_path / "turned.nii")
    assert torch.equal(back.array, ours.array)
    assert (back.grid, back.plane_mm) == (ours.grid, ours.plane_mm)


def test_foreign_images(tmp_path: Path) -> None:
    values = np.arange(24).reshape(2, 4, 3)
    (tmp_path / "a.i33").write_bytes(b"....." + values.astype(">u2").tobytes())
    (tmp_path / "a.h33").write_text(
        "!INTERFILE :=\nnumber of slices := 2\n!number format := unsigned integer\n!matrix size [2] := 4\n"
        "scaling factor (mm/pixel) [2] := 1.5\nscaling factor (mm/pixel) [1] := 1.5\n!matrix size [1] := 3\n"
        "slice thickness (pixels) := 2\n!name of data file := a.i33\ndata offset in bytes := 5\n"
        "!number of bytes per pixel := 2\nquantification units := 0.5\n"
    )
    image = read(tmp_path / "a.h33")
    assert image.array.shape == (2, 4, 4) and image.plane_mm == 3.0 and image.grid.pixel_mm == 1.5
    assert np.array_equal(image.array[:, :, :3], values * 0.5) and (image.array[:, :, 3] == 0).all()
    nifti = nibabel.Nifti1Image(np.full((3, 5, 2), -1000, np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
    nibabel.save(nifti, tmp_path / "ct.nii")
    image = read(tmp_path / "ct.nii")
    assert image.array.shape == (2, 5, 5) and (image.array == -1000).all() and image.unit == "unknown"


def test_bad_images_are_told_in_one_line(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(AllpetError) as raised:
            read(path)
        assert "\n" not in str(raised.value) and path.name in str(raised.value)
        return str(raised.value)

    def save(array: np.ndarray, affine: np.ndarray) -> Path:
        nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "bad.nii.gz")
        return tmp_path / "bad.nii.gz"

    eye = np.eye(4)
    assert "3-D" in message(save(np.zeros((4, 4, 2, 3), np.float32), eye))
    assert "3-D" in message(save(np.zeros((4, 4), np.float32), eye))
    assert "square" in message(save(np.zeros((4, 4, 2), np.float32), np.diag([1.0, 2.0, 1.0, 1.0])))
    assert "NaN" in message(save(np.full((4, 4, 2), np.nan, np.float32), eye))
    path = save(np.random.default_rng(0).random((9, 9, 9)).astype(np.float32), eye)
    path.write_bytes(path.read_bytes()[:-200])
    assert "again" in message(path) or "whole" in message(path)
    path.write_bytes(b"this is not NIfTI")
    assert "NIfTI" in message(path)
    write(make_image(), tmp_path / "a.hv")
    (tmp_path / "a.v").write_bytes(b"1234")
    assert "4 bytes" in message(tmp_path / "a.hv")
    (tmp_path / "a.v").unlink()
    assert "a.v" in message(tmp_path / "a.hv")


def test_endings(tmp_path: Path) -> None:
    assert kind_of("x.HDR.STIR") == kind_of("a.l") == "list mode"
    assert (kind_of("x.hs"), kind_of("x.nii.gz"), kind_of("x.zarr")) == ("sinogram", "image", "dataset")
    with pytest.raises(AllpetError, match=r"\.hs, \.hv.*\.nii\.gz"):
        read(tmp_path / "x.png")
    with pytest.raises(AllpetError, match="does not exist"):
        read(tmp_path / "x.hs")
    with pytest.raises(AllpetError, match="written"):
        write(make_image(), tmp_path / "x.l")
    with pytest.raises(AllpetError, match="an image cannot be written as sinogram"):
        write(make_image(), tmp_path / "x.hs")
    with pytest.raises(AllpetError, match="a scan cannot be written as image"):
        write(Scan(torch.ones(1, 2, 3), ParallelBeam(2, 3, 1.0)), tmp_path / "x.nii.gz")
    assert not list(tmp_path.iterdir())


def test_convert(tmp_path: Path) -> None:
    image, scan = make_image(), Scan(torch.ones(1, 2, 3), ParallelBeam(2, 3, 1.0))
    write(image, tmp_path / "a.hv")
    write(scan, tmp_path / "s.hs")
    convert(tmp_path / "a.hv", tmp_path / "b.nii.gz")
    convert(tmp_path / "b.nii.gz", tmp_path / "c.hv")
    assert torch.equal(read(tmp_path / "c.hv").array, image.array)
    convert(tmp_path / "s.hs", tmp_path / "t.hs")
    back = read(tmp_path / "t.hs")
    assert torch.equal(back.sinogram, scan.sinogram) and "allpet_version" in back.header["provenance"]
    assert "; allpet provenance := {" in (tmp_path / "t.hs").read_text()  # a comment for everybody else
    convert(tmp_path / "t.hs", tmp_path / "t.zarr")
    assert torch.equal(read(tmp_path / "t.zarr").sinogram, scan.sinogram)
    for source, target, options, expected in (
        ("s.hs", "x.nii.gz", {}, "allpet recon"),
        ("a.hv", "x.hs", {}, "no sinogram"),
        ("s.hs", "x.hs", {"span": 1}, "list mode"),
        ("s.hs", "s.hs", {}, "input itself"),
        ("s.hs", "x.l", {}, "list mode cannot be written"),
        ("gone.hs", "x.hs", {}, "does not exist"),
    ):
        with pytest.raises(AllpetError, match=expected):
            convert(tmp_path / source, tmp_path / target, **options)
    assert not list(tmp_path.glob("x*"))
    assert describe(tmp_path / "s.hs")["total"] == 6
    assert describe(tmp_path / "a.hv")["pixel_mm"] == 2.05
