"""Does attention pay? Errors in and out of regions that a person marks, and whether lesions are seen as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from allpet.geometry import ImageGrid
from allpet.mask.attend import quick_image
from allpet.mask.outline import draw
from allpet.mask.region import Region
from allpet.mask.suggest import LIKELY, suggest
from allpet.model import AllPET, Result
from allpet.model.restorer import gaussian_blur
from allpet.scan.core import Image
from allpet.scan.dataset import Dataset
from allpet.scan.phantom import LABEL
from allpet.scan.units import sigma_of
from allpet.study.cases import Case
from allpet.uncertainty import NORMAL

CASES = (("FDG", "brain"), ("FDG", "head-neck"), ("FDG", "chest"), ("FDG", "abdomen"), ("PSMA", "pelvis"))
FRACTIONS = (1 / 20, 1 / 100)
MARKS = ("told", "untold", "suggested")
"""An outline that says whether it is hot or cold; one that does not; all likely suggestions."""
LEAST_PIXELS = 3
"""Pixels of a lesion in its slice, from which on it is marked."""
BODY = 0.05
"""Share of the true peak above which a pixel is body."""


@dataclass(frozen=True)
class Lesion:
    """A lesion of a slice: its pixels, and the outline that a person draws about it."""

    pixels: np.ndarray
    region: Region
    kind: str


def lesions_of(labels: np.ndarray, image: np.ndarray, grid: ImageGrid, seed: int) -> list[Lesion]:
    """Lesions of a slice with an ellipse drawn about each: displaced by 15 % of its radius (1 sigma) in x and y, and
    larger by 16 +- 20 %."""
    from scipy import ndimage

    parts, count = ndimage.label(np.isin(labels, (LABEL["lesion"], LABEL["lesion centre"])))
    found = []
    for k in range(1, count + 1):
        pixels = parts == k
        if pixels.sum() < LEAST_PIXELS:
            continue
        rng = np.random.default_rng([seed, k])
        rows, columns = np.nonzero(pixels)
        points = np.stack([grid.x[columns], grid.y[rows]])
        spread = np.cov(points, bias=True) + np.eye(2) * grid.pixel_mm**2 / 12
        values, vectors = np.linalg.eigh(spread)
        axes = 2 * np.sqrt(values)
        radius = math.sqrt(axes[0] * axes[1])
        shape = {
            "type": "ellipse",
            "centre_mm": (points.mean(axis=1) + rng.normal(0, 0.15 * radius, 2)).tolist(),
            "axes_mm": [float(a * math.exp(rng.normal(0.15, 0.2))) for a in axes],
            "angle_deg": math.degrees(math.atan2(vectors[1, 0], vectors[0, 0])),
        }
        around = ndimage.binary_dilation(pixels, iterations=3) & ~ndimage.binary_dilation(pixels) & (labels > 0)
        hot = image[pixels].mean() >= image[around].mean() if around.any() else True
        kind = "hot" if hot else "cold"
        found.append(Lesion(pixels, Region.from_mask(f"lesion {k}", draw(shape, grid), kind=kind), kind))
    return found


def marked_slices(
    model: AllPET, tracer: str, region: str, people: int, fraction: float, split: str, seed: int
) -> Dataset:
    """One slice each of people with a lesion in it, on the model's grid; `people` are looked through."""
    data = scans(model, tracer, region, people, fraction, split, seed)
    lesion = np.isin(data["labels"], (LABEL["lesion"], LABEL["lesion centre"])).sum(axis=(1, 2)) >= LEAST_PIXELS
    return Dataset({name: values[lesion] for name, values in data.arrays.items()}, data.beam, data.attributes)


def scans(model: AllPET, tracer: str, region: str, people: int, fraction: float, split: str, seed: int) -> Dataset:
    """One slice each of people at a share of the dose, on the model's grid."""
    case = Case("low-dose", tracer, region, {"dose_fraction": fraction})
    return case.simulate(people, split, seed, model.beam.shape)


