"""Stores at URLs: put, read, resumed, refused; and what counts as a URL."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest

import build_support as support
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.build import block_for, build_store
from allpet.io.place import beside
from allpet.io.remote import Remote, place_of
from allpet.io.store import open_store

BEAM = ParallelBeam(support.VIEWS, support.BINS, 4.0)


@pytest.fixture
def url() -> str:
    memory = fsspec.filesystem("memory")
    if memory.exists("/far"):
        memory.rm("/far", recursive=True)
    return "memory://far/d.zarr"


def objects() -> dict[str, bytes]:
    memory = fsspec.filesystem("memory")
    return {path: memory.cat_file(path) for path in memory.find("/far")}


def build(url: str, make: object = support.make, **key: object) -> int:
    return build_store(url, 10, BEAM, support.ATTRIBUTES, make, 2, 4, resume_key=key)  # type: ignore[arg-type]


def test_the_same_files_as_on_disk(url: str, tmp_path: Path) -> None:
    assert build(url) == 10
    support.build(tmp_path / "d.zarr", 10, 4)
    here = {f"/far/{f.relative_to(tmp_path)}": f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    assert objects() == here
    store = open_store(url)
    assert len(store) == store.verify() == 10 and store.verify_hashes()
    assert np.array_equal(store.rows("sinogram", [9, 0]), support.make(0, 10)["sinogram"][[9, 0]])
    with pytest.raises(AllpetError, match=r"^memory://far/d\.zarr: exists; a store at a URL is not replaced"):
        build(url)


def test_resumed_where_it_was(url: str) -> None:
    made: list[int] = []

    def stop_at(where: int, first: int, stop: int) -> dict[str, np.ndarray]:
        if first == where:
            raise RuntimeError("power cut")
        made.append(first)
        return support.make(first, stop)

    with pytest.raises(RuntimeError):
        build(url, partial(stop_at, 8))
    with pytest.raises(AllpetError, match="there is no such dataset store"):
        open_store(url)
    with pytest.raises(AllpetError, match=r"an unfinished store with seed .* lies there; .*delete memory://far/\.d"):
        build(url, seed=1)
    fsspec.filesystem("memory").pipe_file("/far/d.zarr/sinogram/c/0/0/0", b"torn")
    made.clear()
    assert build(url, partial(stop_at, -1)) == 10 and made == [0, 8]
    assert open_store(url).verify() == 10 and not [path for path in objects() if "building" in path]


def test_killed_between_the_last_object_and_the_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(self: Remote) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "remove", die)
        with pytest.raises(SystemExit):
            build(url)
    assert len(open_store(url)) == 10
    assert build(url, _never) == 10 and not [path for path in objects() if "building" in path]


def _never(first: int, stop: int) -> dict[str, np.ndarray]:
    raise AssertionError("a block was made again")


def test_what_lies_there_is_left_alone(url: str) -> None:
    fsspec.filesystem("memory").pipe_file("/far/.d.zarr.building/only_copy.txt", b"precious")
    with pytest.raises(AllpetError, match=r"\.d\.zarr\.building: is not an unfinished store"):
        build(url)
    assert objects() == {"/far/.d.zarr.building/only_copy.txt": b"precious"}
    with pytest.raises(AllpetError, match="exists in this process only"):
        build_store(url, 4, BEAM, support.ATTRIBUTES, support.make, 1, 4, resume_key={}, scheduler="local")


def test_one_of_two_wins(url: str) -> None:
    key = Remote(url) / "key.json"
    assert key.create(b"one") and not key.create(b"two") and key.read_bytes() == b"one"


def test_damage_far_away_is_told(url: str) -> None:
    build(url)
    memory, file = fsspec.filesystem("memory"), "/far/d.zarr/sinogram/c/1/0/0"
    whole = memory.cat_file(file)
    memory.pipe_file(file, whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    with pytest.raises(AllpetError, match=r"memory://far/d\.zarr/sinogram/c/1/0/0"):
        open_store(url).verify()
    memory.rm(file)
    with pytest.raises(AllpetError, match=r"c/1/0/0: is missing or empty, with 'sinogram' of samples 4 to 7"):
        open_store(url).rows("sinogram")


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("a/b.zarr", Path("a/b.zarr")),
        ("file:///a/b%20c.zarr", Path("/a/b c.zarr")),
        ("s3://bucket/b.zarr/", Remote("s3://bucket/b.zarr")),
        ("simplecache::s3://bucket/b.zarr", Remote("simplecache::s3://bucket/b.zarr")),
        ("C:/a/b.zarr", Path("C:/a/b.zarr")),
    ],
)
def test_paths_and_urls(text: str, means: Path | Remote) -> None:
    assert place_of(text) == means and place_of(means) == means


def test_names_at_a_url() -> None:
    far = place_of("s3://bucket/x/b.zarr")
    assert (far.name, far.stem, far.suffix, str(far.parent)) == ("b.zarr", "b", ".zarr", "s3://bucket/x")
    assert str(beside(far, "-std")) == "s3://bucket/x/b-std.zarr" and beside(Path("b.zarr"), "-std") == Path(
        "b-std.zarr"
    )
    for bad, says in (("file://host/b.zarr", "another host"), ("s3://", "names no store")):
        with pytest.raises(AllpetError, match=says):
            place_of(bad)
    with pytest.raises(AllpetError, match=r"^nix://a/b\.zarr/zarr\.json: cannot be reached"):
        open_store("nix://a/b.zarr")


@pytest.mark.parametrize(
    ("n", "unit", "block"), [(1, 8, 8), (256, 8, 8), (512, 8, 16), (10**6, 8, 64), (10**6, 10, 70)]
)
def test_blocks_are_many_and_whole(n: int, unit: int, block: int) -> None:
    assert block_for(n, unit) == block
