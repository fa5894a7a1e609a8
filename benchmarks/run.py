"""Run the benchmarks group by group and keep their numbers: ``results/GROUP.json``.

    python benchmarks/run.py [--groups projector recon ...] [--resume] [--tiny] [--out DIR]

A group's file is replaced when the group is done, so an interrupted run goes on with ``--resume``, which leaves out the
groups that have been measured at this commit. `report.py` makes tables and figures of the files. Run it on idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GROUPS = ("projector", "recon", "masks", "files", "simulate", "train", "generate", "tasks", "attend", "growth")
"""In the order of running: quick ones first."""


def known(path: Path) -> str | None:
    """The commit that a group was measured at, None if it was not, or in tiny sizes."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return None if kept["machine_info"]["tiny"] else str(kept["commit"]["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def head() -> str | None:
    """The checkout's commit."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def compact(kept: dict[str, Any]) -> str:
    """JSON with a line for each row, so that a change of one is seen."""
    rows = ",\n  ".join(json.dumps(row) for row in kept.pop("benchmarks"))
    head = json.dumps(kept, indent=1).removesuffix("\n}")
    return f'{head},\n "benchmarks": [\n  {rows}\n ]\n}}\n'


def run(name: str, groups: Sequence[str], out: Path, tiny: bool) -> int:
    """Some groups in one process, to ``NAME.json``; the exit code."""
    target = out / f"{name}.json"
    part = target.with_suffix(".part")
    words = [sys.executable, "-m", "pytest", "-v", "-c", HERE / "pytest.ini"]
    words += [HERE / f"time_{group}.py" for group in groups]
    words += [f"--benchmark-json={part}", *(["--tiny"] if tiny else [])]
    # pytest-benchmark measures nothing where it takes itself for a worker of pytest-xdist
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    code = subprocess.run(words, cwd=HERE.parent, env=environment, check=False).returncode
    if code == 0:
        part.write_text(compact(json.loads(part.read_text(encoding="utf-8"))), encoding="utf-8")
        os.replace(part, target)
    part.unlink(missing_ok=True)
    return code


def main(words: Sequence[str] | None = None) -> int:
    """All groups, or some; 1 if any failed."""
    parser = argparse.ArgumentParser(description="Run the benchmarks group by group.")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--resume", action="store_true", help="leave out groups measured at this commit")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, all in one process: shows that it runs")
    parser.add_argument("--out", type=Path, help="default: results, or with --tiny a temporary folder")
    chosen = parser.parse_args(words)
    out = chosen.out or (Path(tempfile.mkdtemp()) if chosen.tiny else HERE / "results")
    out.mkdir(parents=True, exist_ok=True)
    if chosen.tiny:
        return int(run("tiny", chosen.groups, out, True) != 0)
    failed = []
    for number, group in enumerate(chosen.groups, 1):
        mark = f"[{number}/{len(chosen.groups)}] {group}"
        if chosen.resume and head() is not None and known(out / f"{group}.json") == head():
            print(f"{mark}: measured at this commit, left out", flush=True)
            continue
        begun = time.monotonic()
        print(mark, flush=True)
        if run(group, [group], out, False):
            failed.append(group)
        print(f"{mark}: {time.monotonic() - begun:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
