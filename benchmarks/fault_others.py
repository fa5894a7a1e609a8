"""Faults other than a kill, for :mod:`faults`: the disk, the folder, memory, the clock, a second process, tampering.

Each function takes the folder with the inputs and returns a row of the table; `problems` is empty where every command
ended with one clear line and exit code 2 (130 for Ctrl-C), kept what was good, and left nothing half-written.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fault_cases import CASES, STEPS, Case, Ran, end, left_behind, result_of, run, start

EXTRA = (
    Case("recon", ("recon", "../in/scan.hs", "--out", "out.nii.gz", "--iterations", "1")),
    Case("attend", ("attend", "../in/scan.hs", "--out", "out")),
)
CLOCK_LIBRARIES = [f"/usr/lib/{kind}-linux-gnu/faketime/libfaketime.so.1" for kind in ("x86_64", "aarch64")]


def _row(fault: str, tried: int, how: str, problems: list[str], said: list[str]) -> dict[str, Any]:
    short = sorted({re.sub(r"\S*/(in|work)/", "", line)[:200] for line in said if line})
    return {"fault": fault, "tried": tried, "how": how, "said": short, "problems": problems}


def _fresh(base: Path) -> Path:
    folder = base / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _refused(name: str, ran: Ran, code: int = 2) -> list[str]:
    """What is wrong with how a command was refused."""
    if ran.code != code:
        return [f"{name}: ended with {ran.code}, not {code}: {ran.said[-300:]}"]
    return [] if ran.error else [f"{name}: did not say one line: {ran.said[-300:]}"]


# --- disk -------------------------------------------------------------------------------------------------------------


@contextmanager
def _mounted(folder: Path, size: str) -> Iterator[bool]:
    """A small disk in memory at a folder; False where mounting is not allowed."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def _fill(folder: Path, leave: int) -> Path:
    """Fill the disk but for some bytes."""
    path = folder / "filler"
    with open(path, "wb") as file:
        while (free := shutil.disk_usage(folder).free) > leave:
            file.write(bytes(min(free - leave, 1 << 20)))
            file.flush()
    return path


def disk_full(base: Path, quick: bool) -> dict[str, Any]:
    """Every writing command, without an older result and over one, on a disk with a few kB left."""
    problems, said, tried, how = [], [], 0, ""
    cases = [*CASES.values(), *EXTRA]
    for case in [case for case in cases if not quick or case.name in ("train", "simulate", "apply")]:
        for over in (False, True):
            folder = base / "work"
            shutil.rmtree(folder, ignore_errors=True)
            with _mounted(folder, "512m") as mounted:
                how = "tmpfs with 8 kB left" if mounted else "files limited to 2 kB (RLIMIT_FSIZE)"
                arguments = case.arguments
                if over:
                    done = run(_shorter(case), folder)
                    assert done.code == 0, done.said
                older = result_of(folder)
                filler = _fill(folder, 8192) if mounted else folder / "none"
                ran = run(arguments, folder, before=None if mounted else _small_files)
                tried += 1
                said.append(ran.error)
                problems += _refused(f"{case.name} on a full disk", ran)
                filler.unlink(missing_ok=True)
                now = result_of(folder)
                lost = [name for name, content in older.items() if now.get(name) != content and "stats" not in name]
                more = [name for name in now if name not in older and not _bookkeeping(name)]
                if lost or more:
                    problems.append(f"{case.name}: lost {lost[:3]}, half-written {more[:3]}")
                if left := [name for name in left_behind(folder) if ".building" not in name]:
                    problems.append(f"{case.name}: left behind {left[:3]}")
                again = run(arguments, folder)
                if again.code != 0:
                    problems.append(f"{case.name}: with room again it ended with {again.code}: {again.said[-200:]}")
    return _row("disk full", tried, how, problems, said)


def _shorter(case: Case) -> tuple[str, ...]:
    """A run that leaves an older good result for the command to go on from or to replace."""
    if case.older is not None:
        return case.older
    if str(STEPS) in case.arguments:
        return tuple("4" if word == str(STEPS) else word for word in case.arguments)
    if case.name == "simulate":
        return (*case.arguments, "--seed", "5")
    return case.arguments


