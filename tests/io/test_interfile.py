"""Interfile sinograms: what is written comes back to the bit, and foreign headers are read for what they say."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.cli import main
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam, RingBeam
from allpet.io import read, write
from allpet.io.header import standard_key
from allpet.io.interfile import stir_views
from allpet.io.layout import sinogram_header
from allpet.scan.core import Scan
from allpet.scan.corrected import corrected_for, mark_corrected
from allpet.scan.rebin import ssrb
from allpet.scan.units import COUNTS

BEAM = ParallelBeam(views=6, bins=5, bin_mm=2.05)
PLANES = 3


def make_scan(seed: int = 0, beam: ParallelBeam = BEAM, n: int = PLANES, **known: object) -> Scan:
    values = np.random.default_rng(seed).gamma(1.0, 30.0, (n, *beam.shape)).astype(np.float32)
    return Scan(torch.from_numpy(values), beam, **known)  # type: ignore[arg-type]


def foreign(folder: Path, values: np.ndarray, dtype: str = "<f4", offset: int = 0, **changes: str | None) -> Path:
    """Write planes (plane, view, radial) the way another program might; ``changes`` replace or add header lines."""
    order = changes.pop("order", "axial view") or ""
    stored = values if order == "axial view" else values.transpose(1, 0, 2)
    sizes = {"axial": ("axial coordinate", f"{{{values.shape[0]}}}"), "view": ("view", str(values.shape[1]))}
    slow, fast = (sizes[name] for name in order.split())
    kind = {"f": "float", "i": "signed integer", "u": "unsigned integer"}[np.dtype(dtype).kind]
    lines = {
        "name of data file": "data.s",
        "!type of data": "PET",
        "imagedata byte order": "BIGENDIAN" if dtype.startswith(">") else "LITTLEENDIAN",
        "!number format": kind,
        "!number of bytes per pixel": str(np.dtype(dtype).itemsize),
        "number of dimensions": "4",
        "matrix axis label [4]": "segment",
        "!matrix size [4]": "1",
        "matrix axis label [3]": slow[0],
        "!matrix size [3]": slow[1],
        "matrix axis label [2]": fast[0],
        "!matrix size [2]": fast[1],
        "matrix axis label [1]": "tangential coordinate",
        "!matrix size [1]": str(values.shape[2]),
        "minimum ring difference per segment": "{0}",
        "maximum ring difference per segment": "{0}",
        "applied corrections": "{arc correction}",
        "effective central bin size (cm)": "0.205",
        "data offset in bytes[1]": str(offset),
    }
    lines |= changes
    text = "".join(f"{key} := {value}\n" for key, value in lines.items() if value is not None)
    header = folder / "foreign.hs"
    header.write_text(f"!INTERFILE :=\n{text}!END OF INTERFILE :=\n")
    (folder / "data.s").write_bytes(b"x" * offset + stored.astype(dtype).tobytes())
    return header


FACTS = st.fixed_dictionaries(
    {
        "tracer": st.sampled_from(["FDG", "PSMA-11", None]),
        "isotope": st.sampled_from(["18F", "68Ga", "99mTc", None]),
        "region": st.sampled_from(["brain", "head and neck", None]),
        "scanner": st.sampled_from(["mMR", "Siemens mMR", "Vision", "Siemens_Vision 600 (2019)", None]),
        "injected_mbq": st.none() | st.floats(0, 1e5),
        "weight_kg": st.none() | st.floats(0.1, 500),
        "height_m": st.none() | st.floats(0.1, 3),
        "sex": st.sampled_from(["F", "M", "O", None]),
        "start_s": st.none() | st.floats(-10, 1e5),
        "duration_s": st.none() | st.floats(1e-3, 1e5),
        "decay_reference": st.sampled_from(["injection", "start", "none", None]),
        "dose_fraction": st.none() | st.floats(1e-6, 1),
    }
)
"""Everything of :class:`Acquired` but the header."""


@settings(max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]),
    fwhm_mm=st.none() | st.floats(1e-3, 1e3),
    facts=FACTS,
    bin_mm=st.floats(0.01, 1e4),
    plane_mm=st.floats(0.01, 1e3),
    counts_per_unit=st.none() | st.floats(1e-6, 1e6),
    seed=st.integers(0, 9),
)
def test_what_is_written_is_read_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    scale: float,
    fwhm_mm: float | None,
    facts: dict[str, object],
    bin_mm: float,
    plane_mm: float,
    counts_per_unit: float | None,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("a") / "scan.hs"
    scan = make_scan(
        seed,
        ParallelBeam(shape[1], shape[2], bin_mm),
        shape[0],
        plane_mm=plane_mm,
        counts_per_unit=counts_per_unit,
        fwhm_mm=fwhm_mm,
        header={
            "patient orientation": "feet_in",
            "patient rotation": "prone",
            "study date": "2017:03:27",
            "isotope gamma halflife (sec)": "6586.2",
            "calibration factor": "1.5",
        },
        **facts,
    )
    scan.sinogram = scan.sinogram * scale
    scan.background = scan.sinogram * 0.1
    scan.randoms = scan.sinogram * 0.07
    scan.attenuation = torch.full_like(scan.sinogram, 0.25)
    write(scan, path)
    back = read(path)
    assert isinstance(back, Scan)
    for name in ("sinogram", "background", "attenuation", "randoms"):
        assert torch.equal(getattr(back, name), getattr(scan, name)), name
    assert back.normalisation is None and back.delayeds is None
    for name in ("geometry", "unit", "plane_mm", "counts_per_unit", "fwhm_mm"):
        assert getattr(back, name) == getattr(scan, name), name
    assert back.acquired() == scan.acquired()
    assert list(back.header) == list(scan.header)


def test_facts_stand_under_standard_keys() -> None:
    """Keys of STIR and Siemens where there are some, comments for the rest."""
    known = {
        "tracer": "FDG",
        "isotope": "18F",
        "injected_mbq": 46.5,
        "start_s": 3215.0,
        "duration_s": 600.0,
        "sex": "F",
    }
    text = sinogram_header(
        make_scan(**known, weight_kg=70.5, scanner="Vision", header={"Calibration Factor": "2"}), 3, "x"
    )
    for line in (
        "radiopharmaceutical := FDG",
        "isotope name := F-18",
        "tracer activity at time of injection (Bq) := 46500000",
        "image relative start time (sec)[1] := 3215.0",
        "relative time of tracer injection (sec) := 0",
        "image duration (sec)[1] := 600.0",
        "patient sex := F",
        "originating system := Userdefined",
        "; allpet scanner := Vision",
        "; allpet patient weight (kg) := 70.5",
        "Calibration Factor := 2",
    ):
        assert f"{line}\n" in text, line


def test_facts_of_foreign_headers(tmp_path: Path) -> None:
    """Siemens's and STIR's spellings; a start that is not told from the injection stays in the header."""
    values = np.ones((PLANES, *BEAM.shape))
    siemens = {
        "relative time of tracer injection (sec)": "-3600",
        "image relative start time (sec)[1]": "30",
        "tracer activity at time of injection (Bq)": "4.65e+007",
        "isotope gamma halflife (sec)": "6586.2",
    }
    scan = read(foreign(tmp_path, values, **siemens))
    assert (scan.start_s, scan.injected_mbq, scan.header["isotope gamma halflife (sec)"]) == (3630.0, 46.5, "6586.2")
    stir = {
        "radionuclide name[1]": "^68^Gallium",
        "image relative start time (sec)[1]": "30",
        "view offset (degrees)": "5",
    }
    scan = read(foreign(tmp_path, values, **stir))
    assert scan.isotope == "68Ga" and scan.start_s is None
    assert scan.header["image relative start time (sec)[1]"] == "30"
    assert "5 degrees" in scan.header["position note"]
    write(scan, tmp_path / "again.hs")
    text = (tmp_path / "again.hs").read_text()
    assert text.count("image relative start time") == 1 and "View offset (degrees) := 5\n" in text
    back = read(tmp_path / "again.hs")
    assert back.isotope == "68Ga" and back.start_s is None
    assert {standard_key(key) for key in scan.header} <= {standard_key(key) for key in back.header}


def test_randoms_beside_a_sinogram(tmp_path: Path) -> None:
    """Our own name, or the underscore of another program; of two, our own."""
    scan = make_scan()
    write(scan, tmp_path / "x.hs")
    write(make_scan(1), tmp_path / "x_randoms.hs")
    assert torch.equal(read(tmp_path / "x.hs").randoms, make_scan(1).sinogram)
    scan.randoms = scan.sinogram * 0.5
    write(scan, tmp_path / "x.hs")
    assert torch.equal(read(tmp_path / "x.hs").randoms, scan.randoms)
    assert "; allpet unit := counts\n" in (tmp_path / "x-randoms.hs").read_text()


def test_ring_scan_keeps_its_raw_order(tmp_path: Path) -> None:
    beam = RingBeam(views=18, bins=15, radius_mm=335.0, block=9)
    scan = Scan(torch.arange(2 * 18 * 15, dtype=torch.float32).reshape(2, 18, 15), beam)
    write(scan, tmp_path / "raw.hs")
    assert np.array_equal(np.fromfile(tmp_path / "raw.s", "<f4"), scan.sinogram.numpy().ravel())
    back = read(tmp_path / "raw.hs")
    assert back.geometry == beam
    assert torch.equal(back.sinogram, scan.sinogram)
    assert torch.equal(back.live[0], torch.from_numpy(beam.live()))  # gaps are missing even without a factor file


def test_point_stands_where_stir_looks_for_it(tmp_path: Path) -> None:
    """A point at the patient's left front: STIR's y axis points down, so its line there is s = x cos - y sin."""
    beam = ParallelBeam(views=60, bins=101, bin_mm=2.0)
    x, y = 40.0, 22.0
    ours = np.zeros((1, *beam.shape), np.float32)
    for k, phi in enumerate(beam.angles):
        s = x * np.cos(phi) + y * np.sin(phi)
        ours[0, k, round(s / beam.bin_mm) + 50] = 1
    write(Scan(torch.from_numpy(ours), beam), tmp_path / "point.hs")
    stored = np.fromfile(tmp_path / "point.s", "<f4").reshape(60, 101)
    expected = (x * np.cos(beam.angles) - y * np.sin(beam.angles)) / beam.bin_mm + 50
    assert np.abs(stored.argmax(axis=1) - expected).max() <= 0.5 + 1e-9
    assert torch.equal(read(tmp_path / "point.hs").sinogram[0], torch.from_numpy(ours[0]))


@settings(max_examples=40)
@given(
    dtype=st.sampled_from([f"{end}{kind}" for end in "<>" for kind in "f4 f8 i1 i2 i4 i8 u1 u2 u4 u8".split()]),
    order=st.sampled_from(["axial view", "view axial"]),
    offset=st.integers(0, 5000),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)),
)
def test_foreign_numbers_and_orders(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, order: str, offset: int, shape: tuple[int, int, int]
) -> None:
    values = np.random.default_rng(1).integers(0, 100, shape)
    if np.dtype(dtype).kind == "i":
        values = values - 50
    scan = read(foreign(tmp_path_factory.mktemp("f"), values, dtype, offset=offset, order=order))
    assert scan.geometry == ParallelBeam(shape[1], shape[2], BEAM.bin_mm)
    assert np.array_equal(stir_views(scan.sinogram.numpy()), values)


def test_fortran_numbers(tmp_path: Path) -> None:
    changes = {"effective central bin size (cm)": "+2.050000-01", "image scaling factor": "2.0D+01"}
    scan = read(foreign(tmp_path, np.ones((PLANES, *BEAM.shape)), **changes))
    assert scan.geometry == BEAM and (scan.sinogram == 20).all()


def test_data_starting_block_counts_2048_bytes(tmp_path: Path) -> None:
    path = foreign(tmp_path, np.ones((PLANES, *BEAM.shape)), offset=4096)
    path.write_text(path.read_text().replace("data offset in bytes[1] := 4096", "data starting block := 2"))
    assert (read(path).sinogram == 1).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), factor=st.sampled_from(["0.37", "2.5e-3", "-4", "+1.0E+002", "1e-30", "1e30"]))
def test_key_order_spacing_and_scale(tmp_path_factory: pytest.TempPathFactory, seed: int, factor: str) -> None:
    folder = tmp_path_factory.mktemp("f")
    values = np.random.default_rng(seed).integers(-500, 500, (PLANES, *BEAM.shape))
    path = foreign(folder, values, ">i2", **{"image scaling factor[1]": factor})
    first, *lines = path.read_text().splitlines()[:-1]
    chance = random.Random(seed)
    chance.shuffle(lines)
    lines = [_respell(line, chance) for line in lines]
    path.write_text("\r\n".join(["", f"; made by {seed}", first, *lines, "!END OF INTERFILE :=", "after the end"]))
    scan = read(path)
    expected = (values * float(factor)).astype(np.float32)
    assert np.array_equal(stir_views(scan.sinogram.numpy()), expected)


def _respell(line: str, chance: random.Random) -> str:
    key, value = line.split(" := ")
    key = chance.choice([key, key.upper(), key.title(), f"  {key}", key.replace(" ", "  "), f"!{key.lstrip('!')}"])
    value = chance.choice([value, f"{value}  ", f"{value} ; a comment"])
    return key + chance.choice([":=", " := ", "  :=\t"]) + value


def test_unknown_keys_survive_reading_and_writing(tmp_path: Path) -> None:
    values = np.ones((PLANES, *BEAM.shape))
    path = foreign(
        tmp_path, values, **{"zz Last": "1", "%Vendor Key [3]": "keep: me, please", "patient rotation": "prone"}
    )
    write(read(path), tmp_path / "again.hs")
    text = (tmp_path / "again.hs").read_text()
    assert "%Vendor Key [3] := keep: me, please\n" in text
    assert "patient rotation := prone\n" in text and text.index("zz Last := 1\n") < text.index("%Vendor Key")
    assert read(tmp_path / "again.hs").header["%Vendor Key [3]"] == "keep: me, please"


@pytest.mark.parametrize("neighbours", [True, False])
def test_whether_planes_are_neighbours_is_kept_and_taken_for_granted_in_files_of_others(
    tmp_path: Path, neighbours: bool
) -> None:
    scan = Scan.from_array(np.ones((3, 8, 12), np.float32), 4.0, neighbours=neighbours)
    write(scan, tmp_path / "s.hs")
    assert read(tmp_path / "s.hs").neighbours == neighbours
    text = (tmp_path / "s.hs").read_text()
    assert ("; allpet neighbours := no" in text) != neighbours
    (tmp_path / "s.hs").write_text(text.replace("; allpet neighbours := no\n", ""))
    assert read(tmp_path / "s.hs").neighbours
    write(scan.planes(slice(1)), tmp_path / "one.hs")
    assert not read(tmp_path / "one.hs").neighbours


def test_several_segments_survive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"!matrix size [4]": "3", "!matrix size [3]": "{ 4, 3,3}"}
    for end in ("minimum", "maximum"):
        changes[f"{end} ring difference per segment"] = "{ 0,1,-1}"
    values = np.random.default_rng(2).random((10, *BEAM.shape)).astype(np.float32)
    path = foreign(tmp_path, values, **changes, **{"number of rings": "4"})
    scan = read(path)
    assert np.array_equal(stir_views(scan.sinogram.numpy()), values)
    write(scan, tmp_path / "again.hs")
    text = (tmp_path / "again.hs").read_text()
    assert "!matrix size [3] := { 4,3,3 }\n" in text and "segment := { 0,1,-1 }\n" in text
    assert torch.equal(read(tmp_path / "again.hs").sinogram, scan.sinogram)
    assert main(["convert", str(path), str(tmp_path / "direct.hs"), "--rebin"]) == 0
    direct = read(tmp_path / "direct.hs")
    assert direct.neighbours and direct.plane_mm == scan.plane_mm / 2
    assert np.allclose(direct.sinogram.numpy(), ssrb(scan.sinogram.numpy(), 4, 1))
    assert main(["convert", str(tmp_path / "direct.hs"), str(tmp_path / "no.hs"), "--rebin"]) == 2
    capsys.readouterr()
    assert main(["recon", str(path), "--out", str(tmp_path / "image.nii.gz"), "--iterations", "2"]) == 0
    assert "10 planes of several segments rebinned into 7" in capsys.readouterr().err
    assert (
        main(["recon", str(tmp_path / "direct.hs"), "--out", str(tmp_path / "same.nii.gz"), "--iterations", "2"]) == 0
    )
    image, same = read(tmp_path / "image.nii.gz"), read(tmp_path / "same.nii.gz")
    assert len(image) == 7 and torch.allclose(image.array, same.array)


def test_header_is_stir_dialect() -> None:
    """Keys STIR needs, vectored keys after the counts they depend on."""
    text = sinogram_header(make_scan(), PLANES, "x.s")
    position = [
        text.index(key)
        for key in (
            "!INTERFILE :=",
            "name of data file := x.s",
            "!type of data := PET",
            "!PET data type := Emission",
            "applied corrections := {arc correction}",
            "!number format := float",
            "!number of bytes per pixel := 4",
            "number of dimensions := 4",
            "matrix axis label [4] := segment",
            "matrix axis label [1] := tangential coordinate",
            "minimum ring difference per segment := { 0 }",
            "Scanner parameters :=",
            "Number of rings := 3",
            "effective central bin size (cm) := 0.205",
            "number of time frames := 1",
            "!END OF INTERFILE :=",
        )
    ]
    assert position == sorted(position)
    assert "imagedata byte order := LITTLEENDIAN" in text


def test_factors_of_an_earlier_scan_do_not_stay(tmp_path: Path) -> None:
    scan = make_scan()
    scan.background = scan.sinogram * 0.5
    write(scan, tmp_path / "x.hs")
    write(make_scan(1), tmp_path / "x.hs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.hs", "x.s"]
    assert read(tmp_path / "x.hs").background is None


BAD = {
    "no data file": ({"name of data file": "gone.s"}, "gone.s"),
    "several frames": ({"number of time frames": "3"}, "one frame"),
    "unknown format": ({"!number format": "complex"}, "complex"),
    "wrong width": ({"!number of bytes per pixel": "3"}, "bytes per pixel"),
    "byte order": ({"imagedata byte order": "MIDDLE"}, "MIDDLE"),
    "too many views": ({"!matrix size [2]": "7"}, "need 420"),
    "too few views": ({"!matrix size [2]": "5"}, "need 300"),
    "size not a number": ({"!matrix size [2]": "six"}, "six"),
    "negative size": ({"!matrix size [2]": "-6"}, "-6"),
    "no size": ({"!matrix size [2]": None}, "matrix size[2]"),
    "unknown axis": ({"matrix axis label [2]": "angle"}, "angle"),
    "offset beyond the end": ({"data offset in bytes[1]": "100000"}, "offset"),
    "negative offset": ({"data offset in bytes[1]": "-4"}, "offset"),
    "bin size": ({"effective central bin size (cm)": "0"}, "bin size"),
    "bin size NaN": ({"effective central bin size (cm)": "nan"}, "nan"),
    "planes apart": ({"distance between rings (cm)": "-1"}, "planes"),
    "scale factor": ({"image scaling factor[1]": "many"}, "many"),
    "time of flight": (
        {"number of dimensions": "5", "matrix axis label [5]": "timing positions", "!matrix size [5]": "11"},
        "time-of-flight",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_headers_are_told_in_one_line(tmp_path: Path, name: str) -> None:
    changes, expected = BAD[name]
    path = foreign(tmp_path, np.ones((PLANES, *BEAM.shape)), **changes)
    with pytest.raises(AllpetError) as raised:
        read(path)
    message = str(raised.value)
    assert expected in message and "foreign.hs" in message and "\n" not in message


def test_nan_is_told_with_the_file(tmp_path: Path) -> None:
    values = np.ones((PLANES, *BEAM.shape))
    values[1, 2, 3] = np.nan
    with pytest.raises(AllpetError, match=r"foreign\.hs: plane 1 holds 1 NaN"):
        read(foreign(tmp_path, values))


def test_truncated_data(tmp_path: Path) -> None:
    path = foreign(tmp_path, np.ones((PLANES, *BEAM.shape)))
    data = tmp_path / "data.s"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(AllpetError, match="359 bytes"):
        read(path)


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    (tmp_path / "x-background.s").mkdir()
    scan = make_scan()
    scan.background = scan.sinogram
    with pytest.raises(AllpetError, match="folder"):
        write(scan, tmp_path / "x.hs")
    assert [path.name for path in tmp_path.iterdir()] == ["x-background.s"]
    with pytest.raises(AllpetError, match="does not exist"):
        write(scan, tmp_path / "no" / "x.hs")


def test_factor_of_another_size_is_refused(tmp_path: Path) -> None:
    write(make_scan(), tmp_path / "x.hs")
    write(make_scan(n=2), tmp_path / "x-attenuation.hs")
    with pytest.raises(AllpetError, match=r"x-attenuation\.hs"):
        read(tmp_path / "x.hs")


def test_unit_is_kept(tmp_path: Path) -> None:
    write(make_scan(unit="kBq/mL*mm"), tmp_path / "x.hs")
    assert read(tmp_path / "x.hs").unit == "kBq/mL*mm" != COUNTS


def test_a_scale_for_each_plane_comes_back_and_bad_ones_do_not(tmp_path: Path) -> None:
    scale = torch.tensor([0.1, 2.0 / 3.0, 5e7], dtype=torch.float64)
    write(Scan(torch.ones(3, 6, 5), ParallelBeam(6, 5, 2.0), counts_per_unit=scale), tmp_path / "a.hs")
    assert torch.equal(read(tmp_path / "a.hs").counts_per_unit, scale)
    text = (tmp_path / "a.hs").read_text()
    for bad in ("{ 1, 2 }", "{ 1, 2, x }", "{ 1, 2, 0 }", "{ 1, nan, 2 }", "-1", "{"):
        (tmp_path / "a.hs").write_text(re.sub(r"counts per unit := .*", f"counts per unit := {bad}", text))
        with pytest.raises(AllpetError, match="counts per unit"):
            read(tmp_path / "a.hs")


def test_what_was_applied_before_and_the_ring_differences_are_kept(tmp_path: Path) -> None:
    values = np.ones((127, 6, 5), np.float32)
    header = foreign(
        tmp_path,
        values,
        **{
            "originating system": "mMR",
            "number of rings": "64",
            "applied corrections": "{arc correction, Attenuation , randoms}",
            "minimum ring difference per segment": "{ -5 }",
            "maximum ring difference per segment": "{ 5 }",
        },
    )
    scan = read(header)
    assert isinstance(scan, Scan) and corrected_for(scan) == {"attenuation", "randoms"}
    write(scan, tmp_path / "again.hs")
    text = (tmp_path / "again.hs").read_text()
    assert "applied corrections := {arc correction, Attenuation, randoms}\n" in text
    assert "segment := { -5 }\n" in text and "segment := { 5 }\n" in text
    again = read(tmp_path / "again.hs")
    assert isinstance(again, Scan) and corrected_for(again) == corrected_for(scan)
    write(mark_corrected(scan, "background"), tmp_path / "more.hs")
    more = read(tmp_path / "more.hs")
    assert isinstance(more, Scan) and corrected_for(more) == {"attenuation", "randoms", "background"}
    assert corrected_for(make_scan()) == frozenset()
