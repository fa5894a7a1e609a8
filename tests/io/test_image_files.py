"""Images through Interfile and NIfTI, and the choice of a format by its ending."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
import zipfile
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


FACTS = st.fixed_dictionaries(
    {
        "tracer": st.sampled_from(["FDG", "PSMA-11", None]),
        "isotope": st.sampled_from(["18F", "68Ga", None]),
        "region": st.sampled_from(["brain", None]),
        "scanner": st.sampled_from(["Siemens mMR", "Vision", None]),
        "injected_mbq": st.none() | st.floats(0, 1e5),
        "weight_kg": st.none() | st.floats(0.1, 500),
        "height_m": st.none() | st.floats(0.1, 3),
        "sex": st.sampled_from(["F", "M", "O", None]),
        "start_s": st.none() | st.floats(-10, 1e5),
        "duration_s": st.none() | st.floats(1e-3, 1e5),
        "decay_reference": st.sampled_from(["injection", "none", None]),
        "dose_fraction": st.none() | st.floats(1e-6, 1),
    }
)


@pytest.mark.parametrize("ending", [".hv", ".nii.gz", ".nii"])
@settings(max_examples=15)
@given(
    n=st.integers(1, 4),
    size=st.integers(1, 7),
    scale=st.sampled_from([1e-30, 1.0, 1e30]),
    pixel_mm=st.floats(0.01, 99),
    plane_mm=st.floats(0.01, 99),
    facts=FACTS,
)
def test_what_is_written_is_read_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    ending: str,
    n: int,
    size: int,
    scale: float,
    pixel_mm: float,
    plane_mm: float,
    facts: dict[str, object],
) -> None:
    image = make_image(n, size, pixel_mm, plane_mm)
    image = Image(image.array * scale, image.grid, image.unit, plane_mm, header=image.header, **facts)
    path = tmp_path_factory.mktemp("i") / f"image{ending}"
    write(image, path)
    back = read(path)
    assert isinstance(back, Image)
    assert torch.equal(back.array, image.array)
    assert (back.grid, back.unit, back.plane_mm) == (image.grid, "SUV", plane_mm)
    assert {name: value for name, value in back.acquired().items() if name != "header"} == facts
    assert back.header["study"] == "one"
    assert set(back.header) <= {"study", "patient orientation", "patient rotation"}


def test_facts_go_from_format_to_format(tmp_path: Path) -> None:
    image = make_image()
    image.tracer, image.injected_mbq, image.weight_kg, image.header = "FDG", 46.5, 70.1, {"Odd  Key": "a b"}
    write(image, tmp_path / "a.nii.gz")
    write(read(tmp_path / "a.nii.gz"), tmp_path / "b.hv")
    write(read(tmp_path / "b.hv"), tmp_path / "c.nii")
    back = read(tmp_path / "c.nii")
    assert (back.tracer, back.injected_mbq, back.weight_kg) == ("FDG", 46.5, 70.1)
    assert torch.equal(back.array, image.array) and back.header["Odd Key"] == "a b"


def interfile_image(folder: Path, offsets: tuple[str, str, str], rows: int = 4, columns: int = 4) -> Path:
    (folder / "x.v").write_bytes(np.arange(2 * rows * columns, dtype="<f4").tobytes())
    sizes = "".join(
        f"!matrix size [{k}] := {size}\nscaling factor (mm/pixel) [{k}] := 2\n"
        f"First Pixel offset (mm) [{k}] := {offset}\n"
        for k, size, offset in zip((1, 2, 3), (columns, rows, 2), offsets, strict=True)
    )
    (folder / "x.hv").write_text(
        "!INTERFILE :=\n!name of data file := x.v\nimagedata byte order := LITTLEENDIAN\n!number format := float\n"
        f"!number of bytes per pixel := 4\nnumber of dimensions := 3\n{sizes}quantification units := Bq/ml\n"
    )
    return folder / "x.hv"


def test_offsets_of_an_interfile_image_are_kept(tmp_path: Path) -> None:
    """Centred: no word. STIR's half pixel at even sizes: kept. Farther off: a note. Written back as it was."""
    assert not any(
        "offset" in key or "note" in key for key in read(interfile_image(tmp_path, ("-3", "-3", "0"))).header
    )
    stir = read(interfile_image(tmp_path, ("-4", "-4.0", "0")))
    assert stir.header["First Pixel offset (mm) [2]"] == "-4.0" and "position note" not in stir.header
    assert stir.unit == "Bq/ml"
    off = read(interfile_image(tmp_path, ("-3", "12.50", "-71.5")))
    assert off.header["position note"].startswith("the image lies 15.5 mm along y off the axis")
    write(off, tmp_path / "again.hv")
    text = (tmp_path / "again.hv").read_text()
    assert "first pixel offset (mm) [2] := 12.50\n" in text and "first pixel offset (mm) [3] := -71.5\n" in text
    again = read(tmp_path / "again.hv")
    assert again.header["position note"] == off.header["position note"] and torch.equal(again.array, off.array)
    # a padded image keeps its place: one column of 2 mm more on the left
    padded = read(interfile_image(tmp_path, ("10", "-3", "0"), columns=2))
    assert float(padded.header["First Pixel offset (mm) [1]"]) == 8.0


