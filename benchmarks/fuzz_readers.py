"""Damaged files for every reader: only an AllpetError of one line may come out, soon, quietly and in little memory.

``python benchmarks/fuzz_readers.py [--count 10000] [--seconds S] [--seed 0] [--format NAME] [--case K] [--json FILE]``.
A format ends after that many cases or seconds, and runs in a process of its own. Small whole files are written, one of
them is damaged (bits, cuts, insertions, repeated pieces, values swapped between header lines, sizes blown up), and the
reader is called. It fails if anything but AllpetError is raised or its message has several lines, if it takes more than
ten seconds, if a warning or any other text appears, if the memory that Python and NumPy allocate grows by more than ten
times the files plus 4 MiB (PETSIRD: 32 MiB), or if the process needs 1 GiB more than at its start. Case k of a seed is
the same whatever the count; ``--case K`` runs it alone.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import fuzz_files
import fuzz_more
import numpy as np

SECONDS = 10
TIMES, BASE = 10, 4 << 20
SCANNER = 32 << 20  # PETSIRD: the sinogram's size is that of the scanner described, whatever the file's
GROWTH = 1 << 30
NUMBERS = [b"0", b"-1", b"1", b"3", b"65536", b"2147483647", b"4294967296", b"9" * 20, b"1e308", b"nan", b"", b"1e-400"]


@dataclass
class Outcome:
    """What came of one format; ``peak`` is the largest growth in bytes, ``slowest`` the longest of the ``seconds``."""

    format: str
    files: int = 0
    errors: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    peak: int = 0
    failures: list[str] = field(default_factory=list)


class Hang(BaseException):
    """Raised by the alarm; no reader catches it."""


def _read(path: Path) -> None:
    from allpet.io import read

    read(path)


def _read_listmode(path: Path) -> None:
    """Every word, but not the histogram, whose size is the scanner's whatever the file."""
    from allpet.io.convert import describe

    describe(path)


def _read_petsird(path: Path) -> None:
    from allpet.io.petsird import read_petsird

    read_petsird(path)


FORMATS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], None], str]] = {
    "interfile": (fuzz_files.interfile, _read, "allpet.io.interfile"),
    "ring": (fuzz_files.ring, _read, "allpet.io.interfile"),
    "interfile-image": (fuzz_files.interfile_image, _read, "allpet.io.images"),
    "nifti": (fuzz_files.nifti, _read, "nibabel"),
    "nifti-gz": (fuzz_files.nifti_gz, _read, "nibabel"),
    "list-mode": (fuzz_files.list_mode, _read_listmode, "allpet.io.listmode"),
    "dicom": (fuzz_files.dicom, _read, "pydicom"),
    "petsird": (fuzz_files.petsird, _read_petsird, "petsird"),
    "store": (fuzz_files.store, _read, "zarr"),
    "store-without-hashes": (fuzz_more.bare_store, _read, "zarr"),
    "regions": (fuzz_more.regions, fuzz_more.read_regions, "allpet.io.regions"),
    "labels": (fuzz_more.labels, fuzz_more.read_regions, "nibabel"),
    "model": (fuzz_more.model, fuzz_more.read_model, "safetensors"),
    "checkpoint": (fuzz_more.checkpoint, fuzz_more.read_checkpoint, "safetensors"),
    "audit": (fuzz_more.audit, fuzz_more.read_audit, "allpet.audit"),
    "scanner": (fuzz_more.scanner, fuzz_more.read_scanner, "allpet.scan.scanners"),
    "table": (fuzz_more.table, fuzz_more.read_table, "allpet.scan.labelled"),
}
"""Name of a format: what writes a whole one, what reads it, and the module without which there is none."""


