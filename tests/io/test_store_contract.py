"""The store's contract with files: checksums, version 1, appending, memory."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import build_support as support
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.place import locked
from allpet.io.store import append_store, open_store, read_store, write_store
from allpet.scan.core import FACTORS
from allpet.scan.dataset import Dataset
from allpet.scan.simulate import simulate

BEAM = ParallelBeam(support.VIEWS, support.BINS, 4.0)


def dataset(first: int, stop: int, **attributes: Any) -> Dataset:
    return Dataset(support.make(first, stop), BEAM, {**support.ATTRIBUTES, **attributes})


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- layout and checksums


def test_plain_zarr_reads_it_and_many_samples_share_a_file(tmp_path: Path) -> None:
    data = dataset(0, 150)
    write_store(data, tmp_path / "d.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(tmp_path / "d.zarr", mode="r")
        for name, values in data.arrays.items():
            assert np.array_equal(group[name][:], values)
    assert dict(group.attrs)["samples"] == 150 and dict(group.attrs)["schema_version"] == 2
    meta = json.loads((tmp_path / "d.zarr/sinogram/zarr.json").read_text())
    sharding = meta["codecs"][0]["configuration"]
    assert meta["chunk_grid"]["configuration"]["chunk_shape"] == [64, 8, 12] and sharding["chunk_shape"] == [1, 8, 12]
    assert [codec["name"] for codec in sharding["codecs"]] == ["bytes", "zstd", "crc32c"]
    assert sharding["index_codecs"][-1]["name"] == "crc32c"
    assert sorted(file.name for file in (tmp_path / "d.zarr/sinogram/c").iterdir()) == ["0", "1", "2"]


def sample_at(shard: bytes, position: int, block: int) -> int | None:
    """Which chunk of a shard a byte belongs to, by the zarr v3 specification: (offset, size) and a crc at its end."""
    index = struct.unpack(f"<{2 * block}Q", shard[-16 * block - 4 : -4])
    for k, (offset, size) in enumerate(zip(index[::2], index[1::2], strict=True)):
        if offset <= position < offset + size:
            return k
    return None


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flip") / "d.zarr"
    support.build(path, 10, 4)
    return path


@settings(max_examples=150)
@given(
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    number=st.integers(0, 2),
    name=st.sampled_from(["sinogram", "subject"]),
)
def test_any_flipped_bit_is_an_error_that_names_file_array_and_sample(
    small: Path, where: float, bit: int, number: int, name: str
) -> None:
    file = small / name / "c" / str(number) / ("0/0" if name == "sinogram" else "")
    whole = file.read_bytes()
    position = int(where * len(whole))
    damaged = bytearray(whole)
    damaged[position] ^= 1 << bit
    chunk = sample_at(whole, position, 4) if name == "sinogram" else None
    expected = 4 * number + (chunk or 0)
    try:
        file.write_bytes(damaged)
        with pytest.raises(AllpetError) as caught:
            open_store(small).rows(name)
        assert str(caught.value).startswith(f"{file}: array '{name}', sample {expected} is damaged")
        assert "\n" not in str(caught.value)
        if chunk is not None:  # the other samples of the file can still be read
            rest = [k for k in range(10) if k != expected]
            with pytest.raises(AllpetError, match="does not match its sha256"):
                open_store(small).rows(name, rest)
            assert np.array_equal(open_store(small, hashes=False).rows(name, rest), support.make(0, 10)[name][rest])
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("name", ["sinogram", "labels", "subject"])
def test_a_cut_file_is_an_error(tmp_path: Path, name: str) -> None:
    data = dataset(0, 10)
    data.arrays["labels"] = np.ones((10, 12, 12), np.uint8)
    write_store(data, tmp_path / "d.zarr")
    file = next(path for path in (tmp_path / "d.zarr" / name / "c").rglob("*") if path.is_file())
    whole = file.read_bytes()
    for length in (0, 1, 3, 70, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[: min(length, len(whole) - 1)])
        with pytest.raises(AllpetError, match=rf"{name}/c/0.*(sample 0 is damaged|is missing or empty)"):
            open_store(tmp_path / "d.zarr").verify()


def test_zeros_and_whole_numbers_are_stored_as_chunks_of_their_own(tmp_path: Path) -> None:
    """Nothing is left out because it equals the fill value, so that what is missing is always an error."""
    data = dataset(0, 4)
    data.arrays["labels"] = np.zeros((4, 12, 12), np.uint8)
    write_store(data, tmp_path / "d.zarr")
    assert (tmp_path / "d.zarr/labels/c/0/0/0").exists()
    assert open_store(tmp_path / "d.zarr").rows("labels").max() == 0


# --- reading


def test_the_lines_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
    blocks = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    known: dict[str, Any] = {}
    for block in blocks:
        exec(block, known)
    assert len(blocks) == 6 and len(known["mine"]) == 130 and len(open_store("large.zarr")) == 200
    assert len(known["few"]) == 3
    assert len(known["scan"]) == 10 and len(known["everything"]) == 100 and known["n"] == 100


@settings(max_examples=40)
@given(
    index=st.one_of(
        st.integers(-10, 9),
        st.slices(10),
        st.lists(st.integers(-10, 9), min_size=1, max_size=6),
        st.lists(st.booleans(), min_size=10, max_size=10).filter(any),
    )
)
def test_rows_picks_as_numpy_does(small: Path, index: Any) -> None:
    picked = np.atleast_1d(np.arange(10)[index if isinstance(index, (int, slice)) else np.asarray(index)])
    for name, values in support.make(0, 10).items():
        assert np.array_equal(open_store(small).rows(name, index), values[picked])


def test_batches_give_all_samples_in_order(small: Path) -> None:
    store, truth = open_store(small), support.make(0, 10)
    for size, lengths in ((3, [3, 3, 3, 1]), (4, [4, 4, 2]), (99, [10])):
        batches = list(store.batches(size))
        assert [len(rows["subject"]) for rows in batches] == lengths
        assert np.array_equal(np.concatenate([rows["sinogram"] for rows in batches]), truth["sinogram"])
    assert list(next(store.batches(2, ["subject"]))) == ["subject"]
    with pytest.raises(AllpetError, match="batch size is 0"):
        next(store.batches(0))


def test_300_mb_are_written_and_iterated_in_100_mb(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, support.__file__, "memory", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["size"] > 300 and measured["total"] == sum(range(320))
    assert measured["extra"] < 100


def write_version_1(path: Path, data: Dataset) -> None:
    """As the first version of this program wrote it: no checksums, chunks of zeros left out."""
    group = zarr.open_group(path, mode="w-", zarr_format=3)
    for name, values in data.arrays.items():
        rest = values.shape[1:]
        chunks, shards = ((1, *rest), (len(values), *rest)) if rest else ((len(values),), None)
        fill = np.nan if values.dtype.kind == "f" else 0
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=chunks, shards=shards, fill_value=fill
        )
        array[:] = values
    geometry = {"views": 8, "bins": 12, "bin_mm": 4.0, "pixel_mm": 4.0}
    group.attrs.update({**data.attributes, "schema": "allpet dataset", "schema_version": 1, "geometry": geometry})


def test_stores_of_version_1_are_read_but_do_not_grow(tmp_path: Path) -> None:
    data = dataset(0, 6)
    data.arrays["labels"] = np.zeros((6, 12, 12), np.uint8)
    write_version_1(tmp_path / "old.zarr", data)
    store = open_store(tmp_path / "old.zarr")
    assert store.version == 1 and len(store) == 6 and store.verify() == 6
    for name, values in data.arrays.items():
        assert np.array_equal(store.rows(name), values)
    with pytest.raises(AllpetError, match=r"old\.zarr: is a store of version 1, which cannot grow"):
        append_store(data, tmp_path / "old.zarr")
    write_store(store.load(), tmp_path / "old.zarr")
    assert append_store(data, tmp_path / "old.zarr") == 12


# --- appending


@settings(max_examples=10)
@given(parts=st.lists(st.integers(1, 9), min_size=2, max_size=5), block=st.integers(1, 5))
def test_appended_in_parts_is_the_same_as_written_at_once(
    tmp_path_factory: pytest.TempPathFactory, parts: list[int], block: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    support.build(folder / "parts.zarr", parts[0], block)
    ends = np.cumsum(parts)
    for first, stop in pairwise(ends):
        assert append_store(dataset(int(first), int(stop), seed=int(first)), folder / "parts.zarr") == stop
    support.build(folder / "whole.zarr", int(ends[-1]), block)
    grown, whole = files_of(folder / "parts.zarr"), files_of(folder / "whole.zarr")
    facts = [json.loads(files.pop("zarr.json"))["attributes"] for files in (grown, whole)]
    assert grown == whole
    added = [{"first": int(k), "samples": n, "seed": int(k)} for k, n in zip(ends[:-1], parts[1:], strict=True)]
    hashes = [one.pop("sha256")["arrays"] for one in facts]
    assert hashes[0] == hashes[1]
    assert facts[0] == {**facts[1], "appended": added}
    assert sorted(path.name for path in folder.iterdir()) == ["parts.zarr", "whole.zarr"]


def test_killed_at_every_step_of_appending_the_old_samples_stay(tmp_path: Path) -> None:
    """Two arrays, 10 samples in blocks of 4, 13 more: 2 lists of hashes, 4 files each, 2 shapes, the number."""
    support.build(tmp_path / "base.zarr", 10, 4)
    steps = 2 + 2 * 4 + 2 + 1
    done = subprocess.run(
        [sys.executable, support.__file__, "kill-appends", tmp_path / "base.zarr", str(steps + 1)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [-9] * steps + [0]
    truth = support.make(0, 23)
    for k in range(steps + 1):
        path = tmp_path / f"{k}.zarr"
        store, n = open_store(path), 10 if k < steps else 23
        assert len(store) == n == store.verify() and store["sinogram"].shape[0] == n
        assert np.array_equal(store["sinogram"][:], truth["sinogram"][:n])
        assert all(np.array_equal(store.rows(name), values[:n]) for name, values in truth.items())
        assert append_store(dataset(n, n + 2), path) == n + 2  # fewer than the killed call would have added
        assert np.array_equal(open_store(path).rows("subject"), support.make(0, n + 2)["subject"])
        assert len(list((path / "subject/c").iterdir())) == -(-(n + 2) // 4)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_store_that_is_open_does_not_see_what_is_appended(tmp_path: Path) -> None:
    write_store(dataset(0, 5), tmp_path / "d.zarr")
    store = open_store(tmp_path / "d.zarr")
    append_store(dataset(5, 9), tmp_path / "d.zarr")
    assert len(store) == len(store.rows("subject")) == store["sinogram"].shape[0] == 5
    assert np.array_equal(store.rows("sinogram"), dataset(0, 5).sinogram)
    assert len(open_store(tmp_path / "d.zarr")) == 9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"beam": ParallelBeam(8, 12, 5.0)}, r"geometry .*'bin_mm': 5\.0.*, the store .*'bin_mm': 4\.0"),
        ({"attributes": {"units": {"sinogram": "kBq/mL*mm"}, "prompt": {"tracer": "FDG"}}}, "units"),
        ({"attributes": {"units": {"sinogram": "counts"}, "prompt": {"tracer": "PSMA"}}}, "prompt .*PSMA.*FDG"),
        ({"arrays": {"sinogram": support.make(0, 3)["sinogram"]}}, "arrays .*, the store .*subject"),
        ({"arrays": {**support.make(0, 3), "subject": np.zeros(3)}}, "subject .*float64.*int32"),
        ({"arrays": {**support.make(0, 3), "subject": np.zeros(2, np.int32)}}, r"must be \(3,\)"),
    ],
)
def test_only_samples_alike_are_appended(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    write_store(dataset(0, 3), tmp_path / "d.zarr")
    before = files_of(tmp_path)
    with pytest.raises(AllpetError, match=rf"d\.zarr: .*{says}"):
        append_store(replace(dataset(0, 3), **change), tmp_path / "d.zarr")
    assert files_of(tmp_path) == before


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    write_store(dataset(0, 3), tmp_path / "d.zarr")
    with locked(tmp_path / "d.zarr"):
        for work in (append_store, write_store):
            with pytest.raises(AllpetError, match=r"d\.zarr: another process is writing it"):
                work(dataset(0, 3), tmp_path / "d.zarr")
        assert len(open_store(tmp_path / "d.zarr").load()) == 3
    assert append_store(dataset(3, 4), tmp_path / "d.zarr") == 4
    with pytest.raises(AllpetError, match="no such dataset store"):
        append_store(dataset(0, 3), tmp_path / "absent.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["d.zarr"]


def test_frames_need_times(tmp_path: Path) -> None:
    data = dataset(0, 2)
    data.arrays["frames"] = np.ones((2, 3, 8, 12), np.float32)
    with pytest.raises(AllpetError, match="frame_start_s has 0 entries; it must have one for each of the 3 frames"):
        write_store(data, tmp_path / "d.zarr")
    times = {"frame_start_s": [0.0, 60.0, 180.0], "frame_duration_s": [60.0, 120.0, 300.0]}
    write_store(replace(data, attributes={**data.attributes, **times}), tmp_path / "d.zarr")
    data.arrays.update({name: np.tile(np.float32(values), (2, 1)) for name, values in times.items()})
    write_store(data, tmp_path / "e.zarr")
    data.arrays["frame_start_s"] = data.arrays["frame_start_s"][:, :2]
    with pytest.raises(AllpetError, match="frame_start_s has 2 entries"):
        write_store(data, tmp_path / "f.zarr")


def test_attributes_must_be_json(tmp_path: Path) -> None:
    for value in (object(), float("nan"), {"a": np.float32(1)}):
        with pytest.raises(AllpetError, match=r"d\.zarr: note is .*; attributes must be text"):
            write_store(dataset(0, 2, note=value), tmp_path / "d.zarr")
    assert not list(tmp_path.iterdir())


def test_a_data_set_and_its_store_make_the_same_scan(tmp_path: Path) -> None:
    data = simulate(3, region="chest", task="low-dose", scanner="mMR", thinning="activity", views=16, bins=24)
    write_store(data, tmp_path / "d.zarr")
    for index in (None, 1, slice(1, 3), [2, 0], -1):
        one, other = data.scan(index), read_store(tmp_path / "d.zarr", index)
        for name in ("sinogram", *FACTORS):
            a, b = getattr(one, name), getattr(other, name)
            assert (a is None and b is None) or torch.equal(a, b), (index, name)
        assert one.acquired() == other.acquired() and one.fwhm_mm == other.fwhm_mm == 4.3
        assert np.allclose(one.counts_per_unit, other.counts_per_unit)
    assert one.scanner == "Siemens mMR" and one.start_s == 3600 and one.decay_reference == "start"
    with pytest.raises(AllpetError, match="samples 0 to 2"):
        data.scan(3)
