"""A store knows the SHA-256 of its files: what was changed is refused by name, what others wrote is accepted."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import zarr

import build_support as support
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io import store as store_module
from allpet.io.convert import describe
from allpet.io.schema import encode, file_key
from allpet.io.store import append_store, open_store, write_store
from allpet.scan.dataset import Dataset

BEAM = ParallelBeam(support.VIEWS, support.BINS, 4.0)


def dataset(first: int, stop: int, seed: int = 0) -> Dataset:
    return Dataset(support.make(first, stop, seed), BEAM, support.ATTRIBUTES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_store(dataset(0, 70), tmp_path / "d.zarr")
    return tmp_path / "d.zarr"


def change_attributes(path: Path, **changes: object) -> None:
    meta = json.loads((path / "zarr.json").read_text())
    meta["attributes"].update(changes)
    (path / "zarr.json").write_text(json.dumps(meta))


def without_hashes(path: Path) -> None:
    """As an older version or another program writes a store."""
    meta = json.loads((path / "zarr.json").read_text())
    del meta["attributes"]["sha256"]
    (path / "zarr.json").write_text(json.dumps(meta))
    for place in path.glob("*/sha256-*.txt"):
        place.unlink()


def test_values_replaced_by_others_with_right_checksums_are_refused(path: Path) -> None:
    """A tamperer who encodes other values properly passes zarr and its crc32c, and is found all the same."""
    file = path / "sinogram" / file_key(3, 1)
    file.write_bytes(encode(dataset(64, 70, seed=9).sinogram, 64))
    assert np.array_equal(zarr.open_group(path, mode="r")["sinogram"][64:], dataset(64, 70, seed=9).sinogram)
    assert len(open_store(path).rows("sinogram", slice(0, 64))) == 64  # the other file is as it was
    with pytest.raises(AllpetError, match=r"sinogram/c/1/0/0: does not match its sha256, .* write the store again"):
        open_store(path).rows("sinogram", 65)
    with pytest.raises(AllpetError, match="sinogram/c/1/0/0: does not match"):
        describe(path)
    assert len(open_store(path, hashes=False).rows("sinogram", 65)) == 1


def test_changed_metadata_is_refused(path: Path) -> None:
    array = path / "sinogram/zarr.json"
    whole = array.read_text()
    array.write_text(whole.replace('"fill_value": "NaN"', '"fill_value": 1.0'))
    assert array.read_text() != whole
    with pytest.raises(AllpetError, match=r"sinogram/zarr\.json: does not match its sha256"):
        open_store(path).rows("sinogram", 0)
    array.write_text(whole)
    change_attributes(path, units={"sinogram": "kBq/mL*mm"})
    with pytest.raises(AllpetError, match=r"d\.zarr/zarr\.json: does not match its sha256"):
        open_store(path)
    change_attributes(path, units={"sinogram": "counts"})
    assert open_store(path).verify() == 70
    change_attributes(path, sha256={"arrays": {}, "attributes": 3})
    with pytest.raises(AllpetError, match=r"zarr\.json: does not match"):
        open_store(path)


def test_a_list_that_is_changed_or_lost_is_an_error(path: Path) -> None:
    (lines,) = (path / "subject").glob("sha256-*.txt")
    text = lines.read_text()
    lines.write_text(text.replace(text[:8], "00000000", 1))
    with pytest.raises(AllpetError, match=r"sha256-.*: does not match its sha256"):
        open_store(path).rows("subject")
    lines.unlink()
    with pytest.raises(AllpetError, match=r"subject/sha256-.*: cannot be read"):
        open_store(path).rows("subject")
    assert len(open_store(path).rows("sinogram")) == 70  # lists are read when they are needed


def test_the_lists_are_those_of_sha256sum_and_cover_every_file(path: Path) -> None:
    covered = 1  # the group's zarr.json, whose attributes hash themselves
    for lines in path.glob("*/sha256-*.txt"):
        assert hashlib.sha256(lines.read_bytes()).hexdigest().startswith(lines.stem.removeprefix("sha256-"))
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", lines.name], cwd=lines.parent, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        covered += len(done.stdout.splitlines())
    files = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith("sha256-")]
    assert covered == len(files) == open_store(path).verify_hashes()


def test_a_file_is_hashed_once_and_only_when_it_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    known = hashlib.file_digest

    def noted(handle: IO[bytes], kind: str) -> Any:
        read.append(str(Path(handle.name).relative_to(path)))
        return known(handle, kind)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    store = open_store(path)
    assert read == []
    for k in (0, 5, 66, 1):
        store.rows("sinogram", k)
    assert read == ["sinogram/zarr.json", "sinogram/c/0/0/0", "sinogram/c/1/0/0"]


def test_stores_of_others_are_accepted_and_grow_without(path: Path) -> None:
    without_hashes(path)
    store = open_store(path)
    assert store.hashes is None and store.verify_hashes() is None and store.verify() == 70
    assert describe(path)["hashes"].startswith("none")
    assert append_store(dataset(70, 75), path) == 75
    assert open_store(path).hashes is None and not list(path.glob("*/sha256-*"))
    write_store(open_store(path).load(), path)
    assert describe(path)["hashes"] == "verified (sha256 of 7 files)"


def test_appends_killed_twice_at_every_step_leave_a_verified_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two appends of other content die one after the other: a file may be in any of three states, none is refused."""

    class Killed(BaseException):
        pass

    def dying_after(moves: int, target: Path):
        left = [moves]

        def replace(source, where):
            if str(where).startswith(str(target) + "/"):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
            known(source, where)

        return replace

    write_store(dataset(0, 10), tmp_path / "base.zarr")
    known = store_module.os.replace
    for first, second in ((3, 1), (3, 3), (4, 2), (6, 5), (7, 7)):  # 2 lists, 2 files, 2 shapes, 1 number
        path = tmp_path / f"{first}-{second}.zarr"
        shutil.copytree(tmp_path / "base.zarr", path)
        for moves, seed in ((first, 1), (second, 2)):
            monkeypatch.setattr("os.replace", dying_after(moves, path))
            try:
                append_store(dataset(10, 13, seed), path)
            except Killed:
                pass
            monkeypatch.undo()
            store = open_store(path)
            assert store.verify_hashes() and np.array_equal(store.rows("sinogram")[:10], dataset(0, 10).sinogram)
        before = len(open_store(path))
        assert append_store(dataset(13, 15, 3), path) == before + 2
        assert np.array_equal(open_store(path).rows("sinogram")[-2:], dataset(13, 15, 3).sinogram)
        assert open_store(path).verify() == before + 2
        assert len(list(path.glob("*/sha256-*.txt"))) == 2


def test_a_store_that_is_open_while_it_grows_twice_still_reads(path: Path) -> None:
    store = open_store(path)
    store.rows("subject", 0)
    for first in (70, 75):
        append_store(dataset(first, first + 5), path)
    assert np.array_equal(store.rows("sinogram"), dataset(0, 70).sinogram)
    assert np.array_equal(store.rows("subject"), dataset(0, 70)["subject"])
