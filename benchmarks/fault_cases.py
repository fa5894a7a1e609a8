"""What :mod:`faults` disturbs: the commands, their inputs, how far a run is, and what its result is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 12
CLOCK = ("created", "seconds", "samples_per_s", "peak_mib", "sha256", "command")
"""Keys in JSON that hang on the clock, the machine or the folder; hashes are those of what is compared anyway."""


@dataclass(frozen=True)
class Case:
    """A command to disturb; paths in `arguments` are relative to the folder it runs in, inputs lie in ``../in``.

    Parameters
    ----------
    done : how far a run in a folder is, 0 to 1, by what it has kept; None where it keeps nothing before the end.
    older : arguments of a run that leaves an older result of the same name; None for commands that go on.
    """

    name: str
    arguments: tuple[str, ...]
    done: Callable[[Path], float] | None = None
    older: tuple[str, ...] | None = None


def _blocks(folder: Path) -> float:
    if (folder / "out.zarr").exists():
        return 1.0
    return len(list(folder.glob(".out.zarr.building/done/*.json"))) / 6


def _steps(folder: Path) -> float:
    for path in folder.glob("*/checkpoint-*.safetensors"):
        return float(json.loads(header_of(path)["__metadata__"]["state"])["step"]) / STEPS
    return 0.0


def header_of(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, as the format describes it."""
    with open(path, "rb") as file:
        return dict(json.loads(file.read(int.from_bytes(file.read(8), "little"))))


SIMULATE = "simulate out.zarr --region brain -n 24 --views 32 --bins 32 --background quick --workers 1 --task low-dose"
TRAIN = f"train --data ../in/few.zarr --out run --recipe low-dose --max-steps {STEPS} --save-seconds 0.2"
APPLY = "apply low-dose ../in/scan.hs --out out.hs --samples 2 --seed"
GENERATE = "generate --prompt FDG+brain -n 6 --out out.hs --seed"
CONVERT = "convert ../in/events.hdr out.hs"
SERIES = "convert ../in/image.nii.gz out.dicom"

CASES = {
    case.name: case
    for case in (
        Case("simulate", tuple(SIMULATE.split()), _blocks),
        Case("train", (*TRAIN.split(), "--report-steps", "4"), _steps),
        Case("adapt", f"adapt low-dose --pairs ../in/pairs.zarr --out out --max-steps {STEPS}".split(), _steps),  # type: ignore[arg-type]
        Case("convert", tuple(CONVERT.split()), None, (*CONVERT.split(), "--stop-s", "0.005")),
        Case("convert-dicom", tuple(SERIES.split()), None, ("convert", "../in/other.nii.gz", "out.dicom")),
        Case("apply", (*APPLY.split(), "0"), None, (*APPLY.split(), "1")),
        Case("generate", (*GENERATE.replace("+", " ").split()[:2], "FDG brain", *GENERATE.split()[3:], "0"), None,
             (*GENERATE.split()[:2], "FDG brain", *GENERATE.split()[3:], "1")),
    )
}  # fmt: skip


def inputs(folder: Path, small: bool) -> None:
    """Write everything that the commands read."""
    import torch

    from allpet.geometry import ImageGrid
    from allpet.io import write
    from allpet.scan.core import Image

    folder.mkdir(parents=True)
    few = "simulate few.zarr --region brain -n 8 --views 32 --bins 32 --background quick --workers 1"
    pairs = "simulate pairs.zarr --region brain -n 8 --task low-dose --slices-per-subject 1"
    for arguments in (
        few.split(),
        [*few.replace("few", "low").split(), "--task", "low-dose", "--dose-fraction", "0.05"],
        [*pairs.split(), "--dose-fraction", "0.05", "--background", "quick", "--workers", "1"],
        ["convert", "low.zarr", "scan.hs"],
    ):
        done = run(arguments, folder)
        assert done.code == 0, done.said
    rng = np.random.default_rng(0)
    events(folder, 20_000 if small else 4_000_000, rng)
    for name in ("image", "other"):
        values = torch.from_numpy(rng.gamma(1.0, 3.0, (20 if small else 150, 96, 96)).astype(np.float32))
        write(Image(values, ImageGrid(96, 4.0), "kBq/mL", 4.0, tracer="FDG"), folder / f"{name}.nii.gz")