def _bookkeeping(name: str) -> bool:
    """What a command keeps to go on with: that is no result."""
    return ".building" in name or Path(name).name.startswith(("options-", "stats", "checkpoint-"))


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def read_only(base: Path, quick: bool) -> dict[str, Any]:
    """Every writing command in a folder that cannot be written."""
    problems, said, tried, how = [], [], 0, ""
    for case in [
        case for case in (*CASES.values(), *EXTRA) if not quick or case.name not in ("adapt", "apply", "attend")
    ]:
        folder = base / "work"
        shutil.rmtree(folder, ignore_errors=True)
        with _mounted(folder, "64m") as mounted:
            before: Callable[[], None] | None = None
            if mounted:
                how = "read-only mount"
                subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, capture_output=True)
            else:
                how = "a folder of mode 555"
                os.chmod(folder, 0o555)
                before = partial(os.seteuid, 65534) if os.geteuid() == 0 else None
            ran = run(case.arguments, folder, before=before)
            tried += 1
            said.append(ran.error)
            problems += _refused(f"{case.name} in a read-only folder", ran)
            if left := result_of(folder):
                problems.append(f"{case.name}: left {list(left)[:3]}")
            os.chmod(folder, 0o755) if not mounted else None
    return _row("read-only folder", tried, how, problems, said)


# --- memory, clock ----------------------------------------------------------------------------------------------------


def memory(base: Path, quick: bool) -> dict[str, Any]:
    """A little more address space than what is loaded; and train's own limit."""
    problems, said, tried = [], [], 0
    for name in ("convert", "apply", "generate", "train"):
        folder = _fresh(base)
        for extra in (8, 48) if quick else (2, 8, 24, 48, 96):
            ran = run(CASES[name].arguments, folder, before=partial(_limit, extra << 20))
            tried += 1
            said.append(ran.error)
            if ran.code == 0:
                shutil.rmtree(folder)
                folder.mkdir()
                continue
            problems += _refused(f"{name} with {extra} MiB more", ran)
            if half := [key for key in result_of(folder) if not _bookkeeping(key)]:
                problems.append(f"{name} with {extra} MiB more: half-written {half[:3]}")
            if left := left_behind(folder):
                problems.append(f"{name} with {extra} MiB more: left behind {left[:3]}")
    folder = _fresh(base)
    ran = run((*CASES["train"].arguments, "--max-memory-gib", "0.01"), folder)
    tried += 1
    said.append(ran.error)
    problems += _refused("train --max-memory-gib", ran)
    if run(CASES["train"].arguments, folder).code != 0:
        problems.append("train did not go on after its memory limit")
    return _row("memory limit", tried, "RLIMIT_AS a few MiB above what is loaded; --max-memory-gib", problems, said)


def _limit(extra: int) -> None:
    size = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (size + extra, size + extra))


def clock(base: Path, quick: bool) -> dict[str, Any]:
    """The wall clock jumps a year ahead and two back while a run is limited by minutes."""
    problems: list[str] = []
    library = next((name for name in CLOCK_LIBRARIES if Path(name).is_file()), None)
    jumps = ("+365d", "-365d", "+0") if not quick else ("-365d",)
    for jump in jumps:
        folder = _fresh(base)
        minutes = 0.05 if quick else 0.1
        words = [
            "train",
            "--data",
            "../in/few.zarr",
            "--out",
            "run",
            "--recipe",
            "low-dose",
            "--max-minutes",
            str(minutes),
        ]
        begun = time.monotonic()
        if library is None:
            ran = run(words, folder, before=partial(_jumping, 1.0, -3e7 if jump.startswith("-") else 3e7))
        else:
            ran = _under_fake_clock(words, folder, library, jump)
        took = time.monotonic() - begun
        if ran.code != 0 or "Traceback" in ran.said:
            problems.append(f"jump {jump}: ended with {ran.code}: {ran.said[-300:]}")
            continue
        import json

        lines = [json.loads(line) for line in (folder / "run/stats.jsonl").read_text().splitlines()]
        seconds = lines[-1]["seconds"]
        if not 60 * minutes <= seconds < 60 * minutes + 30 or took > 120:
            problems.append(f"jump {jump}: counted {seconds} s of {60 * minutes} s, took {took:.0f} s")
        if re.search(r"-\d+:\d\d", ran.said):
            problems.append(f"jump {jump}: a negative time was shown")
    how = "libfaketime, the monotonic clock left alone" if library else "time.time() replaced"
    return _row("clock jump in train --max-minutes", len(jumps), f"{how}: {', '.join(jumps)}", problems, [])


