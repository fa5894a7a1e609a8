"""The dataset store: exact round trip, mapped reading, checksums, atomic writing, one-line errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import allpet.io.store as store_module
from allpet.errors import AllpetError
from allpet.io.store import open_store, read_store, write_store
from allpet.scan.dataset import Dataset
from allpet.scan.simulate import simulate


@pytest.fixture(scope="module")
def data() -> Dataset:
    return simulate(5, region="abdomen", task="low-dose", views=16, bins=24)


@pytest.fixture
def path(data: Dataset, tmp_path: Path) -> Path:
    write_store(data, tmp_path / "d.zarr", command="allpet simulate d.zarr")
    return tmp_path / "d.zarr"


def test_a_store_indexed_by_number_says_how_samples_are_read(path: Path) -> None:
    with pytest.raises(AllpetError, match=r"0 is no array's name; samples are read by rows"):
        open_store(path)[0]  # type: ignore[index]


def test_round_trip_is_bit_exact(data: Dataset, path: Path) -> None:
    store = open_store(path)
    assert len(store) == 5 and store.beam == data.beam and store.unit == "counts"
    assert store.prompt == data.prompt
    back = store.load()
    assert set(back) == set(data)
    for name in data:
        assert back[name].dtype == data[name].dtype
        assert np.array_equal(back[name], data[name])
    assert back.attributes == {**data.attributes, "command": "allpet simulate d.zarr"}
    assert store.attributes["geometry"] == {"views": 16, "bins": 24, "bin_mm": 512 / 24, "pixel_mm": 512 / 24}


def test_arrays_map_lazily_and_rows_pick_samples(data: Dataset, path: Path) -> None:
    store = open_store(path)
    assert np.array_equal(store.image[3], data.image[3])
    assert np.array_equal(store["sinogram"][1:3], data.sinogram[1:3])
    assert np.array_equal(store.rows("image", [4, 0, -1]), data.image[[4, 0, 4]])
    assert "observed" in store and "frames" not in store
    with pytest.raises(AllpetError, match="no array 'frames'"):
        store["frames"]
    with pytest.raises(AllpetError, match="samples 0 to 4"):
        store.rows("image", 5)


def test_scan_has_factors_at_its_own_dose(data: Dataset, path: Path) -> None:
    scan = read_store(path)
    assert np.array_equal(scan.sinogram.numpy(), data.observed)
    share = data.dose_fraction[:, None, None]
    assert np.allclose(scan.background.numpy(), data.background * share)
    assert scan.dose_fraction is None
    assert np.allclose(scan.counts_per_unit, data.counts_per_unit * data.dose_fraction)
    assert (scan.tracer, scan.isotope, scan.region, scan.unit) == ("FDG", "18F", "abdomen", "counts")
    one = read_store(path, 2)
    assert len(one) == 1
    assert one.dose_fraction == pytest.approx(data.dose_fraction[2])
    assert one.counts_per_unit == pytest.approx(data.counts_per_unit[2] * data.dose_fraction[2])
    assert np.array_equal(one.attenuation.numpy()[0], data.attenuation[2])


def test_ideal_projections_read_without_factors(tmp_path: Path) -> None:
    ideal = simulate(2, views=16, bins=24)
    write_store(ideal, tmp_path / "i.zarr")
    scan = read_store(tmp_path / "i.zarr")
    assert scan.unit == "kBq/mL*mm" and scan.attenuation is None and scan.background is None
    assert np.array_equal(scan.sinogram.numpy(), ideal.sinogram)


def test_replaces_a_store_and_leaves_nothing_beside(data: Dataset, path: Path) -> None:
    write_store(replace(data, arrays={n: v[:2] for n, v in data.arrays.items()}), path)
    assert len(open_store(path)) == 2
    assert [p.name for p in path.parent.iterdir()] == ["d.zarr"]


def test_never_overwrites_what_is_not_a_store(data: Dataset, tmp_path: Path) -> None:
    folder, file = tmp_path / "thesis", tmp_path / "notes.txt"
    folder.mkdir()
    (folder / "only_copy.txt").write_text("precious")
    file.write_text("precious")
    for target in (folder, file):
        with pytest.raises(AllpetError, match="not an allpet dataset store"):
            write_store(data, target)
    assert (folder / "only_copy.txt").read_text() == file.read_text() == "precious"


def test_a_write_cut_short_leaves_the_old_store_and_no_rest(
    data: Dataset, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "group_json", fail)
    with pytest.raises(KeyboardInterrupt):
        write_store(data, path)
    with pytest.raises(KeyboardInterrupt):
        write_store(data, path.with_name("new.zarr"))
    assert [p.name for p in path.parent.iterdir()] == ["d.zarr"]
    assert np.array_equal(open_store(path).load().sinogram, data.sinogram)


def test_lost_data_is_not_read_as_zero(path: Path) -> None:
    for name in ("observed", "labels", "subject"):
        file = next(p for p in (path / name / "c").rglob("*") if p.is_file())
        file.unlink()
        with pytest.raises(
            AllpetError, match=rf"d\.zarr/{name}/c/0.*is missing or empty, with '{name}' of samples 0 to 4"
        ):
            open_store(path).rows(name, 1)
    with pytest.raises(AllpetError, match="is missing"):
        read_store(path)


def _edit_attributes(path: Path, **changes: object) -> None:
    meta = json.loads((path / "zarr.json").read_text())
    meta["attributes"].update(changes)
    (path / "zarr.json").write_text(json.dumps(meta))


def test_damaged_stores_end_in_one_line_with_the_path(path: Path) -> None:
    _edit_attributes(path, schema_version=99)
    with pytest.raises(AllpetError, match=r"d\.zarr: has schema version 99"):
        open_store(path)
    _edit_attributes(path, schema_version=2)
    for damage in ({"geometry": {"views": 16}}, {"units": {}}, {"samples": 0}, {"block": None}, {"acquisition": 3}):
        before = {name: open_store(path).attributes.get(name, {}) for name in damage}
        _edit_attributes(path, **damage)
        with pytest.raises(AllpetError, match=r"d\.zarr: geometry or units"):
            open_store(path)
        _edit_attributes(path, **before)
    _edit_attributes(path, samples=6)
    with pytest.raises(AllpetError, match=r"has shape .*; it must be \(6, "):
        open_store(path)
    _edit_attributes(path, samples=5)
    _edit_attributes(path, geometry={"views": 15, "bins": 24, "bin_mm": 4.0})
    with pytest.raises(AllpetError, match=r"d\.zarr: array .* has shape .*; it must be \(5, 15, 24\)"):
        open_store(path)
    _edit_attributes(path, schema="other")
    with pytest.raises(AllpetError, match="not an allpet dataset store"):
        open_store(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(AllpetError, match="not a readable zarr group"):
        open_store(path)
    with pytest.raises(AllpetError, match="no such dataset store"):
        open_store(path.with_name("absent.zarr"))
    path.with_name("file.zarr").write_text("junk")
    with pytest.raises(AllpetError, match="is a file; a dataset store is a folder"):
        open_store(path.with_name("file.zarr"))


def test_a_store_without_sinograms_is_refused(path: Path) -> None:
    for part in sorted((path / "sinogram").rglob("*"), reverse=True):
        part.unlink() if part.is_file() else part.rmdir()
    (path / "sinogram").rmdir()
    with pytest.raises(AllpetError, match="no array 'sinogram'"):
        open_store(path)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("observed", np.full((5, 16, 24), np.nan, np.float32), "NaN"),
        ("observed", np.zeros((5, 16, 23), np.float32), r"must be \(5, 16, 24\)"),
        ("subject", np.zeros(4, np.int32), r"must be \(5,\)"),
        ("notes", np.array(["a"] * 5), "only numbers"),
        ("objects", np.array([{}] * 5, dtype=object), "only numbers"),
    ],
)
def test_bad_arrays_are_not_written(data: Dataset, tmp_path: Path, name: str, value: np.ndarray, says: str) -> None:
    with pytest.raises(AllpetError, match=says):
        write_store(replace(data, arrays={**data.arrays, name: value}), tmp_path / "bad.zarr")
    assert not list(tmp_path.iterdir())
