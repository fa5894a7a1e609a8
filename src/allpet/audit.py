"""The audit: every edit of a region and every run with them, one line of JSON each, in a file that only grows."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allpet.errors import AllpetError
from allpet.provenance import provenance

if TYPE_CHECKING:
    from allpet.mask.region import Region

MAX_BYTES = 1 << 26
"""The largest file that is read."""


def facts_of(region: Region) -> dict[str, Any]:
    """What an audit says of a region: enough to tell whether it is the same one."""
    return {
        "name": region.name,
        "kind": region.kind,
        "strength": region.strength,
        "voxels": round(region.voxels, 2),
        "planes": [region.planes.start, region.planes.stop - 1],
        "hash": region.hash,
    }


def entry(
    what: str,
    regions: Sequence[Region] = (),
    seed: int | None = None,
    model_hash: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One line: what was done, when, by which version, seed and weights, and to which regions."""
    facts = provenance(seed=seed, model_hash=model_hash)
    return {"what": what, "when": facts.pop("created"), **facts, **more, "regions": [facts_of(r) for r in regions]}


def append(path: Path, *entries: dict[str, Any]) -> None:
    """Add lines to an audit, which is made if there is none; they are on the disk when this returns.

    Raises
    ------
    AllpetError : the file cannot be written.
    """
    text = "".join(json.dumps(one) + "\n" for one in entries)
    try:
        with open(path, "a+b") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                text = "\n" + text  # what a crash tore off stays a line of its own
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise AllpetError(f"{path}: cannot be written ({error.strerror or error})") from None


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines of an audit, the first one first.

    Raises
    ------
    AllpetError : the file cannot be read or is too large.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AllpetError(f"{path}: has more than {MAX_BYTES} bytes; move it away to begin a new one")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise AllpetError(f"{path}: cannot be read ({error.strerror or error})") from None
    found = []
    for line in lines:
        try:
            one = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(one, dict) and "what" in one:
            found.append(one)
    return found