def test_position_in_nifti_is_kept(tmp_path: Path) -> None:
    affine = np.array([[2.0, 0, 0, -31.5], [0, 2.0, 0, 4.25], [0, 0, 3.0, -900.0], [0, 0, 0, 1]])
    nibabel.save(
        nibabel.Nifti1Image(np.random.default_rng(0).random((6, 6, 3), np.float32), affine), tmp_path / "a.nii"
    )
    image = read(tmp_path / "a.nii")
    assert image.header["nifti centre (mm)"] == "-26.5, 9.25, -897.0"
    write(image, tmp_path / "b.nii.gz")
    source, back = nibabel.load(tmp_path / "a.nii"), nibabel.load(tmp_path / "b.nii.gz")
    for voxel in ((0, 0, 0), (5, 1, 2)):  # the same place of the patient has the same value
        other = np.rint(np.linalg.inv(back.affine) @ source.affine @ (*voxel, 1)).astype(int)[:3]
        assert back.get_fdata()[tuple(other)] == source.get_fdata()[voxel]
    assert read(tmp_path / "b.nii.gz").header == image.header


@pytest.mark.parametrize("shape", [(5, 6, 3), (6, 3, 3), (4, 7, 2), (4, 6, 2)])
@pytest.mark.parametrize("axes", ["LPI", "RAS", "PLI"])
def test_a_padded_image_stays_where_it_was(tmp_path: Path, shape: tuple[int, int, int], axes: str) -> None:
    affine = np.diag([-2.0, -2.0, -3.0, 1.0])
    affine[:3, 3] = 31.5, 4.25, -900.0
    source = nibabel.Nifti1Image(1 + np.random.default_rng(0).random(shape, np.float32), affine)
    turn = nibabel.orientations.axcodes2ornt(axes)
    source = source.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), turn))
    nibabel.save(source, tmp_path / "a.nii")
    write(read(tmp_path / "a.nii"), tmp_path / "b.nii.gz")
    back = nibabel.load(tmp_path / "b.nii.gz")
    for voxel in np.ndindex(*source.shape):
        other = np.linalg.inv(back.affine) @ source.affine @ (*voxel, 1)
        assert np.allclose(other, np.rint(other), atol=1e-3)
        assert back.get_fdata()[tuple(np.rint(other).astype(int)[:3])] == source.get_fdata()[voxel]


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


def test_sizes_are_checked_before_anything_is_made(tmp_path: Path) -> None:
    """A header that claims gigabytes costs nothing; what follows the array is not unpacked."""
    write(make_image(), tmp_path / "a.nii")
    whole = (tmp_path / "a.nii").read_bytes()
    huge = whole[:42] + struct.pack("<3h", 30_000, 30_000, 4) + whole[48:]
    (tmp_path / "huge.nii").write_bytes(huge)
    (tmp_path / "huge.nii.gz").write_bytes(gzip.compress(huge))
    (tmp_path / "zeros.nii.gz").write_bytes(gzip.compress(huge + bytes(30 << 20)))
    (tmp_path / "long.nii.gz").write_bytes(gzip.compress(whole + bytes(30 << 20)))
    (tmp_path / "wide.hv").write_text(
        "!INTERFILE :=\n!matrix size[1] := 60000\n!matrix size[2] := 1\n!number of bytes per pixel := 1\n"
        "!name of data file := wide.v\n"
    )
    (tmp_path / "wide.v").write_bytes(bytes(60_000))
    tracemalloc.start()
    try:
        for name, expected in {
            "huge.nii": "its header needs",
            "huge.nii.gz": "its header needs",
            "zeros.nii.gz": "its header needs",
            "wide.hv": "at most 4 times",
        }.items():
            with pytest.raises(AllpetError, match=expected):
                read(tmp_path / name)
        assert torch.equal(read(tmp_path / "long.nii.gz").array, read(tmp_path / "a.nii").array)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


real = pytest.mark.skipif("ALLPET_DATA" not in os.environ, reason="ALLPET_DATA is not set: no foreign files")


def centre_x(image: Image, mask: torch.Tensor) -> float:
    """Mean x of a mask in mm: negative on the patient's right."""
    return float((mask.double().sum(dim=(0, 1)) * torch.from_numpy(image.grid.x)).sum() / mask.sum())