# --- damage -----------------------------------------------------------------------------------------------------------


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three injuries to the content of a file."""
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.7:
        return gzip.compress(damage(gzip.decompress(content), rng), 1, mtime=0)
    text = b"INTERFILE" in content[:99] or content[:1] == b"{"
    for _ in range(rng.integers(1, 4)):
        ways = [_flip, _cut, _insert, _repeat, _blow_up] + ([_swap, _number, _number] if text else [_blow_up])
        content = ways[rng.integers(len(ways))](content, rng)
    return content


def _place(content: bytes, rng: np.random.Generator) -> int:
    """An offset: as often within the first 512 bytes as anywhere; for PETSIRD rarely within the schema."""
    start = content.rfind(b"]}", 0, 1 << 16) if content[:5] == b"yardl" and rng.random() < 0.9 else 0
    size = max(len(content) - start, 1)
    return start + int(rng.integers(min(size, 512) if rng.random() < 0.5 else size))


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(content)
    for _ in range(rng.integers(1, 9) if out else 0):
        out[min(_place(content, rng), len(out) - 1)] = rng.integers(256)
    return bytes(out)


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    at = _place(content, rng)
    return content[:at] if rng.random() < 0.5 else content[:at] + content[at + int(rng.integers(1, 64)) :]


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    at = _place(content, rng)
    return content[:at] + rng.bytes(int(rng.integers(1, 64))) + content[at:]


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    at, size = _place(content, rng), int(rng.integers(1, 256))
    return content[:at] + content[at : at + size] * int(rng.integers(2, 5)) + content[at + size :]


def _blow_up(content: bytes, rng: np.random.Generator) -> bytes:
    """A size, count or number made huge, negative or not finite, in either byte order, or as a number of seven bits."""
    at = _place(content, rng)
    number: bytes = [
        b"\xff" * int(rng.integers(1, 9)),
        struct.pack("<q", 1 << int(rng.integers(7, 63)))[: int(2 ** rng.integers(1, 4))],
        struct.pack(">i", 1 << int(rng.integers(7, 31))),
        struct.pack("<f", [np.inf, np.nan, -1.0, 1e30, 0.0][rng.integers(5)]),
        b"\xff" * int(rng.integers(1, 9)) + b"\x07",
        bytes(int(rng.integers(1, 9))),
    ][rng.integers(6)]
    return content[:at] + number + content[at + len(number) :]


def _number(content: bytes, rng: np.random.Generator) -> bytes:
    """One of the text's numbers replaced."""
    found = list(re.finditer(rb"-?\d[\d.]*", content))
    if not found:
        return content
    one = found[rng.integers(len(found))]
    return content[: one.start()] + NUMBERS[rng.integers(len(NUMBERS))] + content[one.end() :]


def _swap(content: bytes, rng: np.random.Generator) -> bytes:
    """Values of two header lines swapped."""
    lines = content.split(b"\n")
    keyed = [k for k, line in enumerate(lines) if b":=" in line]
    if len(keyed) < 2:
        return content
    a, b = rng.choice(keyed, 2, replace=False)
    (key_a, value_a), (key_b, value_b) = (lines[k].split(b":=", 1) for k in (a, b))
    lines[a], lines[b] = key_a + b":=" + value_b, key_b + b":=" + value_a
    return b"\n".join(lines)


# --- the run ----------------------------------------------------------------------------------------------------------


def fuzz(
    name: str,
    count: int,
    seed: int,
    folder: Path,
    keep: Path | None = None,
    seconds: float = float("inf"),
    first: int = 0,
) -> Outcome:
    """Damage and read ``count`` times in this process.

    Parameters
    ----------
    folder : empty, for the files. keep : where the files of failed cases are left. seconds : end after so long.
    first : number of the first case.
    """
    from allpet.errors import AllpetError

    make, reader, _ = FORMATS[name]
    path = make(folder)
    whole = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    reader(path)  # the whole file reads, and everything is imported
    out, end = Outcome(name), time.monotonic() + seconds
    tracemalloc.start()
    try:
        with _captured() as said:
            for k in range(first, first + count):
                if time.monotonic() > end:
                    break
                rng = np.random.default_rng([seed, zlib.crc32(name.encode()), k])
                victim = list(whole)[rng.integers(len(whole))]
                victim.write_bytes(damage(whole[victim], rng))
                allowed = TIMES * sum(file.stat().st_size for file in whole) + (SCANNER if name == "petsird" else BASE)
                failure, known, seconds, peak = _one(reader, path, AllpetError)
                if text := said():
                    failure = failure or f"said {text!r}"
                if peak > allowed:
                    failure = failure or f"took {peak} bytes; {allowed} are allowed"
                if failure:
                    again = f"fuzz_readers.py --format {name} --seed {seed} --case {k}"
                    out.failures.append(f"{again}, {victim.name}: {failure}")
                    if keep:
                        (keep / f"{name}-{k}-{victim.name}").write_bytes(victim.read_bytes())
                victim.write_bytes(whole[victim])
                out.files += 1
                out.errors += known
                out.seconds += seconds
                out.slowest, out.peak = max(out.slowest, seconds), max(out.peak, peak)
    finally:
        tracemalloc.stop()
    return out


