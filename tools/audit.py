"""Known vulnerabilities of the pinned packages, and the licences of what is installed.

``python tools/audit.py``. Ends with 0 where every pin was looked up and nothing is known against it, 1 where something
is, or a licence is not allowed, and 3 where the services could not be asked about all pins: that is no pass.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINS = Path(__file__).resolve().parents[1] / "constraints.txt"
SERVICES = ("pypi", "osv")
EXTRAS = ("dicom", "petsird", "train", "ui", "dist")
"""What a user may install; the rest of what is here is for developers."""

ALLOWED = re.compile(
    r"(0BSD|Apache-2\.0|Apache Software License|(3-Clause )?BSD( License)?(-[23]-Clause)?|BSL-1\.0|CC0-1\.0|CNRI-Python"
    r"|ISC|MIT( License|-CMU)?|PSF-2\.0|Python Software Foundation License|Zlib|Public Domain|The Unlicense|Unlicense"
    r"|Apache-2\.0 WITH LLVM-exception|MPL-2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\))"
)
"""Permissive licences, and MPL 2.0, which binds changes to its own files only."""
DEVELOPERS_ONLY = {
    "astra-toolbox": "GPL-3.0; compared with in tests and benchmarks",
    "docutils": "public domain, in parts BSD and GPL; builds the documentation",
}
"""Other licences, and why they are here; none of these may be needed by an installed allpet."""
NVIDIA = "nvidia-"
"""Libraries under NVIDIA's own terms: astra-toolbox brings some, and torch for CUDA, where a user chooses that."""


def licence_of(package: Distribution) -> str:
    """The licence that a package states: its expression, else its classifiers, else the first line of its text."""
    facts = package.metadata
    if expression := facts.get("License-Expression"):
        return str(expression)
    found = [line.rsplit(" :: ", 1)[1] for line in facts.get_all("Classifier") or [] if line.startswith("License ::")]
    return "; ".join(found) or (str(facts.get("License") or "").strip().splitlines() or ["none stated"])[0][:60]


def allowed(licence: str) -> bool:
    """Whether every part that has to be kept to is allowed; of alternatives one is enough."""
    return all(
        any(ALLOWED.fullmatch(one.strip(" ()") if "MPL" not in one else one.strip()) for one in part.split(" OR "))
        for part in re.split(r" AND |; ", licence)
    )


def needed() -> set[str]:
    """Names of all packages that an installed allpet with its extras for users needs here."""
    out: set[str] = set()
    todo = [("allpet", EXTRAS)]
    while todo:
        name, extras = todo.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        for line in package.requires or []:
            wanted = Requirement(line)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                key = canonicalize_name(wanted.name)
                if key not in out:
                    out.add(key)
                    todo.append((key, tuple(wanted.extras)))
    return out


def licences() -> list[str]:
    """What is wrong with the licences of the installed packages."""
    wanted, wrong = needed(), []
    for package in distributions():
        name, licence = canonicalize_name(package.metadata["Name"]), licence_of(package)
        if allowed(licence) or name.startswith(NVIDIA):
            continue
        if name in wanted:
            wrong.append(f"{name}: '{licence}' is not among the allowed licences, and allpet needs it")
        elif name not in DEVELOPERS_ONLY:
            wrong.append(f"{name}: '{licence}' is not among the allowed licences; see {Path(__file__).name}")
    return sorted(set(wrong))


def ask(service: str) -> tuple[dict[str, list[str]], list[str], str]:
    """Vulnerabilities by package, packages that were not looked up, and why the service could not be asked."""
    words = [sys.executable, "-m", "pip_audit", "-r", str(PINS), "--no-deps", "--disable-pip", "-f", "json"]
    done = subprocess.run([*words, "-s", service, "--timeout", "20"], capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines() or ["no answer"]
        return {}, [], lines[-1][:200]
    known = {one["name"]: [bug["id"] for bug in one["vulns"]] for one in found if one.get("vulns")}
    return known, [one["name"] for one in found if "skip_reason" in one], ""


def vulnerabilities() -> int:
    """Ask the services in turn until one knows all pins; 0, 1 or 3."""
    pins = sum("==" in line for line in PINS.read_text(encoding="utf-8").splitlines())
    for service in SERVICES:
        known, skipped, reason = ask(service)
        for name, bugs in sorted(known.items()):
            print(f"{name}: {', '.join(bugs)}")
        if known:
            return 1
        if not reason and not skipped:
            print(f"vulnerabilities: none known of {pins} pins ({service})")
            return 0
        print(f"could not ask {service}: {reason or f'{len(skipped)} of {pins} pins were not looked up'}")
    print("vulnerabilities: NOT CHECKED; run this where a vulnerability service can be reached")
    return 3


def main() -> int:
    """Both checks; the worse result counts."""
    wrong = licences()
    for line in wrong:
        print(line)
    print(
        f"licences: {'NOT ALLOWED, see above' if wrong else f'all allowed ({len(needed())} packages needed by allpet)'}"
    )
    return vulnerabilities() or int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
