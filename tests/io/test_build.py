"""The builder: one result whatever the workers, kills and repetitions; one-line errors for all that stops it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import allpet.io.build as build_module
import build_support as support
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.build import build_store
from allpet.io.store import open_store

BEAM = ParallelBeam(support.VIEWS, support.BINS, 4.0)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def script(*arguments: object) -> subprocess.Popen[str]:
    """A process of its own, in a session of its own, so that Ctrl-C can be sent to it and its workers."""
    command = [sys.executable, support.__file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_blocks(target: Path, blocks: int, builder: subprocess.Popen[str]) -> None:
    done = target.with_name(f".{target.name}.building") / "done"
    while not (done.is_dir() and len(list(done.iterdir())) >= blocks):
        assert builder.poll() is None, builder.communicate()[1]
        time.sleep(0.02)


def test_content_is_what_make_gives_and_nothing_stays_beside(tmp_path: Path) -> None:
    assert support.build(tmp_path / "d.zarr", 10, 4, seed=5) == 10
    store = open_store(tmp_path / "d.zarr")
    assert len(store) == store.verify() == 10 and store.block == 4 and store.beam == BEAM
    for name, values in support.make(0, 10, seed=5).items():
        assert np.array_equal(store.rows(name), values) and store[name].dtype == values.dtype
    assert store.prompt == {"tracer": "FDG"}
    assert [path.name for path in tmp_path.iterdir()] == ["d.zarr"]
    assert sorted(path.name for path in (tmp_path / "d.zarr" / "sinogram" / "c").iterdir()) == ["0", "1", "2"]


def test_workers_and_block_do_not_change_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    try:
        for workers in (1, 2):
            support.build(tmp_path / f"{workers}.zarr", 11, 4, workers, support.make_threads)
            assert torch.get_num_threads() == 3 and os.environ["OMP_NUM_THREADS"] == "3"
    finally:
        torch.set_num_threads(before)
    assert files_of(tmp_path / "1.zarr") == files_of(tmp_path / "2.zarr")
    assert (open_store(tmp_path / "2.zarr").rows("threads") == 1).all()
    for block in (1, 3, 64):
        support.build(tmp_path / "other.zarr", 11, block)
        other = open_store(tmp_path / "other.zarr")
        assert other.block == block
        for name in other:
            assert np.array_equal(other.rows(name), open_store(tmp_path / "1.zarr").rows(name))


def test_killed_at_random_moments_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    runner = script("kill-builds", tmp_path)
    out, errors = runner.communicate()
    assert runner.returncode == 0, errors
    counted = json.loads(out)
    assert counted["killed"] == 20 and counted["kept"] >= 20  # the kills fell into the work, and work was kept
    support.build(tmp_path / "whole.zarr", 17, 3)
    whole = files_of(tmp_path / "whole.zarr")
    for k in range(20):
        assert files_of(tmp_path / f"{k}.zarr") == whole
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_second_builder_kill_of_workers_other_options_and_resuming(tmp_path: Path) -> None:
    target, done = tmp_path / "d.zarr", tmp_path / ".d.zarr.building" / "done"
    builder = script("build-slowly", target, 2)
    wait_for_blocks(target, 2, builder)
    with pytest.raises(AllpetError, match=r"d\.zarr: another process is writing it"):
        support.build(target, 40, 4, pause_s=0.2)
    builder.kill()
    builder.communicate()
    time.sleep(0.1)
    finished = {path.name: path.stat().st_mtime_ns for path in done.iterdir()}
    time.sleep(0.6)  # 0.2 s a block: workers that outlived the kill would finish some
    assert {path.name: path.stat().st_mtime_ns for path in done.iterdir()} == finished and len(finished) < 10

    with pytest.raises(
        AllpetError, match=r"with pause_s 0\.2 instead of 0\.0 lies there.*delete .*\.d\.zarr\.building"
    ):
        support.build(target, 40, 4, pause_s=0.0)
    with pytest.raises(AllpetError, match=r"with n 40 instead of 41 lies there"):
        support.build(target, 41, 4, pause_s=0.2)
    made: list[int] = []
    build_store(
        target, 40, BEAM, support.ATTRIBUTES, partial(_noted, made), 1, 4, resume_key={"seed": 0, "pause_s": 0.2}
    )
    assert set(made) == set(range(0, 40, 4)) - {4 * int(name.removesuffix(".json")) for name in finished}
    support.build(tmp_path / "whole.zarr", 40, 4)
    assert files_of(target) == files_of(tmp_path / "whole.zarr")


def _noted(made: list[int], first: int, stop: int) -> dict[str, np.ndarray]:
    made.append(first)
    return support.make(first, stop)


def test_ctrl_c_ends_the_workers_and_says_what_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "d.zarr"
    builder = script("build-slowly", target, 2)
    wait_for_blocks(target, 2, builder)
    os.killpg(builder.pid, signal.SIGINT)
    errors = builder.communicate()[1]
    assert builder.returncode not in (0, None) and errors.count("Traceback") == 1
    kept = re.search(r"d\.zarr: interrupted, (\d+) of 40 samples are kept; the same command goes on", errors)
    assert kept is not None, errors
    assert int(kept[1]) == 4 * len(list((tmp_path / ".d.zarr.building" / "done").iterdir()))


def test_ctrl_c_in_this_process_says_what_is_kept(tmp_path: Path) -> None:
    def pressed(first: int, stop: int) -> dict[str, np.ndarray]:
        if first == 8:
            raise KeyboardInterrupt
        return support.make(first, stop)

    with pytest.raises(KeyboardInterrupt, match=r"d\.zarr: interrupted, 8 of 10 samples are kept"):
        build_store(tmp_path / "d.zarr", 10, BEAM, support.ATTRIBUTES, pressed, 1, 4, resume_key={})


def test_a_block_is_tried_again_once_when_a_worker_dies(tmp_path: Path) -> None:
    for name in ("8.once", "16.always"):
        (tmp_path / name).touch()
    target = tmp_path / "d.zarr"
    with pytest.raises(AllpetError, match=r"d\.zarr: the process that makes samples 16 to 19 keeps dying"):
        support.build(target, 22, 4, 2, support.make_dying, folder=str(tmp_path))
    assert not (tmp_path / "8.once").exists() and not target.exists()
    done = {path.name for path in (tmp_path / ".d.zarr.building" / "done").iterdir()}
    assert done >= {"0.json", "1.json", "2.json", "3.json"} and "4.json" not in done
    (tmp_path / "16.always").unlink()
    assert support.build(target, 22, 4, 1, support.make_dying, folder=str(tmp_path)) == 22
    support.build(tmp_path / "whole.zarr", 22, 4)
    assert files_of(target) == files_of(tmp_path / "whole.zarr")


def test_a_damaged_or_missing_file_of_a_finished_block_is_made_again(tmp_path: Path) -> None:
    def stop_at_12(first: int, stop: int) -> dict[str, np.ndarray]:
        if first == 12:
            raise RuntimeError("power cut")
        return support.make(first, stop)

    target, made = tmp_path / "d.zarr", []
    with pytest.raises(RuntimeError, match="power cut"):
        build_store(target, 20, BEAM, support.ATTRIBUTES, stop_at_12, 1, 4, resume_key={})
    folder = tmp_path / ".d.zarr.building"
    shard = folder / "store" / "sinogram" / "c" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")  # same size, other content
    (folder / "store" / "subject" / "c" / "2").unlink()
    (folder / "done" / "1.json").write_text("{")
    build_store(target, 20, BEAM, support.ATTRIBUTES, partial(_noted, made), 1, 4, resume_key={})
    assert made == [0, 4, 8, 12, 16]
    support.build(tmp_path / "whole.zarr", 20, 4)
    assert files_of(target) == files_of(tmp_path / "whole.zarr")


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_killed_while_an_older_store_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    """Stopped before, between and after the two moves that put the new store in the place of the old one."""
    target = tmp_path / "d.zarr"
    support.build(target, 5, 4, seed=1)
    put, seen = os.replace, []

    def replace_or_die(source: Path, place: Path) -> None:
        if Path(source).name in ("store", "d.zarr"):
            if len(seen) == moves:
                raise SystemExit
            seen.append(source)
        put(source, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_or_die)
        if moves == 2:
            patch.setattr("allpet.io.place.shutil.rmtree", _exit)
        with pytest.raises(SystemExit):
            support.build(target, 9, 4, seed=2)
    assert support.build(target, 9, 4, seed=2) == 9
    assert np.array_equal(open_store(target).rows("sinogram"), support.make(0, 9, seed=2)["sinogram"])
    assert [path.name for path in tmp_path.iterdir()] == ["d.zarr"]


def _exit(*_: object, **__: object) -> None:
    raise SystemExit


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    for name, folder in (("d.zarr", tmp_path / "d.zarr"), ("e.zarr", tmp_path / ".e.zarr.building")):
        folder.mkdir()
        (folder / "only_copy.txt").write_text("precious")
        with pytest.raises(AllpetError, match=r"is not an (allpet dataset|unfinished) store"):
            support.build(tmp_path / name, 4, 4)
        assert (folder / "only_copy.txt").read_text() == "precious"
    with pytest.raises(AllpetError, match=r"folder .* does not exist"):
        support.build(tmp_path / "absent" / "d.zarr", 4, 4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subject": np.zeros(3)}, r"'subject' has shape \(3,\); it must be \(4,\)"),
        ({"image": np.full((4, 12, 12), np.nan)}, "'image' holds NaN"),
        ({"sinogram": np.zeros((4, 8, 11))}, r"it must be \(4, 8, 12\)"),
        ({"frames": np.zeros((4, 2, 8, 12))}, "frame_start_s has 0 entries; it must have one for each of the 2 frames"),
        ({"../up": np.zeros(4)}, "a name is letters, digits and underscores"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, np.ndarray], says: str) -> None:
    def bad(first: int, stop: int) -> dict[str, np.ndarray]:
        return {**support.make(first, stop), **change}

    with pytest.raises(AllpetError, match=says):
        build_store(tmp_path / "d.zarr", 8, BEAM, support.ATTRIBUTES, bad, 1, 4, resume_key={})
    assert not (tmp_path / "d.zarr").exists()


def test_blocks_must_be_alike_and_options_sensible(tmp_path: Path) -> None:
    def drifting(first: int, stop: int) -> dict[str, np.ndarray]:
        rows = support.make(first, stop)
        return {**rows, "subject": rows["subject"].astype(np.int64 if first else np.int32)}

    with pytest.raises(AllpetError, match=r"samples 4 to 7 have arrays .*int64.* all must be alike"):
        build_store(tmp_path / "d.zarr", 8, BEAM, support.ATTRIBUTES, drifting, 1, 4, resume_key={})
    for name, options in (("n", (0, 4, 1)), ("block", (4, 0, 1)), ("workers", (4, 4, 0))):
        with pytest.raises(AllpetError, match=rf"{name} is 0; it must be at least 1"):
            support.build(tmp_path / "e.zarr", *options)
    with pytest.raises(AllpetError, match="the unit of 'sinogram' is missing"):
        build_store(tmp_path / "e.zarr", 8, BEAM, {}, support.make, 1, 4, resume_key={})
    with pytest.raises(AllpetError, match="note is <object"):
        note = {**support.ATTRIBUTES, "note": object()}
        build_store(tmp_path / "e.zarr", 8, BEAM, note, support.make, 1, 4, resume_key={})
    assert not (tmp_path / "e.zarr").exists() and not (tmp_path / ".e.zarr.building").exists()


def test_a_disk_too_small_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        free = 10_000

    monkeypatch.setattr(build_module.shutil, "disk_usage", lambda _: Little)
    with pytest.raises(AllpetError, match=r"GB more are needed .* the same command goes on"):
        support.build(tmp_path / "d.zarr", 400, 4)
    assert len(list((tmp_path / ".d.zarr.building" / "done").iterdir())) == 1
    monkeypatch.undo()
    assert support.build(tmp_path / "d.zarr", 400, 4) == 400


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_store(tmp_path / "d.zarr", 8, BEAM, support.ATTRIBUTES, support.make, 1, 4, True, resume_key={})
    out, errors = capsys.readouterr()
    assert out == "" and "building d.zarr" in errors and "8/8" in errors
