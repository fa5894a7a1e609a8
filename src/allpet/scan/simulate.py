"""Simulated data sets: digital bodies, scanned slice by slice, seeded subject by subject.

Every random number comes from a stream keyed by (seed, region, split, subject), so a sample depends neither on
how many are made nor on the number of workers, and no subject is in two splits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.scan.acquire import (
    OVERSAMPLING,
    Acquisition,
    attenuation_factors,
    block_mean,
    draw_counts,
    expected_counts,
    ideal_projection,
)
from allpet.scan.brain import Brain, random_brain
from allpet.scan.core import ACTIVITY, ACTIVITY_MM, COUNTS, MU
from allpet.scan.dataset import Dataset
from allpet.scan.phantom import LABELS
from allpet.scan.trunk import Trunk, random_trunk

TRACERS = {"FDG": "18F"}
REGIONS = ("brain", "chest", "abdomen")
TASKS = ("low-dose",)
SPLITS = ("train", "validation", "test")
FIELD_OF_VIEW_MM = {"brain": 256.0, "chest": 512.0, "abdomen": 512.0}
DOSE_RANGE = (0.01, 0.5)


@dataclass(frozen=True)
class Plan:
    """Everything that defines a subject's samples."""

    region: str
    task: str | None
    beam: ParallelBeam
    seed: int
    split: str
    slices: int
    counts: tuple[float, float]
    dose_fraction: float | None

    def streams(self, subject: int) -> list[np.random.Generator]:
        """Independent generators of one subject: one for the body, one for each slice's acquisition."""
        key = (REGIONS.index(self.region), SPLITS.index(self.split), subject)
        root = np.random.SeedSequence(self.seed, spawn_key=key)
        return [np.random.default_rng(child) for child in root.spawn(1 + self.slices)]


def make_body(plan: Plan, subject: int) -> Brain | Trunk:
    """The subject's digital body, always the same for the same plan and number."""
    rng = plan.streams(subject)[0]
    return random_brain(rng, plan.slices) if plan.region == "brain" else random_trunk(rng, plan.slices, plan.region)


