"""Install the built wheel in a fresh environment of every Python found, and go once through the commands there.

    python tools/check_wheel.py [--wheel FILE] [--python 3.12 ...] [--pin torch==2.6.0 ...] [--extras ui,dicom]

Everything happens in temporary folders that hold nothing else. Exit code 1 if a step fails anywhere.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
STEPS = (
    "allpet --version",
    "allpet doctor",
    "allpet --tyro-print-completion bash",
    "allpet simulate few.zarr --region brain -n 2 --views 32 --bins 32 --task low-dose --dose-fraction 0.1 --seed 1",
    "allpet generate --prompt '18F-FDG brain' -n 1 --out brain.hs --views 32 --bins 32 --seed 1",
    "allpet apply low-dose few.zarr --out restored.hs --dose-fraction 0.1",
    "allpet recon restored.hs --out restored.nii.gz --iterations 2",
    "allpet info restored.nii.gz",
)
"""What a first user does, in an empty folder."""


def interpreter(version: str) -> str | None:
    """A Python of this minor version that starts: from the path, else from pyenv's folder; None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python{version}")))]
    for one in found:
        if one and subprocess.run([one, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return one
    return None


def constraints(pins: Sequence[str], folder: Path) -> Path:
    """The project's exact versions with these in place of its own."""
    names = {re.split(r"[=<>~!]", pin)[0].lower() for pin in pins}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.split("==")[0].lower() not in names]
    out = folder / "constraints.txt"
    out.write_text("\n".join([*kept, *pins]) + "\n", encoding="utf-8")
    return out


def check(python: str, wheel: Path, extras: str, pins: Sequence[str]) -> list[str]:
    """Install and run everything with one interpreter; what failed, one line each."""
    with tempfile.TemporaryDirectory(prefix="allpet-wheel-") as name:
        folder = Path(name)
        subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
        bin_folder = folder / "venv" / "bin"
        words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        target = f"{wheel}[{extras}]" if extras else str(wheel)
        began = time.monotonic()
        install = subprocess.run(
            [bin_folder / "python", *words, "-c", constraints(pins, folder), target],
            capture_output=True,
            text=True,
            check=False,
        )
        if install.returncode:
            said = [line for line in (install.stderr + install.stdout).splitlines() if "ignored" not in line]
            return ["pip install: " + " ".join(" ".join(said).split())[-700:]]
        print(f"    installed in {time.monotonic() - began:.0f} s", flush=True)
        work = folder / "empty"
        work.mkdir()
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        path = f"{bin_folder}{os.pathsep}{clean['PATH']}"
        environment = {**clean, "PATH": path, "OMP_NUM_THREADS": clean.get("OMP_NUM_THREADS", "1")}
        failed = []
        for step in STEPS:
            began = time.monotonic()
            done = subprocess.run(
                step, shell=True, cwd=work, env=environment, capture_output=True, text=True, check=False
            )
            state = "ok" if done.returncode == 0 else f"exit code {done.returncode}"
            print(f"    {time.monotonic() - began:5.1f} s  {state:<12} {step}", flush=True)
            if done.returncode:
                failed.append(f"{step}: " + (done.stderr.strip().splitlines() or ["no message"])[-1])
            elif step == "allpet doctor":
                print("\n".join("        " + line for line in done.stdout.splitlines()), flush=True)
        return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, default=None, help="default: the only one in dist/")
    parser.add_argument("--python", nargs="+", default=VERSIONS, help="minor versions to look for")
    parser.add_argument("--pin", nargs="+", default=(), help="versions in place of those of constraints.txt")
    parser.add_argument("--extras", default="", help="extras to install, with commas between them")
    chosen = parser.parse_args()
    wheels = [chosen.wheel] if chosen.wheel else sorted((ROOT / "dist").glob("allpet-*.whl"))
    if len(wheels) != 1 or not wheels[0].is_file():
        print(f"error: {len(wheels)} wheels to choose from: make wheel, or name one with --wheel", file=sys.stderr)
        return 2
    results: dict[str, str] = {}
    for version in chosen.python:
        python = interpreter(version)
        if python is None:
            results[version] = "not found here, so not tried"
            continue
        print(f"Python {version}: {python}", flush=True)
        failed = check(python, wheels[0].resolve(), chosen.extras, chosen.pin)
        results[version] = "; ".join(failed) if failed else f"installs, {len(STEPS)} of {len(STEPS)} steps pass"
    for version, result in results.items():
        print(f"Python {version}: {result}")
    return int(not all(result.endswith(("pass", "tried")) for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
