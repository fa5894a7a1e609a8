"""Write a result with its provenance, whatever the format: the last step of every command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.remote import Place, Remote
from allpet.io.schema import ACQUISITION, FRAME_TIMES, PROMPT
from allpet.provenance import provenance
from allpet.scan.core import FACTORS, Image, Scan
from allpet.scan.dataset import Dataset
from allpet.scan.units import ACTIVITY, COUNTS

HEADER_KEY = "provenance"


def save(value: Scan | Image, path: Place, seed: int | None = None, model_hash: str | None = None) -> None:
    """Write a scan or image; version, command, seed and model hash go into its header (a store's attributes).

    Raises
    ------
    AllpetError : as :func:`allpet.io.write`; for ``.zarr`` also a scan that a dataset store cannot hold.
    """
    from allpet.io import DATASET, kind_of, write

    facts = provenance(seed=seed, model_hash=model_hash)
    if isinstance(value, Scan) and kind_of(path) == DATASET:
        put_dataset(as_dataset(value, path, {"provenance": facts, **({} if seed is None else {"seed": seed})}), path)
        return
    if isinstance(path, Remote):
        raise AllpetError(f"{path}: only a dataset store (.zarr) can be written to a URL; write it to a file")
    write(replace(value, header={**value.header, HEADER_KEY: json.dumps(facts)}), path)


def put_dataset(dataset: Dataset, path: Place) -> None:
    """Write a data set in memory as a store, on disk or at a URL; errors as :func:`allpet.io.store.write_store`."""
    from allpet.io.build import build_store
    from allpet.io.hashes import digest
    from allpet.io.store import write_store

    if not isinstance(path, Remote):
        write_store(dataset, path)
        return

    def rows(first: int, stop: int) -> dict[str, np.ndarray]:
        return {name: values[first:stop] for name, values in dataset.arrays.items()}

    key = {name: digest(np.ascontiguousarray(values).tobytes()) for name, values in dataset.arrays.items()}
    build_store(path, len(dataset), dataset.beam, dataset.attributes, rows, 1, resume_key=key)


def check_storable(scan: Scan, path: Place) -> None:
    """Refuse raw ring geometry, which a store has no place for.

    Raises
    ------
    AllpetError : see above.
    """
    if not isinstance(scan.geometry, ParallelBeam):
        raise AllpetError(f"{path}: a dataset store holds evenly spaced sinograms; write this scan as .hs")


def remove_outdated(paths: Iterable[Place], command: str) -> None:
    """Remove what an earlier call of a command of ours has left at these paths, so that nothing old lies beside a new
    result; what another command has made there stays."""
    for path in paths:
        if isinstance(path, Remote) or not path.exists() or not _made_by(path).startswith(command):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        if path.suffix == ".hs":
            path.with_suffix(".s").unlink(missing_ok=True)


def _made_by(path: Path) -> str:
    """The command that made a file, as it says; nothing for files that cannot be read or do not say."""
    from allpet.io import DATASET, kind_of, read

    try:
        if kind_of(path) == DATASET:
            from allpet.io.store import open_store

            facts = open_store(path).attributes.get(HEADER_KEY, {})
        else:
            facts = json.loads(read(path).header.get(HEADER_KEY, "{}"))
        return str(facts.get("command", ""))
    except (AllpetError, ValueError, AttributeError):
        return ""


def as_dataset(scan: Scan, path: Place, attributes: dict[str, Any]) -> Dataset:
    """The scan's planes as samples of a dataset: sinogram and factors as arrays, what is known besides as attributes
    `acquisition` and `header`, which :func:`allpet.io.store.read_store` gives back.

    Raises
    ------
    AllpetError : raw ring geometry, or an ideal projection with missing bins, which a store has no place for.
    """
    check_storable(scan, path)
    assert isinstance(scan.geometry, ParallelBeam)
    if scan.unit != COUNTS and scan.normalisation is not None:
        raise AllpetError(f"{path}: a dataset store holds ideal projections without gaps; write this scan as .hs")
    arrays: dict[str, np.ndarray] = {"sinogram": scan.sinogram.numpy()}
    units = {"sinogram": scan.unit}
    if scan.unit == COUNTS:
        for name in FACTORS:
            factor = getattr(scan, name)
            if factor is not None:
                arrays[name], units[name] = factor.numpy(), "1" if name in ("attenuation", "normalisation") else COUNTS
        if scan.counts_per_unit is not None:
            arrays["counts_per_unit"] = np.broadcast_to(np.asarray(scan.counts_per_unit), len(scan)).copy()
            units["counts_per_unit"] = f"{COUNTS}/({ACTIVITY}*mm)"
    times: dict[str, Any] = {}
    if scan.unit == COUNTS and scan.dynamic is not None:
        frames = scan.dynamic
        arrays |= {"frames": frames.counts.numpy(), "frames_background": frames.background.numpy()}
        units |= dict.fromkeys(("frames", "frames_background"), COUNTS)
        times = dict(zip(FRAME_TIMES, (list(frames.start_s), list(frames.duration_s)), strict=True))
    known = {name: getattr(scan, name) for name in ACQUISITION}
    if scan.dose_fractions is not None:
        known["dose_fractions"] = scan.dose_fractions.tolist()
    facts = {
        "units": units,
        "prompt": {**{name: getattr(scan, name) for name in PROMPT}, "task": None},
        "acquisition": {name: value for name, value in known.items() if value is not None and value is not False},
        "header": {name: value for name, value in scan.header.items() if name != HEADER_KEY},
        **times,
    }
    return Dataset(arrays, scan.geometry, {name: value for name, value in facts.items() if value} | attributes)
