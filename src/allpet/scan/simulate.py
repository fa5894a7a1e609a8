"""Simulated data sets: digital bodies, scanned slice by slice, seeded subject by subject.

A sample depends neither on how many are made nor on the number of workers, and no subject is in two splits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import fields
from functools import lru_cache, partial
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.remote import Remote
from allpet.scan.dataset import Dataset
from allpet.scan.phantom import LABELS
from allpet.scan.plan import REGIONS, SPLITS, Plan
from allpet.scan.subject import scan_subject
from allpet.scan.tracers import TRACERS
from allpet.scan.units import ACTIVITY, ACTIVITY_MM, COUNTS, MU

TASKS = ("low-dose", "attenuation", "delayed", "convert", "separate")
FIELD_OF_VIEW_MM = {"brain": 256.0, "head-neck": 320.0, "chest": 512.0, "abdomen": 512.0, "pelvis": 512.0}
THINNING = ("time", "activity")
BACKGROUNDS = ("simulated", "quick")
_AT_ONCE = 16
FEW = 16 * 128 * 128
"""Bins, in all samples of a store, that are made sooner than another process has started."""


def simulate(n: int, workers: int = 1, progress: bool = False, **options: Any) -> Dataset:
    """Simulated sinograms with their truth, in memory; :func:`simulate_store` writes them as they come.

    Parameters
    ----------
    n : number of samples (slices); sample i is slice ``i % slices_per_subject`` of subject ``i // slices_per_subject``.
    workers : processes. progress : show a progress bar. options : see :func:`make_plan`.

    Returns
    -------
    Dataset with, for every sample (float32 unless said otherwise):

    ``sinogram`` (n, view, radial) : without task the blurred ideal projection of the first frame in kBq/mL*mm; with a
        task what it should give, in counts at full dose. low-dose: expected prompts; attenuation: trues without
        attenuation and background; delayed, convert: trues of the delayed frame, of the other tracer; separate: trues
        of the first tracer (the second's are ``second``);
    ``observed`` (n, view, radial) : the task's input: measured counts at ``dose_fraction`` of the full dose;
    ``background``, ``randoms`` (n, view, radial) : expected randoms + scatter, and of these the randoms, in counts at
        *full* dose;
    ``normalisation`` (n, view, radial), with a scanner only : efficiency of every bin, 0 in a gap;
    ``counts_per_unit``, ``dose_fraction`` (n,) : counts per kBq/mL*mm at full dose; share of it;
    ``frames`` : delayed, convert: ideal projections of both frames (n, 2, view, radial); separate: counts of the
        dynamic frames, with ``frames_background``; their times are in the attributes;
    ``attenuation`` (n, view, radial) : exp(-A mu); ``image`` (n, row, column) : activity that belongs to ``sinogram``
        in kBq/mL, not blurred, 0 outside the circle in view; ``image_observed``, ``image_second`` likewise;
    ``mumap`` (n, row, column) : 1/mm at 511 keV; ``labels`` uint8 (n, row, column) : tissues, see attribute ``labels``;
    ``subject`` int32, ``level_mm`` (height of the slice in its body), ``weight_kg``, ``injected_mbq`` (n,).

    Raises
    ------
    AllpetError : as :func:`make_plan`; n or workers below 1.
    """
    plan = make_plan(**options)
    _at_least_one(n=n, workers=workers)
    arrays: dict[str, np.ndarray] = {}
    done = 0
    for rows in _all_rows(plan, n, workers, progress):
        for name, values in rows.items():
            if name not in arrays:
                arrays[name] = np.empty((n, *values.shape[1:]), values.dtype)
            arrays[name][done : done + len(values)] = values
        done += len(rows["sinogram"])
    return Dataset(arrays, plan.beam, attributes(plan))


def simulate_store(
    path: str | os.PathLike[str] | Remote,
    n: int,
    workers: int | None = None,
    progress: bool = False,
    extra: dict[str, Any] | None = None,
    scheduler: str | None = None,
    **options: Any,
) -> int:
    """Simulate straight into a dataset store, on all cores; killed at any moment, the same call goes on.

    Parameters
    ----------
    path : store to write (.zarr), or a URL. workers : processes, default one for each core, but one in all for
        a few samples. extra : more attributes (provenance). scheduler : of a Dask cluster that does the work instead,
        see :func:`allpet.dist.cluster.connected`. n, options : as in :func:`simulate`.

    Returns
    -------
    number of samples.

    Raises
    ------
    AllpetError : as :func:`make_plan` and :func:`allpet.io.build.build_store`.
    """
    from allpet.io.build import block_for, build_store

    plan = make_plan(**options)
    _at_least_one(n=n)
    facts = {**attributes(plan), **(extra or {})}
    key, block = _key(plan), block_for(n, plan.slices)
    if workers is None and scheduler is None and n * plan.beam.views * plan.beam.bins < FEW:
        workers = 1
    make = partial(make_rows, plan) if scheduler is None else partial(_make_rows_elsewhere, plan, key)
    return build_store(path, n, plan.beam, facts, make, workers, block, progress, resume_key=key, scheduler=scheduler)


def _make_rows_elsewhere(plan: Plan, key: dict[str, Any], first: int, stop: int) -> dict[str, np.ndarray]:
    """:func:`make_rows` on a machine that may hold other files.

    Raises
    ------
    AllpetError : the labelled volume there is not the one that is meant.
    """
    if plan.labels is not None and _labels_hash(plan.labels) != key["labels_hash"]:
        raise AllpetError(f"{plan.labels[0]}: is another file for a worker, or its table or CT is; give all the same")
    return make_rows(plan, first, stop)


def make_rows(plan: Plan, first: int, stop: int) -> dict[str, np.ndarray]:
    """Samples `first` to `stop` - 1: array name -> rows."""
    parts = []
    for subject in range(first // plan.slices, (stop - 1) // plan.slices + 1):
        start = subject * plan.slices
        parts.append(scan_subject(plan, subject, range(max(first - start, 0), min(stop - start, plan.slices))))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _all_rows(plan: Plan, n: int, workers: int, progress: bool) -> Iterator[dict[str, np.ndarray]]:
    """Samples in order, a few at a time, from one or several processes."""
    from rich.console import Console
    from rich.progress import track

    starts = range(0, n, _AT_ONCE)
    stops = [min(start + _AT_ONCE, n) for start in starts]
    make = partial(make_rows, plan)
    label, console = f"simulating {plan.region}", Console(stderr=True)
    if workers == 1:
        yield from track(map(make, starts, stops), label, len(stops), console=console, disable=not progress)
        return
    from allpet.io.processes import pool

    with pool(workers) as submit:
        waiting = [submit(make, start, stop) for start, stop in zip(starts, stops, strict=True)]
        for future in track(waiting, label, console=console, disable=not progress):
            yield future.result()


def make_plan(
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
    slice_mm: float | None = None,
    counts: float | tuple[float, float] = 500_000.0,
    scanner: str | None = None,
    background: str = "simulated",
    thinning: str = "time",
    to: str | None = None,
    delay_minutes: float | None = None,
    stagger_minutes: float | None = None,
    ratio: float | None = None,
    labels: str | os.PathLike[str] | None = None,
    table: str | os.PathLike[str] | None = None,
    ct: str | os.PathLike[str] | None = None,
) -> Plan:
    """Check the options of a simulation.

    Parameters
    ----------
    tracer : "FDG" (or "18F-FDG"), "DOPA", "PSMA"; for "separate" two, as in "FDG + PSMA".
    region : "brain", "head-neck", "chest", "abdomen" or "pelvis".
    views, bins : size of the sinograms. bin_mm : pitch in mm; default keeps 256 mm (brain), 320 mm (head-neck) or
        512 mm (trunk) in view, with `labels` all that is labelled.
    task : None for ideal projections, or "low-dose", "attenuation", "delayed", "convert", "separate".
    dose_fraction : share of the full dose in `observed`; default 1, for low-dose one per sample, log-uniform in
        [1/100, 1/2].
    seed, split : random streams; "train", "validation" and "test" never share a subject.
    slices_per_subject, slice_mm : slices of a subject, spread over the region or, with a distance, neighbours.
    counts : expected prompts of a slice at full dose, or a range to draw from log-uniformly.
    scanner : preset or TOML file (resolution, gaps, efficiencies, energy window); default a scanner of 4.5 mm
        resolution without gaps.
    background : "simulated" (single scatter, randoms from singles) or "quick" (the trues smoothed, a dome).
    thinning : what a low dose is: a shorter "time", or less "activity" (which makes fewer randoms yet).
    to : tracer for "convert". delay_minutes : between the frames of "delayed"; default the tracer's usual.
    stagger_minutes, ratio : between the injections of "separate" (default 20), and second over first activity
        (default drawn from 1/2 to 2).
    labels, table, ct : a labelled volume, its table (see :mod:`allpet.scan.labelled`) and its CT in HU.

    Raises
    ------
    AllpetError : an unknown word, a value out of range, options that do not go together, a file that is wrong.
    """
    region = region.lower()
    for name, value, known in (
        ("region", region, REGIONS),
        ("split", split, SPLITS),
        ("thinning", thinning, THINNING),
        ("background", background, BACKGROUNDS),
    ):
        if value not in known:
            raise AllpetError(f"{name} {value!r} is unknown; known are {', '.join(known)}")
    if task is not None and task not in TASKS:
        raise AllpetError(f"task {task!r} cannot be simulated; known are {', '.join(TASKS)}, or none")
    if task is None and dose_fraction is not None:
        raise AllpetError("a dose fraction needs a task, such as low-dose; ideal projections have no dose")
    tracers = _tracers(tracer, task, to)
    span = counts if isinstance(counts, tuple) else (counts, counts)
    _check_numbers(views, bins, seed, dose_fraction, span)
    _at_least_one(slices_per_subject=slices_per_subject)
    positive = {"slice_mm": slice_mm, "delay_minutes": delay_minutes, "ratio": ratio}
    for name, given in positive.items():
        if given is not None and not (math.isfinite(given) and given > 0):
            raise AllpetError(f"{name} is {given}; it must be positive")
    theirs = {
        "delayed": {"delay_minutes": delay_minutes},
        "separate": {"ratio": ratio, "stagger_minutes": stagger_minutes},
    }
    for wanted, options in theirs.items():
        for name, given in options.items():
            if given is not None and task != wanted:
                raise AllpetError(f"{name} is for task {wanted}; this one is {task}: leave it out")
    stagger_minutes = 20.0 if stagger_minutes is None else stagger_minutes
    if not 0 <= stagger_minutes <= 600:
        raise AllpetError(f"stagger_minutes is {stagger_minutes}; it must lie from 0 to 600")
    files = _files(labels, table, ct)
    fov = FIELD_OF_VIEW_MM[region]
    if files is not None:
        from allpet.scan.labelled import load_volume

        fov = load_volume(*files).fov_mm
    plan = Plan(
        region=region,
        tracers=tracers,
        task=task,
        beam=ParallelBeam(views, bins, fov / bins if bin_mm is None else bin_mm),
        seed=seed,
        split=split,
        slices=slices_per_subject,
        spacing_mm=slice_mm,
        counts=span,
        dose_fraction=dose_fraction,
        thinning=thinning,
        scanner=scanner,
        background=background,
        delay_s=None if delay_minutes is None else 60 * delay_minutes,
        stagger_s=60 * stagger_minutes if task == "separate" else 0.0,
        ratio=ratio,
        labels=files,
    )
    if plan.preset is not None and plan.beam.fov_mm >= 2 * plan.preset.inner_radius_mm:
        room = f"scanner {plan.preset.name}, {2 * plan.preset.inner_radius_mm:g} mm across"
        raise AllpetError(f"field of view of {plan.beam.fov_mm:g} mm does not fit into {room}; use a smaller bin_mm")
    return plan


def _at_least_one(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise AllpetError(f"{name} is {value}; it must be at least 1")


def find_tracer_word(text: str) -> str:
    """Tracer word of "FDG" or "18F-FDG", in any case.

    Raises
    ------
    AllpetError : unknown; the message lists the known ones.
    """
    names = {**{word: word for word in TRACERS}, **{f"{t.isotope.name}-{word}": word for word, t in TRACERS.items()}}
    known = {name.upper(): word for name, word in names.items()}
    if text.strip().upper() not in known:
        raise AllpetError(f"tracer {text!r} is unknown; known are {', '.join(names)}")
    return known[text.strip().upper()]


def _tracers(tracer: str, task: str | None, to: str | None) -> tuple[str, ...]:
    words = tuple(find_tracer_word(part) for part in tracer.split("+"))
    wanted = 2 if task == "separate" else 1
    if len(words) != wanted:
        right = "two tracers, as in 'FDG + PSMA'" if wanted == 2 else "one tracer"
        raise AllpetError(f"tracer {tracer!r} names {len(words)}; task {task or 'none'} needs {right}")
    if len(set(words)) != len(words):
        raise AllpetError(f"tracer {tracer!r} names one tracer twice; two different ones can be told apart")
    if (task == "convert") != (to is not None):
        raise AllpetError("task convert needs the tracer to convert to (to), and no other task takes it")
    if to is None:
        return words
    other = find_tracer_word(to)
    if other == words[0]:
        raise AllpetError(f"tracer {to!r} is what the scan has already; name another to convert to")
    return (*words, other)


def _files(*paths: str | os.PathLike[str] | None) -> tuple[str, str, str | None] | None:
    labels, table, ct = (None if path is None else os.fspath(path) for path in paths)
    if labels is None and table is None and ct is None:
        return None
    if labels is None or table is None:
        raise AllpetError("a labelled volume needs both, the labels and their table; ct is optional")
    return labels, table, ct


def _check_numbers(views: int, bins: int, seed: int, dose_fraction: float | None, counts: tuple[float, float]) -> None:
    for name, value in (("views", views), ("bins", bins)):
        if value < 8:
            raise AllpetError(f"{name} is {value}; it must be at least 8")
    if seed < 0:
        raise AllpetError(f"seed is {seed}; it must not be negative")
    if dose_fraction is not None and not 0 < dose_fraction <= 1:
        raise AllpetError(f"dose fraction is {dose_fraction}; it must be above 0 and at most 1")
    if not 0 < counts[0] <= counts[1] < math.inf:
        raise AllpetError(f"counts are {counts}; they must be positive, the smaller first")


def attributes(plan: Plan) -> dict[str, Any]:
    """Units, prompt, acquisition and options of a data set, as plain JSON values."""
    from allpet import __version__

    counted = (
        {}
        if plan.task is None
        else {
            **dict.fromkeys(("observed", "background", "randoms", "second", "frames", "frames_background"), COUNTS),
            "counts_per_unit": f"{COUNTS}/({ACTIVITY_MM})",
            "dose_fraction": "1",
            "normalisation": "1",
        }
    )
    if plan.task in ("delayed", "convert"):
        counted["frames"] = ACTIVITY_MM
    names = [TRACERS[word] for word in plan.tracers]
    first = plan.channels[0]
    separate = plan.task == "separate"
    out: dict[str, Any] = {
        "units": {
            "sinogram": ACTIVITY_MM if plan.task is None else COUNTS,
            "image": ACTIVITY,
            "image_observed": ACTIVITY,
            "image_second": ACTIVITY,
            "mumap": MU,
            "attenuation": "1",
            "level_mm": "mm",
            "weight_kg": "kg",
            "injected_mbq": "MBq",
            **counted,
        },
        "prompt": {
            "tracer": " + ".join(plan.tracers) if separate else plan.tracers[0],
            "isotope": " + ".join(t.isotope.name for t in names) if separate else names[0].isotope.name,
            "region": plan.region,
            "task": plan.task,
        },
        "acquisition": {
            "scanner": None if plan.preset is None else plan.preset.name,
            "fwhm_mm": plan.fwhm_mm,
            "start_s": first.start_s,
            "duration_s": first.stop_s - first.start_s,
            "decay_reference": "none" if separate else "start",
            "plane_mm": plan.spacing_mm,
        },
        "seed": plan.seed,
        "split": plan.split,
        "slices_per_subject": plan.slices,
        "background": plan.background,
        "thinning": plan.thinning,
        "labels": list(LABELS),
        "version": __version__,
    }
    out["acquisition"] = {name: value for name, value in out["acquisition"].items() if value is not None}
    if plan.task in ("delayed", "convert", "separate"):
        shown = plan.channels if not separate else plan.channels[1 : len(plan.channels) // 2]
        out["frame_start_s"] = [channel.start_s for channel in shown]
        out["frame_duration_s"] = [channel.stop_s - channel.start_s for channel in shown]
    if plan.task == "convert":
        out["to"] = plan.tracers[1]
    if separate:
        out["stagger_minutes"] = plan.stagger_s / 60
    return out


def _key(plan: Plan) -> dict[str, Any]:
    """Every option that the samples depend on, as plain values; files of the user's by their content."""
    facts = {part.name: getattr(plan, part.name) for part in fields(plan) if part.name != "beam"}
    out = {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}
    if plan.labels is not None:
        out["labels_hash"] = _labels_hash(plan.labels)
    if plan.preset is not None:
        out["scanner"] = repr(plan.preset)
    return out


@lru_cache(maxsize=1)
def _labels_hash(labels: tuple[str, str, str | None]) -> str:
    """Hash of a labelled volume with its table and CT."""
    from allpet.provenance import file_hash
    from allpet.scan.labelled import table_path

    volume, table, ct = labels
    return file_hash(volume, table_path(table), *([] if ct is None else [ct]))