def _under_fake_clock(words: list[str], folder: Path, library: str, jump: str) -> Ran:
    """As a program of its own, whose clock jumps once it trains."""
    stamp = folder.parent / "clock"
    stamp.write_text("+0")
    env = {**os.environ, "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(stamp), "FAKETIME_NO_CACHE": "1"}
    env["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
    begun = time.monotonic()
    log = folder.parent / "clock.log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "allpet", *words], cwd=folder, env=env, stdout=out, stderr=out
        )
    while process.poll() is None and not (folder / "run/.stats.jsonl.lock").exists():
        time.sleep(0.05)
    time.sleep(1.0)
    stamp.write_text(jump)
    return Ran(process.wait(300), time.monotonic() - begun, log.read_text())


def _jumping(after_s: float, jump_s: float) -> None:
    """In this process, ``time.time`` jumps once."""
    real, begun = time.time, time.monotonic()
    time.time = lambda: real() + (jump_s if time.monotonic() - begun > after_s else 0.0)


# --- two at once, Ctrl-C, tampering -----------------------------------------------------------------------------------


def two_at_once(base: Path, quick: bool) -> dict[str, Any]:
    """A second process on one run folder, store or model folder; then the first is killed, and its lock is no bar."""
    problems, said, tried = [], [], 0
    locks = {"train": "run/.stats.jsonl.lock", "simulate": ".out.zarr.lock", "adapt": "out/.stats.jsonl.lock"}
    for name in [name for name in locks if not quick or name != "adapt"]:
        case, folder = CASES[name], _fresh(base)
        whole = run(case.arguments, folder)
        assert whole.code == 0, whole.said
        result = result_of(folder)
        folder = _fresh(base)
        begun = time.monotonic()
        first, log = start(case.arguments, folder)
        while not (folder / locks[name]).exists() and time.monotonic() < begun + 60:
            time.sleep(0.002)
        other = base / "second"
        log.rename(other.with_suffix(".log"))  # each process talks to a file of its own
        ran = run(case.arguments, folder)
        tried += 1
        said.append(ran.error)
        problems += _refused(f"a second {name}", ran)
        if "another process" not in ran.error:
            problems.append(f"a second {name}: {ran.said[-200:]}")
        os.kill(first, signal.SIGKILL)
        end(first, log, begun)
        again = run(case.arguments, folder)
        if again.code != 0 or result_of(folder) != result:
            problems.append(f"{name}: after the first was killed the same command ended with {again.code}")
        if left := left_behind(folder):
            problems.append(f"{name}: left behind {left[:3]}")
    return _row("two processes on one folder", tried, "the first is killed afterwards", problems, said)


def interrupt(base: Path, quick: bool) -> dict[str, Any]:
    """Ctrl-C at random moments."""
    problems, said, tried = [], [], 0
    rng = random.Random(1)
    for name in [name for name in CASES if not quick or name in ("train", "convert")]:
        case, folder = CASES[name], _fresh(base)
        whole = run(case.arguments, folder)
        result = result_of(folder)
        for _ in range(1 if quick else 3):
            folder = _fresh(base)
            ran = run(case.arguments, folder, rng.uniform(0.05, 0.9) * whole.seconds, signal.SIGINT)
            if ran.code == 0:
                continue  # it was done
            tried += 1
            said.append(ran.error)
            problems += _refused(f"Ctrl-C in {name}", ran, 130)
            if left := [one for one in left_behind(folder) if ".building" not in one]:
                problems.append(f"Ctrl-C in {name}: left behind {left[:3]}")
            again = run(case.arguments, folder)
            if again.code != 0 or result_of(folder) != result:
                problems.append(f"Ctrl-C in {name}: the same command ended with {again.code}, {again.said[-200:]}")
    return _row("Ctrl-C", tried, "SIGINT at random moments", problems, said)


def tampered(base: Path, quick: bool) -> dict[str, Any]:
    """One bit of every file of a store and of a run folder is turned."""
    problems, said, tried = [], [], 0
    folder = _fresh(base)
    shutil.copytree(base / "in/low.zarr", folder / "low.zarr")
    trained = run((*CASES["train"].arguments[:-6], "--max-steps", "4"), folder)
    assert trained.code == 0, trained.said
    rng = random.Random(2)
    store = [path for path in (folder / "low.zarr").rglob("*") if path.is_file()]
    model = [*(folder / "run").glob("*.safetensors"), folder / "run/config.json"]
    words = {"store": ("info", "low.zarr"), "model": ("info", "run"), "checkpoint": CASES["train"].arguments}
    for path in (store[:: max(1, len(store) // 6)] if quick else store) + model:
        kind = "store" if path in store else "checkpoint" if "checkpoint" in path.name else "model"
        whole = path.read_bytes()
        for _ in range(1 if quick else 3):
            damaged = bytearray(whole)
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            ran = run(words[kind], folder)
            tried += 1
            said.append(ran.error)
            problems += _refused(f"{path.relative_to(folder)} with a bit turned", ran)
        path.write_bytes(whole)
    for kind in ("store", "model"):
        if run(words[kind], folder).code != 0:
            problems.append(f"{kind}: the whole one does not read")
    return _row("a bit turned in a store or model", tried, "every file", problems, said)


FAULTS: dict[str, Callable[[Path, bool], dict[str, Any]]] = {
    "disk-full": disk_full,
    "read-only": read_only,
    "memory": memory,
    "clock": clock,
    "two-at-once": two_at_once,
    "interrupt": interrupt,
    "tampered": tampered,
}
