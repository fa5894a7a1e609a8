"""Retention indices of organs: how far is the late frame that ``delayed`` predicts from the one simulated?

The index of an organ is the decay-corrected change of its mean uptake, in percent, inside of its true outline; allpet's
is the mean of its retention image there. The simulator draws every person's kinetics, and the early frame does not
betray all of them: what is left is its Bayes floor. The error of a guess from a person's noise-free early uptakes,
learnt from other people, is an upper bound of it, not the floor itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from allpet.metrics.organ import away_from_edges
from allpet.model import AllPET
from allpet.report.low_dose_table import mean_and_error
from allpet.report.tasks_table import LEAST_PIXELS, TRAINING
from allpet.scan.acquire import FWHM_MM
from allpet.scan.dataset import Dataset
from allpet.scan.kinetics import ISOTOPES
from allpet.scan.phantom import LABELS
from allpet.scan.plan import TRACER_NUMBER, UPTAKE, Plan
from allpet.scan.simulate import make_plan
from allpet.scan.tracer_tables import TISSUES
from allpet.scan.tracers import draw_uptake
from allpet.study.cases import CASES, Case

KNOWN = 600
"""Training people behind the guess from noise-free uptakes."""
RIDGES = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
"""Weights of the penalty on standardised coefficients; the best on a fifth of the training people is taken."""
METHODS = ("allpet", "copy", "organ ratios", f"organ ratios, {KNOWN} people", "noise-free early uptakes")
Indices = dict[str, float]
"""Retention index by organ, in percent."""


def insides(labels: np.ndarray, pixel_mm: float) -> dict[str, np.ndarray]:
    """Where the organs of one slice are, away from their edges; small ones, air and lesions are left out."""
    found = {}
    for value in np.unique(labels[labels > 0]):
        there = away_from_edges(labels == value, pixel_mm, FWHM_MM)
        if there.sum() >= LEAST_PIXELS and LABELS[value] in TISSUES:
            found[LABELS[value]] = there
    return found


def change(early: np.ndarray, late: np.ndarray, inside: dict[str, np.ndarray], decay: float) -> Indices:
    """Indices of organs from two images of one unit, neither decay-corrected."""
    return {name: 100 * float(late[there].mean() / (early[there].mean() * decay) - 1) for name, there in inside.items()}


def predicted(model: AllPET, data: Dataset, delay_minutes: float) -> np.ndarray:
    """Retention index images ``(n, row, column)`` of ``allpet apply delayed``, in percent."""
    result = model.apply("delayed", data.scan(), delay_minutes=delay_minutes, samples=0)
    return np.asarray(result.extras["-retention"].array)  # type: ignore[union-attr]


def kinetics(plan: Plan, people: Sequence[int]) -> np.ndarray:
    """Noise-free uptake of every tissue in both frames, decay-corrected, ``(people, tissues, 2)`` in SUV."""
    tracer, (early, late) = plan.tracers[0], plan.channels
    drawn = [draw_uptake(plan.stream(k, UPTAKE, TRACER_NUMBER[tracer]), tracer) for k in people]
    frames = (np.array([early.start_s, late.start_s]), np.array([early.stop_s, late.stop_s]))
    return np.stack([uptake.suv(*frames) for uptake in drawn])


def guess(known: np.ndarray, early: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Logarithms of late over early uptake, guessed by ridge regression from the logarithms of early uptakes.

    Parameters
    ----------
    known : early uptakes of training people ``(n, organs)``. early : of one person ``(organs,)``; all count relative to
        their own person's mean. wanted : late over early uptake of the training people, ``(n, organs)``.
    """

    def described(uptakes: np.ndarray) -> np.ndarray:
        x = np.log(uptakes)
        x = x - x.mean(axis=-1, keepdims=True)
        return np.concatenate((x, x**2), axis=-1)

    x, y, new = described(known), np.log(wanted), described(early)
    centre, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    x, new, usual = (x - centre) / scale, (new - centre) / scale, y.mean(axis=0)

    def fit(rows: slice, weight: float) -> np.ndarray:
        normal = x[rows].T @ x[rows] + weight * np.eye(x.shape[1])
        return np.asarray(np.linalg.solve(normal, x[rows].T @ (y[rows] - usual)))

    held = len(x) // 5
    off = [np.abs(x[:held] @ fit(slice(held, None), weight) + usual - y[:held]).mean(axis=0) for weight in RIDGES]
    best = np.argmin(off, axis=0)
    fits = np.stack([fit(slice(None), weight) for weight in RIDGES])
    return np.asarray(usual + np.einsum("f,fo->o", new, fits[best, :, np.arange(len(best))].T))