def _one(reader: Callable[[Path], None], path: Path, known: type[Exception]) -> tuple[str, bool, float, int]:
    """Read once: what went wrong, whether an error of the right kind came, seconds and bytes."""
    failure, error = "", None
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.perf_counter()
    old = signal.signal(signal.SIGALRM, _ring)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reader(path)
    except known as raised:
        error = str(raised)
        if "\n" in error or not error.strip():
            failure = f"message of several lines or none: {error!r}"
    except Hang:
        failure = f"took more than {SECONDS} s"
    except BaseException as raised:
        where = traceback.extract_tb(raised.__traceback__)[-1]
        failure = f"{type(raised).__name__}: {raised} ({Path(where.filename).name}:{where.lineno})"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    if caught and not failure:
        failure = f"warning: {caught[0].message} ({Path(caught[0].filename).name}:{caught[0].lineno})"
    peak = tracemalloc.get_traced_memory()[1] - before
    return failure, error is not None, time.perf_counter() - start, peak


def _ring(*_: object) -> None:
    raise Hang


@contextmanager
def _captured() -> Iterator[Callable[[], str]]:
    """What the process writes to its standard streams goes to a file; the function yielded takes it from there."""
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = [os.dup(stream) for stream in (1, 2)]
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)

        def take() -> str:
            sys.stdout.flush()
            sys.stderr.flush()
            if not os.fstat(file.fileno()).st_size:
                return ""
            file.seek(0)
            text = file.read().decode("utf-8", "replace")
            file.seek(0)
            file.truncate()
            return text[:300]

        try:
            yield take
        finally:
            for stream, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, stream)
                os.close(copy)


def available() -> list[str]:
    """Formats whose reader is there."""
    return [name for name, (_, _, module) in FORMATS.items() if importlib.util.find_spec(module)]


def _worker(args: argparse.Namespace) -> None:
    """One format in this process, under a limit on its address space; the outcome as JSON to standard output."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        FORMATS[args.format][1](FORMATS[args.format][0](Path(folder)))
        now = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10  # type: ignore[index]
        resource.setrlimit(resource.RLIMIT_AS, (now + GROWTH, now + GROWTH))
    with tempfile.TemporaryDirectory() as folder:
        done = fuzz(args.format, args.count, args.seed, Path(folder), args.keep, args.seconds, args.case or 0)
        print(json.dumps(asdict(done)))


def main() -> int:
    """Run the formats one after the other and print a table; 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--count", type=int, default=10_000, help="damaged files a format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="longest time a format")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--format", choices=FORMATS, help="one format only")
    parser.add_argument("--json", type=Path, help="write the outcomes here as well")
    parser.add_argument("--keep", type=Path, help="leave the files of failed cases in this folder")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case is not None:
        args.count = 1
    if args.worker:
        _worker(args)
        return 0
    outcomes = []
    print(
        f"{'format':20} {'files':>6} {'errors':>6} {'failed':>6} {'seconds':>8} {'slowest s':>9} {'peak MiB':>8}",
        flush=True,
    )
    for name in [args.format] if args.format else available():
        command = [sys.executable, __file__, "--worker", "--format", name, "--count", str(args.count)]
        command += ["--seed", str(args.seed), *(["--keep", str(args.keep)] if args.keep else [])]
        command += ["--seconds", str(args.seconds), *(["--case", str(args.case)] if args.case is not None else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: the process ended with {done.returncode}: {done.stderr[-600:]}", flush=True)
            outcomes.append(Outcome(name, failures=["the process died"]))
            continue
        out = Outcome(**json.loads(done.stdout.splitlines()[-1]))
        outcomes.append(out)
        counts = f"{out.files:6} {out.errors:6} {len(out.failures):6}"
        print(f"{name:20} {counts} {out.seconds:8.1f} {out.slowest:9.2f} {out.peak / 2**20:8.2f}", flush=True)
        for failure in out.failures[:10]:
            print(f"    {failure}", flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(out) for out in outcomes], indent=1) + "\n")
    return int(any(out.failures for out in outcomes))


if __name__ == "__main__":
    sys.exit(main())