def scan_subject(plan: Plan, subject: int) -> dict[str, np.ndarray]:
    """All samples of one subject: array name -> ``(slices, ...)``."""
    body = make_body(plan, subject)
    grid = plan.beam.image_grid(plan.beam.bins * OVERSAMPLING)
    drawn = [body.render(grid.x, grid.y, float(z)) for z in body.levels]
    seen = grid.x[None, :] ** 2 + grid.y[:, None] ** 2 <= (plan.beam.fov_mm / 2) ** 2
    activity = np.stack([canvas.suv * seen for canvas in drawn]) * np.float32(body.kbq_per_suv)
    mu = np.stack([canvas.mu * seen for canvas in drawn])
    middle = slice(OVERSAMPLING // 2, None, OVERSAMPLING)
    out = {
        "image": block_mean(activity, (-1, -2)),
        "mumap": block_mean(mu, (-1, -2)),
        "labels": np.stack([(canvas.labels * seen)[middle, middle] for canvas in drawn]),
        "attenuation": attenuation_factors(mu, plan.beam),
        "subject": np.full(plan.slices, subject, np.int32),
        "level_mm": body.levels.astype(np.float32),
    }
    ideal = ideal_projection(activity, plan.beam)
    if plan.task is None:
        return {"sinogram": ideal, **out}
    return {**out, **_count(plan, ideal, out["attenuation"], plan.streams(subject)[1:])}


def _count(
    plan: Plan, ideal: np.ndarray, attenuation: np.ndarray, streams: list[np.random.Generator]
) -> dict[str, np.ndarray]:
    """Expected full-dose counts, background and thinned counts of every slice."""
    rows: list[tuple[Any, ...]] = []
    for line, factor, rng in zip(ideal, attenuation, streams, strict=True):
        how = Acquisition.draw(rng, plan.counts, plan.region)
        drawn = float(np.exp(rng.uniform(*np.log(DOSE_RANGE))))
        fraction = drawn if plan.dose_fraction is None else plan.dose_fraction
        expected, background, scale = expected_counts(line, factor, plan.beam, how)
        rows.append((expected, background, draw_counts(expected, fraction, rng), scale, fraction))
    names = ("sinogram", "background", "observed", "counts_per_unit", "dose_fraction")
    columns = zip(*rows, strict=True)
    return {name: np.stack(column).astype(np.float32) for name, column in zip(names, columns, strict=True)}


def simulate(
    n: int,
    tracer: str = "FDG",
    region: str = "brain",
    views: int = 128,
    bins: int = 128,
    bin_mm: float | None = None,
    task: str | None = None,
    dose_fraction: float | None = None,
    seed: int = 0,
    split: str = "train",
    slices_per_subject: int = 4,
    counts: float | tuple[float, float] = 500_000.0,
    workers: int = 1,
    progress: bool = False,
) -> Dataset:
    """Simulated sinograms with their truth.

    Parameters
    ----------
    n : number of samples (slices); sample i is slice ``i % slices_per_subject`` of subject ``i // slices_per_subject``.
    tracer : "FDG" (or "18F-FDG"). region : "brain", "chest" or "abdomen".
    views, bins : size of the sinograms. bin_mm : pitch in mm; default keeps 256 mm (brain) or 512 mm (trunk) in view.
    task : None for ideal projections, "low-dose" for counts.
    dose_fraction : share of the full dose in `observed`; None draws one per sample, log-uniform in [1/100, 1/2].
    seed, split : random streams; "train", "validation" and "test" never share a subject.
    counts : expected prompts of a slice at full dose, or a range to draw from log-uniformly.
    workers : threads. progress : show a progress bar.

    Returns
    -------
    Dataset with, for every sample (float32 unless said otherwise):

    ``sinogram`` (n, view, radial) : without task the blurred ideal projection in kBq/mL*mm; for "low-dose" the
        expected counts at full dose, ``counts_per_unit * attenuation * ideal projection + background``;
    ``observed`` (n, view, radial), low-dose only : measured counts at ``dose_fraction`` of the full dose;
    ``background`` (n, view, radial), low-dose only : expected randoms + scatter in counts at *full* dose;
    ``counts_per_unit``, ``dose_fraction`` (n,), low-dose only : counts per kBq/mL*mm at full dose; share of it;
    ``attenuation`` (n, view, radial) : exp(-A mu); ``image`` (n, row, column) : true activity in kBq/mL, not
        blurred, 0 outside the circle in view;
    ``mumap`` (n, row, column) : 1/mm at 511 keV; ``labels`` uint8 (n, row, column) : organs, see
        attribute ``labels``; ``subject`` int32 (n,); ``level_mm`` (n,) : height of the slice in its body.

    Raises
    ------
    AllpetError : unknown tracer, region, task or split, or a value out of range.
    """
    word, isotope = _known_tracer(tracer)
    for name, value, known in (("region", region, REGIONS), ("split", split, SPLITS)):
        if value not in known:
            raise AllpetError(f"{name} {value!r} is unknown; known are {', '.join(known)}")
    if task is not None and task not in TASKS:
        raise AllpetError(f"task {task!r} cannot be simulated; known are {', '.join(TASKS)}, or none")
    span = counts if isinstance(counts, tuple) else (counts, counts)
    _check_numbers(n, views, bins, seed, slices_per_subject, dose_fraction, span, workers)
    beam = ParallelBeam(views, bins, FIELD_OF_VIEW_MM[region] / bins if bin_mm is None else bin_mm)
    plan = Plan(region, task, beam, seed, split, slices_per_subject, span, dose_fraction)
    subjects = -(-n // slices_per_subject)
    arrays: dict[str, np.ndarray] = {}
    for number, rows in enumerate(_scan_all(plan, subjects, workers, progress)):
        first = number * slices_per_subject
        last = min(first + slices_per_subject, n)
        for name, values in rows.items():
            if name not in arrays:
                arrays[name] = np.empty((n, *values.shape[1:]), values.dtype)
            arrays[name][first:last] = values[: last - first]
    return Dataset(arrays, beam, _attributes(plan, word, isotope))


def _scan_all(plan: Plan, subjects: int, workers: int, progress: bool) -> Iterator[dict[str, np.ndarray]]:
    """Samples of subject 0, 1, ... in order, from one or several threads."""
    from rich.progress import track

    rows = _in_order(partial(scan_subject, plan), subjects, workers)
    yield from track(rows, f"simulating {plan.region}", total=subjects, disable=not progress)


def _in_order(
    scan_one: Callable[[int], dict[str, np.ndarray]], subjects: int, workers: int
) -> Iterator[dict[str, np.ndarray]]:
    yield scan_one(0)  # alone, so that what all share is loaded once
    if workers == 1:
        yield from map(scan_one, range(1, subjects))
        return
    with ThreadPoolExecutor(workers) as pool:
        for start in range(1, subjects, 4 * workers):  # in batches, to bound what waits in memory
            yield from pool.map(scan_one, range(start, min(start + 4 * workers, subjects)))


def _known_tracer(tracer: str) -> tuple[str, str]:
    """Tracer word and isotope of "FDG" or "18F-FDG"."""
    names = {**{word: word for word in TRACERS}, **{f"{isotope}-{word}": word for word, isotope in TRACERS.items()}}
    known = {name.upper(): word for name, word in names.items()}
    if tracer.upper() not in known:
        raise AllpetError(f"tracer {tracer!r} is unknown; known are {', '.join(names)}")
    word = known[tracer.upper()]
    return word, TRACERS[word]


def _check_numbers(
    n: int,
    views: int,
    bins: int,
    seed: int,
    slices: int,
    dose_fraction: float | None,
    counts: tuple[float, float],
    workers: int,
) -> None:
    for name, value in (("n", n), ("slices_per_subject", slices), ("workers", workers)):
        if value < 1:
            raise AllpetError(f"{name} is {value}; it must be at least 1")
    for name, value in (("views", views), ("bins", bins)):
        if value < 8:
            raise AllpetError(f"{name} is {value}; it must be at least 8")
    if seed < 0:
        raise AllpetError(f"seed is {seed}; it must not be negative")
    if dose_fraction is not None and not 0 < dose_fraction <= 1:
        raise AllpetError(f"dose fraction is {dose_fraction}; it must be above 0 and at most 1")
    if not 0 < counts[0] <= counts[1]:
        raise AllpetError(f"counts are {counts}; they must be positive, the smaller first")


def _attributes(plan: Plan, tracer: str, isotope: str) -> dict[str, Any]:
    from allpet import __version__

    units = {
        "sinogram": ACTIVITY_MM if plan.task is None else COUNTS,
        "observed": COUNTS,
        "background": COUNTS,
        "image": ACTIVITY,
        "mumap": MU,
        "attenuation": "1",
        "counts_per_unit": f"{COUNTS}/({ACTIVITY_MM})",
        "dose_fraction": "1",
        "level_mm": "mm",
    }
    if plan.task is None:
        units = {name: units[name] for name in ("sinogram", "image", "mumap", "attenuation", "level_mm")}
    return {
        "units": units,
        "prompt": {"tracer": tracer, "isotope": isotope, "region": plan.region, "task": plan.task},
        "seed": plan.seed,
        "split": plan.split,
        "labels": list(LABELS),
        "version": __version__,
    }
