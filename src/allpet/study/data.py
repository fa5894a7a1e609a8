"""Data of the study: stores of every prompt to learn from, and people that nobody learns from."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.model.prompt import REGIONS, TRACERS
from allpet.train.samples import TrainingSet

SLICES = 2
"""Slices of each subject."""


def store(folder: Path, tracer: str, region: str) -> Path:
    """Where a prompt's training sinograms are."""
    return folder / f"{tracer}-{region}.zarr"


def simulate_all(folder: Path, count: int, views: int = 128, bins: int = 128) -> None:
    """Training sinograms of every prompt, `count` in all; a tracer has a seed of its own, so no subject occurs twice.

    An interrupted call goes on; a store that is there and large enough is left alone.
    """
    from allpet.scan.simulate import simulate_store

    folder.mkdir(parents=True, exist_ok=True)
    for (tracer, region), n in shares(count).items():
        path = store(folder, tracer, region)
        if path.is_dir() and _rows(path) >= n:
            continue
        simulate_store(path, n, views=views, bins=bins, **_options(tracer, region))


def _options(tracer: str, region: str, people: int = 0) -> dict[str, Any]:
    seed = TRACERS.index(tracer) + len(TRACERS) * people
    return dict(tracer=tracer, region=region, seed=seed, slices_per_subject=SLICES)


def _rows(path: Path) -> int:
    from allpet.io.store import open_store

    try:
        return int(open_store(path)["subject"].shape[0])
    except AllpetError:
        return 0


def shares(count: int) -> dict[tuple[str, str], int]:
    """`count` sinograms spread evenly over the prompts, the first ones getting one more."""
    prompts = [(tracer, region) for tracer in TRACERS for region in REGIONS]
    few, more = divmod(count, len(prompts))
    return {prompt: few + (k < more) for k, prompt in enumerate(prompts)}


@lru_cache(maxsize=2)
def training_set(folder: Path, count: int) -> TrainingSet:
    """The first sinograms of every prompt, `count` in all.

    Raises
    ------
    AllpetError : a store is missing or too small.
    """
    sets = []
    for number, ((tracer, region), n) in enumerate(shares(count).items()):
        whole = TrainingSet.load([store(folder, tracer, region)])
        if len(whole) < n:
            raise AllpetError(f"{store(folder, tracer, region)}: holds {len(whole)} sinograms; {n} are needed")
        part = whole[torch.arange(n)]
        sets.append(replace(part, subject=part.subject + 1_000_000 * number))
    return TrainingSet.join(sets)


def learned(folder: Path | None, tracer: str, region: str, views: int = 128, bins: int = 128) -> torch.Tensor:
    """All training sinograms of a prompt's store; without a folder 34 are simulated."""
    from allpet.io.store import open_store
    from allpet.scan.simulate import simulate

    if folder is None:
        return torch.from_numpy(simulate(34, views=views, bins=bins, **_options(tracer, region)).sinogram)
    return torch.from_numpy(np.asarray(open_store(store(folder, tracer, region))["sinogram"][:], np.float32))


def unseen(
    folder: Path | None, tracer: str, region: str, n: int, views: int = 128, bins: int = 128, people: int = 0
) -> torch.Tensor:
    """n sinograms of test subjects, :data:`SLICES` slices of each, kept in ``FOLDER/unseen`` where there is one.

    `people` : another number, other people.
    """
    from allpet.io.store import open_store
    from allpet.scan.simulate import simulate, simulate_store

    options = dict(split="test", views=views, bins=bins, **_options(tracer, region, people))
    if folder is None:
        return torch.from_numpy(np.asarray(simulate(n, **options).sinogram, np.float32))
    path = folder / ("unseen" if people == 0 else f"unseen-{people}") / f"{tracer}-{region}.zarr"
    if not path.is_dir() or _rows(path) < n:
        path.parent.mkdir(parents=True, exist_ok=True)
        simulate_store(path, n, **options)
    return torch.from_numpy(np.asarray(open_store(path)["sinogram"][:n], np.float32))


def own_beam(data: TrainingSet, region: str) -> ParallelBeam:
    """The grid of a region's training sinograms."""
    here = data.region == REGIONS.index(region) + 1
    views, bins = data.sinogram.shape[-2:]
    return ParallelBeam(views, bins, float(data.bin_mm[here].median()))


PAIRS = {"low-dose": 34, "attenuation": 34, "delayed": 12, "convert": 18, "separate": 34}
"""Pairs of each combination of tracers, region and delay; about 500 of each task in all."""
PAIR_COUNTS = (1e5, 1.5e6)
"""Expected prompts at full dose that pairs are drawn from."""
DELAYS = (30.0, 60.0, 120.0)


def pair_stores(folder: Path) -> list[tuple[Path, int, dict[str, Any]]]:
    """Stores of pairs of all tasks: path, number of pairs, options of the simulation; no body is in two of them."""
    out: list[tuple[Path, int, dict[str, Any]]] = []

    def add(task: str, tracer: str, region: str, **options: Any) -> None:
        tail = "".join(f"_{value}" for value in options.values())
        known = dict(task=task, tracer=tracer, region=region, counts=PAIR_COUNTS, slices_per_subject=SLICES)
        name = f"{task}_{tracer.replace(' + ', '+')}_{region}{tail}.zarr"
        out.append((folder / name, PAIRS[task], known | dict(seed=1000 + len(out)) | options))

    for region in REGIONS:
        for tracer in TRACERS:
            add("low-dose", tracer, region)
            add("attenuation", tracer, region)
            for delay in DELAYS:
                add("delayed", tracer, region, delay_minutes=delay)
            for other in TRACERS:
                if other != tracer:
                    add("convert", tracer, region, to=other)
        for both in ("FDG + PSMA", "FDG + DOPA", "DOPA + PSMA"):
            add("separate", both, region)
    return out


def simulate_pairs(folder: Path) -> None:
    """The pairs that the shipped translator is trained on; an interrupted call goes on."""
    from allpet.scan.simulate import simulate_store

    folder.mkdir(parents=True, exist_ok=True)
    for path, count, options in pair_stores(folder):
        if not (path.is_dir() and _rows(path) >= count):
            simulate_store(path, count, **options)
