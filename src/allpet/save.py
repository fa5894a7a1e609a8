"""Write a result with its provenance, whatever the format: the last step of every command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.provenance import provenance
from allpet.scan.core import ACTIVITY, COUNTS, Image, Scan
from allpet.scan.dataset import Dataset

HEADER_KEY = "provenance"


def save(value: Scan | Image, path: Path, seed: int | None = None, model_hash: str | None = None) -> None:
    """Write a scan or image; version, command, seed and model hash go into its header (a store's attributes).

    Raises
    ------
    AllpetError : as :func:`allpet.io.write`; for ``.zarr`` also a scan that a dataset store cannot hold.
    """
    from allpet.io import DATASET, kind_of, write

    facts = provenance(seed=seed, model_hash=model_hash)
    if isinstance(value, Scan) and kind_of(path) == DATASET:
        from allpet.io.store import write_store

        write_store(as_dataset(value, path, {"provenance": facts, **({} if seed is None else {"seed": seed})}), path)
        return
    write(replace(value, header={**value.header, HEADER_KEY: json.dumps(facts)}), path)


def as_dataset(scan: Scan, path: Path, attributes: dict[str, Any]) -> Dataset:
    """The scan's planes as samples of a dataset.

    Raises
    ------
    AllpetError : raw ring geometry, or missing bins, which a store has no place for.
    """
    if not isinstance(scan.geometry, ParallelBeam) or scan.normalisation is not None:
        raise AllpetError(f"{path}: a dataset store holds evenly spaced sinograms without gaps; write this scan as .hs")
    arrays: dict[str, np.ndarray] = {"sinogram": scan.sinogram.numpy()}
    units = {"sinogram": scan.unit}
    if scan.unit == COUNTS:
        for name, unit in (("attenuation", "1"), ("background", COUNTS)):
            factor = getattr(scan, name)
            if factor is not None:
                arrays[name], units[name] = factor.numpy(), unit
        if scan.counts_per_unit is not None:
            arrays["counts_per_unit"] = np.full(len(scan), scan.counts_per_unit, np.float32)
            units["counts_per_unit"] = f"{COUNTS}/({ACTIVITY}*mm)"
    prompt = {"tracer": scan.tracer, "isotope": scan.isotope, "region": scan.region, "task": None}
    return Dataset(arrays, scan.geometry, {"units": units, "prompt": prompt, **attributes})
