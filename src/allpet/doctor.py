"""``allpet doctor``: what is installed, what can be used, and what is missing and how to get it."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "ui": (("fastapi", "uvicorn"), "the page (allpet ui)"),
    "dicom": (("pydicom",), "DICOM folders"),
    "petsird": (("petsird",), "PETSIRD list mode"),
    "train": (("tensorboard",), "TensorBoard in training"),
    "dist": (("distributed",), "several machines (--scheduler)"),
}
"""Extra -> its packages, and what it is for."""
NEEDED = ("torch", "numpy", "scipy", "safetensors", "zarr", "nibabel", "nilearn", "matplotlib", "diffusers", "tyro")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, whether it is as it should be, and else what to do."""

    what: str
    found: str
    well: bool = True
    help: str = ""


def installed(package: str) -> str | None:
    """The version of a package; None where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine() -> list[Finding]:
    """Look at everything; loads the shipped model once."""
    python = sys.version_info
    out = [
        Finding(
            "Python",
            platform.python_version(),
            (3, 11) <= python[:2] <= (3, 13),
            "Python 3.11 to 3.13 is needed",
        )
    ]
    for name in NEEDED:
        found = installed(name)
        out.append(Finding(name, found or "missing", found is not None, "pip install allpet"))
    for extra, (packages, purpose) in EXTRAS.items():
        lacking = [name for name in packages if installed(name) is None]
        found = ", ".join(f"{name} {installed(name)}" for name in packages if name not in lacking)
        state = f"missing: {', '.join(lacking)}" if lacking else found
        out.append(Finding(f"extra {extra}", f"{state} ({purpose})", not lacking, f"pip install 'allpet[{extra}]'"))
    return [*out, *_machine(), _weights()]


def _machine() -> list[Finding]:
    import torch

    from allpet.precision import resolve

    threads = torch.get_num_threads()
    cores = os.cpu_count() or 1
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; the CPU does everything"
    out = [
        Finding("processor", f"{cores} cores, {threads} threads, trains in {resolve('auto', torch.device('cpu'))}"),
        Finding("GPU", device),
    ]
    if threads > cores:
        out.append(Finding("threads", f"{threads} on {cores} cores", False, f"set OMP_NUM_THREADS={cores}"))
    return out


def _weights() -> Finding:
    from allpet.errors import AllpetError
    from allpet.model import AllPET
    from allpet.model.allpet import KINDS, SHIPPED
    from allpet.model.sealed import not_as_listed

    try:
        model = AllPET.from_pretrained()
    except AllpetError as error:
        return Finding("weights", str(error), False, "install the package again")
    lacking = [name for name in KINDS if getattr(model, name) is None]
    whole = "" if not lacking else f", without {', '.join(lacking)}"
    other = not_as_listed(SHIPPED)
    state = f"not as shipped: {', '.join(other)}" if other else "every file as shipped (sha256)"
    return Finding("weights", f"{model.hash}{whole}, {state}", not lacking and not other, "install the package again")
