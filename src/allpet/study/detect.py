"""Are lesions seen as well with attention as without? A channelized Hotelling observer on pairs with and without one.

The observer reads four difference-of-Gaussians channels at the place in question (Abbey and Barrett, J Opt Soc Am A
18(3), 2001), learns on one half of the people and judges the other, and the other way round. The same outline is drawn
in both scans of a pair, so that pointing gives nothing away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask.outline import draw
from allpet.mask.region import Region
from allpet.metrics.region import mean_in
from allpet.model import AllPET
from allpet.project import Projector
from allpet.scan.dataset import Dataset
from allpet.scan.units import sigma_of
from allpet.study.attention import scans, truth_of, without_and_with
from allpet.study.strange import auc

RADIUS_MM = 8.0
SETTINGS = ((1 / 20, 1.5), (1 / 100, 3.0))
"""Shares of the dose, and the lesion's uptake above its surroundings, as a multiple of it: neither trivial nor hopeless
without attention."""
CHANNELS = 4
FINEST_MM = 4.0
"""Standard deviation of the finest channel's inner Gaussian; each next one is 1.5 times as wide."""
FINE = 3
"""How many times finer than the scan the lesion is projected."""


def pairs(
    model: AllPET, tracer: str, region: str, people: int, fraction: float, contrast: float, seed: int, split: str
) -> dict[str, np.ndarray]:
    """Channel responses ``(people, 2, CHANNELS)``, absent and present, by name "without" and "with" attention; and
    relative bias of the marked mean where no lesion is, ``(people, 2)``: "empty"."""
    data = scans(model, tracer, region, people, fraction, split, seed)
    out: dict[str, list[np.ndarray]] = {"without": [], "with": [], "empty": []}
    truths = truth_of(data).numpy()
    for k in range(people):
        rng = np.random.default_rng([seed, k])
        centre = _place(rng, data["labels"][k], data.grid)
        shape = {"type": "ellipse", "centre_mm": centre, "axes_mm": [RADIUS_MM, RADIUS_MM]}
        around = float((data["image"][k] * (near := draw(shape, data.grid))).sum() / near.sum())
        added = _lesion_counts(data, k, shape, contrast * max(around, 0.1 * float(data["image"][k].max())))
        drawn = shape | {
            "centre_mm": [c + rng.normal(0, 0.15 * RADIUS_MM) for c in centre],
            "axes_mm": [1.3 * RADIUS_MM * math.exp(rng.normal(0, 0.15)) for _ in range(2)],
        }
        roi = [Region.from_mask("mark", draw(drawn, data.grid))]
        seen: dict[str, list[np.ndarray]] = {"without": [], "with": []}
        for lesion in (0.0, 1.0):
            expected = fraction * (data["sinogram"][k].astype(np.float64) + lesion * added)
            scan = data.scan([k]).with_sinogram(torch.from_numpy(rng.poisson(expected).astype(np.float32))[None])
            result = model.apply("low-dose", scan, roi=roi, images=True, samples=0)
            without, after = without_and_with(result)
            for name, image in (("without", without), ("with", after)):
                seen[name].append(responses(image, centre, data.grid))
            if not lesion:
                true = mean_in(truths[k : k + 1], roi[0])
                out["empty"].append(np.array([mean_in(x[None], roi[0]) / true - 1 for x in (without, after)]))
        for name in seen:
            out[name].append(np.stack(seen[name]))
    return {name: np.stack(values) for name, values in out.items()}