def events(folder: Path, words: int, rng: np.random.Generator) -> None:
    """List mode of the mMR: coincidences all over, a time tag each millisecond."""
    data = rng.integers(0, 4084 * 252 * 344, words, np.uint32) | rng.choice([0, 1 << 30], words).astype(np.uint32)
    tags = np.arange(0, words, max(words // 10, 1))
    data[tags] = (1 << 31) + np.arange(len(tags), dtype=np.uint32)
    (folder / "events.l").write_bytes(data.astype("<u4").tobytes())
    (folder / "events.hdr").write_text(
        "!INTERFILE:=\n!originating system:=2008\nname of data file:=events.l\n!data offset in bytes:=0\n"
        "isotope name:=F-18\n%axial compression:=1\nnumber of rings:=64\n%maximum ring difference:=60\n"
        f"%number of views:=252\n%total listmode word counts:={words}\n"
    )


# --- running ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """How a run ended: exit code (negative for a signal), seconds, and what it wrote to its streams."""

    code: int
    seconds: float
    said: str

    @property
    def error(self) -> str:
        """The one line of a refusal; empty where there is none, or where there is more than a line."""
        lines = [line for line in self.said.splitlines() if line.startswith("error: ")]
        return lines[0] if len(lines) == 1 and "Traceback" not in self.said else ""


def start(arguments: Any, folder: Path, before: Callable[[], None] | None = None) -> tuple[int, Path]:
    """Fork a process that runs a command in a folder; its number, and the file that it talks to."""
    log = folder.parent / f"{folder.name}.log"
    child = os.fork()
    if child:
        return child, log
    code = 70
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.chdir(folder)
        if before is not None:
            before()
        from allpet.cli import main

        code = main(list(arguments))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 2
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end(child: int, log: Path, begun: float) -> Ran:
    """Wait for a process."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ran(code, time.monotonic() - begun, log.read_text(errors="replace") if log.is_file() else "")


def run(
    arguments: Any,
    folder: Path,
    after_s: float | None = None,
    number: signal.Signals = signal.SIGKILL,
    before: Callable[[], None] | None = None,
    writing: bool = False,
) -> Ran:
    """Run a command in a folder, in a process of its own that is sent a signal after a while if wanted.

    Parameters
    ----------
    writing : send it as soon as a half-written file is seen, or else at that time.
    """
    begun = time.monotonic()
    child, log = start(arguments, folder, before)
    while after_s is not None:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return Ran(os.waitstatus_to_exitcode(status), time.monotonic() - begun, log.read_text(errors="replace"))
        left = after_s - (time.monotonic() - begun)
        if left <= 0 or (writing and half_written(folder)):
            os.kill(child, number)
            break
        time.sleep(min(left, 0.0005 if writing else 0.01))
    return end(child, log, begun)


def half_written(folder: Path) -> list[Path]:
    """Parts of files that a process is writing, or was when it died."""
    found = [*folder.rglob(".*.part*"), *folder.rglob("*.part"), *folder.rglob(".tmp??????")]
    files = [
        path for part in found for path in ([part] if part.is_file() else part.rglob("*") if part.is_dir() else [])
    ]
    try:
        return [path for path in files if path.is_file() and path.stat().st_size]
    except FileNotFoundError:  # it has just been put in place
        return []


# --- results ----------------------------------------------------------------------------------------------------------


def result_of(folder: Path) -> dict[str, str]:
    """What is to be seen in a folder: a hash of each file's content, without what hangs on the clock."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in _contents(folder)}


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or "tensorboard" in name or "samples/" in name:
            continue
        data = path.read_bytes()
        if path.suffix == ".json" or path.suffix == ".jsonl":
            yield (
                name,
                "\n".join(json.dumps(_plain(json.loads(line)), sort_keys=True) for line in _lines(data)).encode(),
            )
        elif path.suffix == ".safetensors":
            size = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + size])
            state = json.loads(header.get("__metadata__", {}).get("state", "{}"))
            header["__metadata__"] = _plain(state)
            yield name, json.dumps(header, sort_keys=True).encode() + data[8 + size :]
        elif path.suffix == ".dcm":
            yield name, _plane(path)
        elif path.suffix in (".hs", ".hv"):
            yield name, re.sub(rb'"created": "[^"]*"', b"", data)
        else:
            yield name, data


def _lines(data: bytes) -> list[bytes]:
    return [data] if data.startswith(b"{\n") else data.splitlines()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if key not in CLOCK}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _plane(path: Path) -> bytes:
    import pydicom

    data = pydicom.dcmread(path)
    facts = (data.RescaleSlope, data.ImagePositionPatient, data.PixelSpacing, data.InstanceNumber)
    return repr([str(one) for one in facts]).encode() + data.PixelData


def torn(folder: Path) -> list[str]:
    """Visible results of a folder that do not read."""
    bad = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix in (".s", ".v"):
            continue
        if path.is_dir() and path.suffix == "" and not (path / "config.json").is_file():
            continue  # a run folder before its first report holds no model
        told = run(["info", path.name], folder)
        if told.code != 0:
            bad.append(f"{path.name}: {told.said.strip()[-200:]}")
    for path in folder.glob("*/checkpoint-*.safetensors"):
        size = path.stat().st_size
        head = header_of(path)
        last = max(one["data_offsets"][1] for name, one in head.items() if name != "__metadata__")
        if int.from_bytes(path.read_bytes()[:8], "little") + 8 + last != size:
            bad.append(f"{path.name}: is torn")
    return bad


def left_behind(folder: Path) -> list[str]:
    """Hidden files and folders that a finished command left."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))