@real
@pytest.mark.parametrize(
    ("archive", "name", "shape", "pixel_mm", "plane_mm", "maximum"),
    [
        ("brain_phantom/DaT_phantom.zip", "DaT_Source_120x120x120", (120, 120, 120), 2.0, 2.0, 800),
        ("brain_phantom/DaT_phantom.zip", "DaT_Attenuation_72x90x77", (77, 90, 72), 2.0, 2.0, 3),
        ("brain_phantom/Brain_Perfusion_phantom.zip", "Brain_Perfusion_Source_120x120x120", (120,) * 3, 2.0, 2.0, 1012),
        (
            "dotatate_phantom/patient_LuDOTATATE_phantoms.zip",
            "patient15_LuDOTATATE_attn",
            (90, 70, 108),
            3.9063,
            4.4196,
            3000,
        ),
    ],
)
def test_foreign_interfile(
    tmp_path: Path, archive: str, name: str, shape: tuple[int, int, int], pixel_mm: float, plane_mm: float, maximum: int
) -> None:
    """Phantoms of other programs against their bytes; they give slice thickness in mm under a key that says pixels."""
    with zipfile.ZipFile(Path(os.environ["ALLPET_DATA"]) / archive) as packed:
        for ending in (".h33", ".i33"):
            packed.extract(name + ending, tmp_path)
    image = read(tmp_path / f"{name}.h33")
    values = np.fromfile(tmp_path / f"{name}.i33", "<u2").reshape(shape)
    n = max(shape[1:])
    top, left = (n - shape[1]) // 2, (n - shape[2]) // 2
    assert image.array.shape == (shape[0], n, n)
    assert np.array_equal(image.array[:, top : top + shape[1], left : left + shape[2]], values)
    assert image.array.sum(dtype=torch.float64) == values.sum(dtype=np.float64)
    assert (image.grid.pixel_mm, image.plane_mm) == (pixel_mm, plane_mm) and image.array.max() == maximum
    assert "read as mm" in image.header["plane distance note"]


@real
def test_foreign_nifti(tmp_path: Path) -> None:
    data = Path(os.environ["ALLPET_DATA"])
    pet, mask = (read(data / "sts_fdg" / "STS_001" / f"PET_{name}.nii.gz") for name in ("image", "mask"))
    assert pet.array.shape == mask.array.shape == (59, 43, 43)
    assert (pet.grid.pixel_mm, round(pet.plane_mm, 4)) == (4.6875, 3.27)
    assert float(pet.array.max()) == pytest.approx(25.4123, abs=1e-4) and set(mask.array.unique().tolist()) == {0, 1}
    assert pet.array[mask.array > 0].mean() > 3 * pet.array[mask.array == 0].mean()  # the tumour takes up FDG
    thorax, mu = (read(data / "thorax_phantom" / f"{name}_g1.nii.gz") for name in ("FDG", "CTAC"))
    assert thorax.array.shape == mu.array.shape == (15, 155, 155)
    assert (round(thorax.grid.pixel_mm, 4), thorax.plane_mm) == (3.129, 6.75)
    assert 0.09 < float(mu.array[mu.array > 0.05].median()) < 0.1  # soft tissue in 1/cm
    ct, labels = (
        read(data / "abdomen_ct_labels" / f"example_{name}.nii.gz") for name in ("ct", "seg_fast_force_split")
    )
    assert ct.array.shape == labels.array.shape == (112, 122, 122) and ct.grid.pixel_mm == 3.0
    liver, spleen = centre_x(labels, labels.array == 5), centre_x(labels, labels.array == 1)
    assert liver < -20 < 20 < spleen  # liver on the patient's right, spleen on the left
    spine = [float(((labels.array == k) * torch.from_numpy(labels.grid.y)[:, None]).sum()) for k in range(26, 32)]
    assert min(spine) <= 0 and max(spine) <= 0  # vertebrae lie behind the middle


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


@pytest.mark.parametrize("code", [0, 2, 4, 6, 8, 24, 32, 34, 36, 38, 40, 12345])
def test_extensions_of_other_programs_are_left_alone(tmp_path: Path, code: int) -> None:
    nifti = nibabel.Nifti1Image(np.ones((4, 4, 2), np.float32), np.diag([2, 2, 2, 1.0]))
    nifti.header.extensions.append(nibabel.nifti1.Nifti1Extension(code, b"\x01what others keep there"))
    nibabel.save(nifti, tmp_path / "x.nii")
    image = read(tmp_path / "x.nii")
    assert isinstance(image, Image)
    assert image.unit == "unknown"
    assert image.array.eq(1).all()