def judge(
    model: AllPET, people: int, seeds: Sequence[int], cases: Sequence[Case] | None = None
) -> list[dict[str, Any]]:
    """True and estimated index of every organ of every person: case, seed, person, organ, truth, and each method's."""
    rows: list[dict[str, Any]] = []
    for case in [case for case in CASES if case.task == "delayed"] if cases is None else cases:
        minutes = case.options["delay_minutes"]
        known = dict(tracer=case.tracer, region=case.region, task="delayed", delay_minutes=minutes)
        curves = kinetics(make_plan(**known, seed=1), range(KNOWN))
        few = case.simulate(TRAINING, "train", 1, model.beam.shape)
        decay = float(ISOTOPES[few.prompt["isotope"]].decay(60 * minutes))
        everyone = {LABELS[v]: np.asarray(few["labels"]) == v for v in np.unique(few["labels"])}
        usual = change(few["image_observed"], few["image"], everyone, decay)
        whole = change(few["image_observed"], few["image"], {"": np.asarray(few["labels"]) > 0}, decay)[""]
        for seed in seeds:
            data = case.simulate(people, "test", seed, model.beam.shape)
            plan = make_plan(**known, seed=seed, split="test")
            own, images = kinetics(plan, data["subject"].tolist()), predicted(model, data, minutes)
            for k, image in enumerate(images):
                inside = insides(data["labels"][k], data.grid.pixel_mm)
                true = change(data["image_observed"][k], data["image"][k], inside, decay)
                some = [TISSUES.index(name) for name in inside]
                ratios = curves[:, some, 1] / curves[:, some, 0]
                best = 100 * np.expm1(guess(curves[:, some, 0], own[k, some, 0], ratios))
                many = 100 * (curves[:, some, 1].mean(axis=0) / curves[:, some, 0].mean(axis=0) - 1)
                for i, name in enumerate(inside):
                    found = (image[inside[name]].mean(), 0.0, usual.get(name, whole), many[i], best[i])
                    row = dict(case=case.name, seed=seed, person=k, organ=name, truth=true[name])
                    rows.append(row | {key: float(v) for key, v in zip(METHODS, found, strict=True)})
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Two Markdown tables: mean absolute error in points (mean over a person's organs, then people), and by organ."""
    lines = ["| case | " + " | ".join(METHODS) + " | people |", "|---" * (len(METHODS) + 2) + "|"]
    by_organ = ["| case | organ | true index (%) | " + " | ".join(METHODS) + " | people |", "|---" * 9 + "|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == case]
        everyone: dict[tuple[int, int], list[dict[str, float]]] = {}
        for row in mine:
            off = {name: abs(row[name] - row["truth"]) for name in METHODS}
            everyone.setdefault((row["seed"], row["person"]), []).append(off)
        mean = mean_and_error(
            [{n: float(np.mean([x[n] for x in each])) for n in METHODS} for each in everyone.values()]
        )
        cells = [f"{mean[name]:.1f} ± {mean[name + '_se']:.1f}" for name in METHODS]
        lines.append(f"| {case} | {' | '.join(cells)} | {len(everyone)} |")
        for organ in sorted({row["organ"] for row in mine}):
            here = [row for row in mine if row["organ"] == organ]
            cells = [f"{np.mean([abs(row[name] - row['truth']) for row in here]):.1f}" for name in METHODS]
            true = float(np.mean([row["truth"] for row in here]))
            by_organ.append(f"| {case} | {organ} | {true:+.1f} | {' | '.join(cells)} | {len(here)} |")
    return "\n".join([*lines, "", *by_organ])
