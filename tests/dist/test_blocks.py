"""Blocks over a Dask cluster of two real processes: the same bits as one process, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import build_support as support
import dist_support
from allpet.dist import cluster as cluster_module
from allpet.dist.cluster import connected, results_of
from allpet.dist.pieces import Piece, run_pieces
from allpet.errors import AllpetError
from allpet.io.build import build_store

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of the store that one process makes."""
    path = tmp_path_factory.mktemp("whole") / "d.zarr"
    support.build(path, 40, 4)
    return files_of(path)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def notes(log: Path, what: str) -> list[tuple[int, int]]:
    """(first sample, process) of all blocks that were begun or made."""
    return [(int(a), int(b)) for a, b, word in (path.name.split(".") for path in log.iterdir()) if word == what]


def wait_for(condition: Any, what: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def test_two_workers_make_the_store_of_one_process(address: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    assert dist_support.build_noted(tmp_path / "d.zarr", log, address, 0.05) == 40
    assert files_of(tmp_path / "d.zarr") == whole
    made = notes(log, "made")
    assert sorted(first for first, _ in made) == list(range(0, 40, 4)) and len({pid for _, pid in made}) == 2
    # the same through fsspec, which "local" forces where a "file" URL is a path
    dist_support.build_noted(f"local://{tmp_path}/e.zarr", log, address)
    dist_support.build_noted(f"file://{tmp_path}/f.zarr", log, address)
    assert files_of(tmp_path / "e.zarr") == files_of(tmp_path / "f.zarr") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.zarr", "e.zarr", "f.zarr", "log"]


def test_workers_run_on_one_thread(address: str, tmp_path: Path) -> None:
    from allpet.io.store import open_store

    how: dict[str, Any] = {"resume_key": {}, "scheduler": address}
    build_store(tmp_path / "d.zarr", 4, dist_support.BEAM, support.ATTRIBUTES, support.make_threads, 1, 4, **how)
    assert (open_store(tmp_path / "d.zarr").rows("threads") == 1).all()


def test_a_killed_worker_costs_its_block_only(address: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    with ThreadPoolExecutor(1) as thread:
        build = thread.submit(dist_support.build_noted, tmp_path / "d.zarr", log, address, 0.3)
        wait_for(lambda: len(notes(log, "begun")) >= 4 and len(notes(log, "made")) >= 2, "no block was made")
        busy = {pid for block, pid in notes(log, "begun") if (block, pid) not in notes(log, "made")}
        victim = max(busy)
        os.kill(victim, signal.SIGKILL)
        assert build.result(timeout=60) == 40
    assert files_of(tmp_path / "d.zarr") == whole
    made, begun = notes(log, "made"), notes(log, "begun")
    lost = {block for block, pid in begun if pid == victim} - {block for block, pid in made if pid == victim}
    assert len(lost) == 1 and lost < {block for block, pid in made if pid != victim}
    assert len(made) == 10 and len(begun) == 11


def test_a_killed_client_goes_on_and_does_no_finished_block_again(
    address: str, whole: dict[str, bytes], tmp_path: Path
) -> None:
    log, done = tmp_path / "log", tmp_path / ".d.zarr.building" / "done"
    log.mkdir()
    command = [sys.executable, dist_support.__file__, str(tmp_path / "d.zarr"), str(log), address]
    path = os.pathsep.join([str(Path(dist_support.__file__).parent), os.environ.get("PYTHONPATH", "")])
    client = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    wait_for(lambda: done.is_dir() and len(list(done.glob("*.json"))) >= 3, "no block was finished")
    client.send_signal(signal.SIGKILL)
    client.wait()
    time.sleep(0.5)  # what the workers have in work, they end
    finished = {int(path.stem) * 4 for path in done.glob("*.json")}
    assert 3 <= len(finished) <= 8
    before = sorted(notes(log, "begun"))
    dist_support.build_noted(tmp_path / "d.zarr", log, address)
    assert not finished & {block for block, _ in set(notes(log, "begun")) - set(before)}
    assert files_of(tmp_path / "d.zarr") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.zarr", "log"]


def test_an_error_in_a_worker_comes_back_as_one_line(address: str, tmp_path: Path) -> None:
    for how, says in (
        ("ours", r"^a\.zarr: is wrong; make it right$"),
        ("theirs", r"d\.zarr: samples (8|12) to (11|15): failed in a worker with RuntimeError \(two lines\)$"),
    ):
        make = partial(dist_support.make_failing, how=how)
        with pytest.raises(AllpetError, match=says) as caught:
            beam = dist_support.BEAM
            build_store(tmp_path / "d.zarr", 16, beam, support.ATTRIBUTES, make, 1, 4, resume_key={}, scheduler=address)
        assert "\n" not in str(caught.value) and not (tmp_path / "d.zarr").exists()
    assert len(list((tmp_path / ".d.zarr.building" / "done").iterdir())) == 2  # what was finished is kept


def test_a_worker_that_does_not_see_the_folder(address: str, tmp_path: Path) -> None:
    from allpet.io.job import Job, make_block_elsewhere

    job = Job(tmp_path / "d.zarr", 4, dist_support.BEAM, support.make, 4)
    with pytest.raises(AllpetError, match=r"d\.zarr: a worker does not see .*building; .* a shared file system"):
        list(results_of(make_block_elsewhere, [(job, 0)], ["d.zarr"], address))


def test_other_versions_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "versions", lambda: (("torch", "0.1"), ("Python", "2.7")))
    with pytest.raises(
        AllpetError, match=r"worker on \S+: has torch .* instead of 0\.1, Python 3\.\d+ instead of 2\.7"
    ):
        list(results_of(abs, [(1,)], ["x"], address))


def test_pieces_over_the_cluster(address: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    pieces = [
        Piece(f"p{k}", "dist_support:square", {"x": k, "log": str(log), "pause_s": 0.1}, {"model": "h"})
        for k in range(6)
    ]
    told: list[float] = []
    found = run_pieces(pieces, tmp_path / "keep", scheduler=address, progress=lambda _, share: told.append(share))
    assert list(found) == [f"p{k}" for k in range(6)] and [one["square"] for one in found.values()] == [
        k * k for k in range(6)
    ]
    assert len({one["process"] for one in found.values()}) == 2 and told[-1] == 1 and told == sorted(told)
    assert run_pieces(pieces, tmp_path / "keep") == found and len(list(log.iterdir())) == 6
    with pytest.raises(AllpetError, match=r"^x is -1; it must not be negative$"):
        bad = Piece("bad", "dist_support:square", {"x": -1, "log": str(log)})
        run_pieces([*pieces, bad], tmp_path / "keep", scheduler=address)


def test_nobody_answers_or_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_S", 0.5)
    for where, says in (
        ("tcp://127.0.0.1:1", r"^tcp://127\.0\.0\.1:1: no Dask scheduler answers there"),
        ("host", r"^host: is no scheduler; give tcp://HOST:PORT"),
        (str(tmp_path / "s.json"), r"s\.json: there is no such scheduler file"),
    ):
        with pytest.raises(AllpetError, match=says), connected(where):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(AllpetError, match=r"pip install 'allpet\[dist\]'"), connected("local"):
        pass


def test_a_cluster_of_our_own_listens_on_the_loopback_only() -> None:
    import psutil

    me = psutil.Process()
    before = set(me.net_connections())
    with connected("local", 1) as client:
        assert client.submit(os.getpid).result() != os.getpid()
        everybody = [me, *me.children(recursive=True)]
        opened = {one for process in everybody for one in process.net_connections()} - before
        listening = [one.laddr for one in opened if one.status == psutil.CONN_LISTEN]
        assert len(listening) >= 3 and all(place.ip == "127.0.0.1" for place in listening)
        port = client.scheduler_info()["services"]["dashboard"]  # Dask always listens there, but we leave it no page
        for page in ("/", "/status", "/info/main/workers.html", "/json/counts.json"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(f"http://127.0.0.1:{port}{page}", timeout=5)