def truth_of(data: Dataset) -> torch.Tensor:
    """True images at the scan's resolution in kBq/mL."""
    sigma = sigma_of(float(data.attributes["acquisition"]["fwhm_mm"]))
    return gaussian_blur(torch.from_numpy(data["image"]), sigma / data.grid.pixel_mm)


def compare(
    model: AllPET,
    people: int = 60,
    seed: int = 41,
    split: str = "test",
    cases: Sequence[tuple[str, str]] = CASES,
    fractions: Sequence[float] = FRACTIONS,
    marks: Sequence[str] = ("told",),
) -> list[dict[str, Any]]:
    """A row for every lesion: relative error in its pixels and bias of its mean, without and with attention; relative
    error of the rest of the body; stated deviation of the region's mean.

    Parameters
    ----------
    people : of each case, looked through for lesions. marks : what is attended to, names of :data:`MARKS`.
    """
    rows = []
    for fraction in fractions:
        for tracer, region in cases:
            data = marked_slices(model, tracer, region, people, fraction, split, seed)
            truth = truth_of(data).numpy()
            for k in range(len(data)):
                for how in marks:
                    rows += _slice(model, data, truth[k], k, f"{tracer} {region}", fraction, seed, how)
    return rows


def _slice(
    model: AllPET, data: Dataset, true: np.ndarray, k: int, case: str, fraction: float, seed: int, how: str
) -> list[dict[str, Any]]:
    scan = data.scan([k])
    lesions = lesions_of(data["labels"][k], data["image"][k], data.grid, seed * 1000 + k)
    if not lesions:
        return []
    drawn = [one.region if how == "told" else replace(one.region, kind="roi") for one in lesions]
    roi = suggest(quick_image(scan), least=LIKELY) if how == "suggested" else drawn
    result = model.apply("low-dose", scan, roi=roi, images=True, samples=0, first_plane=k)
    without, after = without_and_with(result)
    inside = np.max([one.region.plane(0, true.shape) for one in lesions], axis=0) > 0
    rest = (true > BODY * true.max()) & ~inside
    rows = []
    for number, lesion in enumerate(lesions):
        weights = lesion.region.plane(0, true.shape)
        mean = float((true * weights).sum() / weights.sum())
        row = dict(
            case=case,
            fraction=fraction,
            subject=int(data["subject"][k]) + 1_000_000 * seed,
            kind=lesion.kind,
            marks=how,
            pixels=int(lesion.pixels.sum()),
            truth=mean,
        )
        if how != "suggested":
            found = result.regions[number]
            row["z"] = (found.after.mean - mean) / max(found.std, 1e-9)
        for name, image in (("without", without), ("with", after)):
            error = image - true
            row[f"in_{name}"] = _relative(error, true, lesion.pixels)
            row[f"roi_{name}"] = _relative(error, true, weights > 0.5 if (weights > 0.5).any() else weights > 0)
            row[f"bias_{name}"] = float((image * weights).sum() / weights.sum()) / mean - 1
            row[f"out_{name}"] = _relative(error, true, rest)
        rows.append(row)
    return rows


