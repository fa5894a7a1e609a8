"""Where an output comes from: version, command, seed and model hash, the same in every file that is written."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import allpet

RUNNING: ContextVar[str | None] = ContextVar("RUNNING", default=None)
"""The command in full while :func:`allpet.cli.main` runs it."""


def provenance(command: str | None = None, seed: int | None = None, model_hash: str | None = None) -> dict[str, Any]:
    """Facts that let somebody repeat an output, as plain JSON values.

    Parameters
    ----------
    command : what was run; the process's own command line if None.
    seed : seed of everything random in it, or None where nothing was.
    model_hash : hash of the weights used (see :func:`file_hash`), or None where no model was.

    Returns
    -------
    dict with keys ``allpet_version``, ``command``, ``created`` (UTC, ISO 8601) and, where given, ``seed``
    and ``model_hash``.
    """
    facts: dict[str, Any] = {
        "allpet_version": allpet.__version__,
        "command": command_line() if command is None else command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if seed is not None:
        facts["seed"] = int(seed)
    if model_hash is not None:
        facts["model_hash"] = model_hash
    return facts


def command_line() -> str:
    """The command that runs, else the process's command line with the program's bare name instead of its path."""
    return RUNNING.get() or shlex.join([Path(sys.argv[0]).name or "python", *sys.argv[1:]])


def recorded(arguments: Sequence[str]) -> str:
    """A command line as it is recorded: what names a DICOM folder or file, often after a person, is written `DICOM`."""
    return shlex.join(["allpet", *("DICOM" if _is_dicom(Path(word)) else word for word in arguments)])


def _is_dicom(path: Path) -> bool:
    """Whether a word is the path of a DICOM file or of a folder that begins with one."""
    try:
        if path.is_dir():
            files = sorted(one for one in islice(path.iterdir(), 100) if one.is_file())
            return any(_is_dicom(one) for one in files[:5])
        with open(path, "rb") as file:
            return path.suffix.lower() in (".dcm", ".ima") or file.read(132)[128:] == b"DICM"
    except (OSError, ValueError):
        return False


def file_hash(*paths: Path | str) -> str:
    """First 16 hex digits of the SHA-256 of the files' contents, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