def _place(rng: np.random.Generator, labels: np.ndarray, grid: ImageGrid) -> list[float]:
    """A point in mm inside of the body, twice the lesion's radius from its edge where there is such a place."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(labels > 0) * grid.pixel_mm
    inside = np.argwhere(depth > min(2 * RADIUS_MM, 0.7 * float(depth.max())))
    row, column = inside[int(rng.integers(len(inside)))]
    return [float(grid.x[column]), float(grid.y[row])]


def _lesion_counts(data: Dataset, k: int, shape: dict[str, Any], value: float) -> np.ndarray:
    """Counts that a uniform lesion of `value` kBq/mL adds at full dose, ``(view, radial)``, by way of a finer grid."""
    beam = data.beam
    fine = ParallelBeam(beam.views, beam.bins * FINE, beam.bin_mm / FINE)
    grid = fine.image_grid(data.grid.size * FINE)
    lines = Projector(fine, grid)(torch.from_numpy(draw(shape, grid) * np.float32(value))).numpy()
    from scipy import ndimage

    sigma = sigma_of(float(data.attributes["acquisition"]["fwhm_mm"])) / fine.bin_mm
    lines = ndimage.gaussian_filter1d(lines, sigma, axis=-1, mode="constant")
    lines = lines.reshape(beam.views, beam.bins, FINE).mean(axis=-1)
    return np.asarray(lines * data["attenuation"][k] * float(data["counts_per_unit"][k]), np.float64)


def responses(image: np.ndarray, centre: Sequence[float], grid: ImageGrid) -> np.ndarray:
    """What the channels at a point in mm see of an image ``(row, column)``."""
    square = (grid.x[None, :] - centre[0]) ** 2 + (grid.y[:, None] - centre[1]) ** 2
    found = []
    for k in range(CHANNELS):
        inner = FINEST_MM * 1.5**k
        one, two = (np.exp(-square / (2 * s**2)) / (2 * math.pi * s**2) for s in (inner, 1.67 * inner))
        found.append(float((image * (one - two)).sum()) * grid.pixel_mm**2)
    return np.array(found)


def observe(seen: np.ndarray) -> np.ndarray:
    """Scores ``(people, 2)``, absent and present, from templates learnt on the other half of the people."""
    scores = np.empty(seen.shape[:2])
    half = np.arange(len(seen)) % 2
    for side in (0, 1):
        learn = seen[half != side]
        absent, present = learn[:, 0], learn[:, 1]
        cov = (np.cov(absent.T) + np.cov(present.T)) / 2
        template = np.linalg.solve(cov + 1e-9 * np.trace(cov) * np.eye(len(cov)), present.mean(0) - absent.mean(0))
        found = seen[half == side] @ template
        scores[half == side] = (found - found.mean()) / found.std()
    return scores


def area(scores: np.ndarray) -> float:
    """Area under the curve of ``(people, 2)``, absent and present."""
    return auc(*(torch.from_numpy(scores[:, k]) for k in (0, 1)))


def detectability(
    model: AllPET,
    people: int = 100,
    seed: int = 51,
    split: str = "test",
    cases: Sequence[tuple[str, str]] = (("FDG", "abdomen"), ("FDG", "brain")),
    settings: Sequence[tuple[float, float]] = SETTINGS,
    draws: int = 1000,
) -> list[dict[str, Any]]:
    """A row for every case: areas without and with attention, and the difference with its 95 % interval."""
    rows = []
    for tracer, region in cases:
        for fraction, contrast in settings:
            seen = pairs(model, tracer, region, people, fraction, contrast, seed, split)
            rows.append(observed(seen, f"{tracer} {region}", fraction, contrast, seed, draws))
    return rows


def observed(
    seen: Mapping[str, np.ndarray], case: str, fraction: float, contrast: float, seed: int = 51, draws: int = 1000
) -> dict[str, Any]:
    """The row of what :func:`pairs` gave."""
    people = len(seen["with"])
    empty = dict(zip(("without", "with"), seen["empty"].mean(axis=0).tolist(), strict=True))
    scores = {name: observe(seen[name]) for name in ("without", "with")}
    rng = np.random.default_rng(seed)
    gains = []
    for _ in range(draws):
        pick = rng.integers(people, size=people)
        gains.append(area(scores["with"][pick]) - area(scores["without"][pick]))
    low, high = np.quantile(gains, (0.025, 0.975))
    return dict(
        case=case,
        fraction=fraction,
        contrast=contrast,
        people=people,
        auc_without=area(scores["without"]),
        auc_with=area(scores["with"]),
        empty=empty,
        gain=[area(scores["with"]) - area(scores["without"]), float(low), float(high)],
    )