def without_and_with(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """The image of a single plane without and with attention, ``(row, column)``; the same where no region was."""
    images = [result.extras.get(name) for name in ("-image", "-image-change")]
    after, change = (np.asarray(x.array[0].numpy()) if isinstance(x, Image) else np.zeros(()) for x in images)
    return after - change, after


def _relative(error: np.ndarray, true: np.ndarray, where: np.ndarray) -> float:
    """Root mean square error over root mean square of the truth."""
    return float(np.sqrt((error[where] ** 2).mean() / max((true[where] ** 2).mean(), 1e-12)))


def summary(rows: Sequence[dict[str, Any]], draws: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
    """For every fraction, way of marking and kind: change of the mean error in per cent with its 95 % interval over
    subjects."""
    out = []
    keys = sorted({(-row["fraction"], MARKS.index(row["marks"])) for row in rows})
    for (negative, mark), kind in product(keys, ("all", "hot", "cold")):
        fraction, how = -negative, MARKS[mark]
        some = [r for r in rows if (r["fraction"], r["marks"]) == (fraction, how) and kind in ("all", r["kind"])]
        if some:
            line: dict[str, Any] = dict(fraction=fraction, marks=how, kind=kind, lesions=len(some))
            line["subjects"] = len({(r["case"], r["subject"]) for r in some})
            for name in ("in", "roi", "out"):
                line[f"{name}_without"], line[f"{name}_with"] = (
                    float(np.mean([r[f"{name}_{which}"] for r in some])) for which in ("without", "with")
                )
                line[f"{name}_change"] = _change(some, name, draws, seed)
            for which in ("without", "with"):
                line[f"bias_{which}"] = float(np.mean([r[f"bias_{which}"] for r in some]))
                line[f"off_{which}"] = float(np.mean([abs(r[f"bias_{which}"]) for r in some]))
            if how != "suggested":
                line["covered"] = float(np.mean([abs(r["z"]) < NORMAL for r in some]))
            out.append(line)
    return out


def _change(rows: Sequence[dict[str, Any]], name: str, draws: int, seed: int) -> list[float]:
    """Change of the mean error in per cent, and the ends of its interval."""
    groups: dict[Any, list[tuple[float, float]]] = {}
    for row in rows:
        groups.setdefault((row["case"], row["subject"]), []).append((row[f"{name}_without"], row[f"{name}_with"]))
    sums = np.array([np.sum(pairs, axis=0) for pairs in groups.values()])
    rng = np.random.default_rng(seed)
    picked = sums[rng.integers(len(sums), size=(draws, len(sums)))].sum(axis=1)
    low, high = np.quantile(100 * (picked[:, 1] / picked[:, 0] - 1), (0.025, 0.975))
    return [float(100 * (sums[:, 1].sum() / sums[:, 0].sum() - 1)), float(low), float(high)]


def markdown(rows: Sequence[dict[str, Any]], seen: Sequence[dict[str, Any]] = ()) -> str:
    """Both tables, as text."""
    lines = [
        "| low-dose | marks | lesions | n (subjects) | error in lesion without | with | change (95 %) | bias of mean "
        "without | with | error elsewhere without | with | change | 90 % interval covers |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in rows:
        change, out = line["in_change"], line["out_change"]
        covered = f"{100 * line['covered']:.0f} %" if "covered" in line else "–"
        lines.append(
            f"| 1/{round(1 / line['fraction'])} | {line['marks']} | {line['kind']} "
            f"| {line['lesions']} ({line['subjects']}) "
            f"| {line['in_without']:.3f} | {line['in_with']:.3f} "
            f"| {change[0]:+.1f} % ({change[1]:+.1f} to {change[2]:+.1f}) "
            f"| {100 * line['bias_without']:+.0f} % | {100 * line['bias_with']:+.0f} % "
            f"| {line['out_without']:.3f} | {line['out_with']:.3f} | {out[0]:+.2f} % | {covered} |"
        )
    if seen:
        lines += [
            "",
            "| lesion seen by an observer | n pairs | AUC without | with | difference (95 %) "
            "| bias of an empty mark without | with |",
        ]
        lines.append("|---|---|---|---|---|---|---|")
    for one in seen:
        gain, empty = one["gain"], one["empty"]
        lines.append(
            f"| 1/{round(1 / one['fraction'])}, {one['case']}, 16 mm, {1 + one['contrast']:g} times its surroundings "
            f"| {one['people']} | {one['auc_without']:.3f} | {one['auc_with']:.3f} "
            f"| {gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f}) "
            f"| {100 * empty['without']:+.0f} % | {100 * empty['with']:+.0f} % |"
        )
    return "\n".join(lines)
