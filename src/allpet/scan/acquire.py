"""Acquisition: from a finely sampled body to expected and measured counts.

The line integrals are exact for the pixelised body: each pixel casts a trapezoid, integrated over each bin.
This shares nothing with :mod:`allpet.project`, and samples three times finer, so what a model or a
reconstruction is trained and judged on is not made by its own projector.

Expected prompts are ``counts_per_unit * normalisation * (attenuation * ideal + scatter + randoms)``; the ideal
projection is blurred by the detector and by the isotope's positron range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.scan.units import sigma_of
from allpet.taps import gaussian_taps

OVERSAMPLING = 3
FWHM_MM = 4.5
_KEEP_VIEW_PIXELS = 12_000_000
_IMAGES_AT_ONCE = 8


def _trapezoid_integral(edge: np.ndarray, short: float, long: float) -> np.ndarray:
    """Cumulative integral at `edge` of the unit-area trapezoid that is the convolution of two boxes."""
    wide, narrow = (long + short) / 2, (long - short) / 2
    ramp = sum(
        sign * np.square(np.maximum(edge + at, 0)) for sign, at in ((1, wide), (-1, narrow), (-1, -narrow), (1, -wide))
    )
    return np.asarray(ramp) / (2 * long * short)


def _strip_matrix(size: int, angle: float, x: np.ndarray, y: np.ndarray) -> sparse.csc_array:
    """Pixels to bins for one view, both of unit width: share of each pixel's area over each bin."""
    short, long = sorted((abs(math.cos(angle)), abs(math.sin(angle))))
    short = max(short, 1e-4)
    s = x * math.cos(angle) + y * math.sin(angle)
    first = np.floor(s - (long + short) / 2 + size / 2).astype(np.int32)
    bins = first[:, None] + np.arange(3, dtype=np.int32)
    edges = first[:, None] + np.arange(4) - size / 2 - s[:, None]
    weight = np.diff(_trapezoid_integral(edges, short, long), axis=1)
    used = (weight > 1e-7) & (bins >= 0) & (bins < size)
    start = np.concatenate(([0], np.cumsum(used.sum(axis=1)))).astype(np.int32)
    return sparse.csc_array((weight[used].astype(np.float32), bins[used], start), shape=(size, len(x)))


@dataclass(frozen=True)
class _Plane:
    """Pixels of the inscribed circle in rings from the centre outwards: what lies within a ring is a prefix.

    Parameters
    ----------
    pixels : flat indices ``(m, 4)``: of the pixel itself, and of those that stand in its place where the image is
        turned by 90 degrees (its projections are then those half the views further), swapped in x and y (mirrored at
        45 degrees), and both. x, y : unit coordinates. ends : pixels within each ring, ascending.
    """

    pixels: np.ndarray
    x: np.ndarray
    y: np.ndarray
    ends: np.ndarray


_RINGS = 16


@lru_cache(maxsize=4)
def _plane(size: int) -> _Plane:
    centre = np.arange(size) - (size - 1) / 2
    x, y = (part.ravel() for part in np.meshgrid(centre, -centre))
    radius = np.hypot(x, y) / (size / 2)
    ring = np.minimum((radius * _RINGS).astype(np.int32), _RINGS - 1)
    inside = np.flatnonzero(radius <= 1)
    order = inside[np.argsort(ring[inside], kind="stable")]
    own = np.arange(size * size).reshape(size, size)
    swapped = np.rot90(own, 2).T
    turned = [np.rot90(index, -1) for index in (own, swapped)]
    pixels = np.stack([index.ravel()[order] for index in (own, turned[0], swapped, turned[1])], axis=1)
    return _Plane(pixels, x[order], y[order], np.cumsum(np.bincount(ring[inside], minlength=_RINGS)))


def _matrix(size: int, views: int, first: int, stop: int) -> sparse.csc_array:
    """Pixels of :func:`_plane` to the bins of the views `first` to `stop` - 1, ``((stop - first) * size, pixels)``."""
    plane = _plane(size)
    each = [_strip_matrix(size, math.pi * view / views, plane.x, plane.y) for view in range(first, stop)]
    return each[0] if len(each) == 1 else sparse.vstack(each, format="csc")


_cached_matrix = lru_cache(maxsize=2)(_matrix)


def strip_project(images: np.ndarray, views: int, pixel_mm: float) -> np.ndarray:
    """Exact bin-averaged line integrals of pixelised images, at one bin per pixel.

    Parameters
    ----------
    images : ``(n, size, size)``, nothing outside the inscribed circle (it is left out).
    views : number of angles in [0, pi). pixel_mm : pixel side and bin pitch in mm.

    Returns
    -------
    float32 ``(n, views, size)``, value*mm.
    """
    n, size = images.shape[0], images.shape[-1]
    plane = _plane(size)
    symmetric = 1 if views % 2 else 4
    pixels, count = plane.pixels[:, :symmetric], views if views % 2 else views // 4 + 1
    cached = count * len(plane.pixels) <= _KEEP_VIEW_PIXELS
    at_once = count if cached else 1
    out = np.empty((n, views, size), np.float32)
    for start in range(0, n, _IMAGES_AT_ONCE):
        some = slice(start, min(start + _IMAGES_AT_ONCE, n))
        values = np.ascontiguousarray(images[some].reshape(some.stop - start, -1).T, dtype=np.float32)
        used = np.flatnonzero(np.any(values, axis=1)[pixels[:, 0]])
        last = int(plane.ends[np.searchsorted(plane.ends, used[-1] + 1)]) if used.size else 0
        stack = values[pixels[:last]].reshape(last, symmetric * (some.stop - start))
        for first in range(0, count, at_once):
            whole = (_cached_matrix if cached else _matrix)(size, views, first, first + at_once)
            stop = whole.indptr[last]
            kept = (whole.data[:stop], whole.indices[:stop], whole.indptr[: last + 1])
            lines = sparse.csc_array(kept, shape=(at_once * size, last)) @ stack
            lines = lines.reshape(at_once, size, symmetric, -1).transpose(0, 2, 3, 1)
            for view, line in enumerate(lines, first):
                _put(out[some], line, view)
    out *= np.float32(pixel_mm)
    return out


def _put(out: np.ndarray, lines: np.ndarray, view: int) -> None:
    """Write the projections ``(symmetric image, n, bin)`` of one view to the views that they stand for."""
    views = out.shape[1]
    out[:, view] = lines[0]
    if len(lines) == 1:
        return
    half = views // 2
    out[:, view + half] = lines[1]
    if 0 < view < views / 4:
        out[:, half - view] = lines[2]
        out[:, views - view] = lines[3][:, ::-1]


def block_mean(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Mean over each `OVERSAMPLING` neighbours along the given axes (counted from the end, e.g. -1)."""
    for axis in axes:
        shape = list(array.shape)
        shape[axis : axis + 1 or None] = [shape[axis] // OVERSAMPLING, OVERSAMPLING]
        array = array.reshape(shape).mean(axis=axis, dtype=np.float32)
    return array


def _two_sided(variance: float) -> np.ndarray:
    """Two-sided geometric taps, sum 1, of this variance: ``e^(-|x|/a) / (2a)`` on whole numbers, variance 2 a^2."""
    ratio = variance / (variance + 1 + math.sqrt(2 * variance + 1))
    reach = math.ceil(math.log(1e-9) / math.log(ratio)) if ratio > 0 else 0
    taps = ratio ** np.abs(np.arange(-reach, reach + 1.0))
    return np.asarray(taps / taps.sum())


@lru_cache(maxsize=8)
def blur_matrix(beam: ParallelBeam, fwhm_mm: float, isotope: str | None = None) -> np.ndarray:
    """Fine bins to bins, blurred by detector and positron range: float32 ``(3 bins, bins)``, 0 or more.

    The detector is a Gaussian along the radial axis; the positron range in water a two-sided exponential of scale
    :attr:`allpet.scan.kinetics.Isotope.range_scale_mm` (none without an isotope). What is blurred beyond the edge is
    lost.
    """
    from allpet.scan.kinetics import ISOTOPES

    fine, pitch = OVERSAMPLING * beam.bins, beam.bin_mm / OVERSAMPLING
    kernel = gaussian_taps(sigma_of(fwhm_mm / pitch), reach=5.0)
    if isotope is not None:
        kernel = np.convolve(kernel, _two_sided(2 * (ISOTOPES[isotope].range_scale_mm / pitch) ** 2))
    half = len(kernel) // 2
    between = np.arange(fine)[:, None] - np.arange(fine)[None, :]
    weight = np.where(np.abs(between) <= half, kernel[np.clip(between + half, 0, 2 * half)], 0.0)
    return np.ascontiguousarray(weight.reshape(fine, beam.bins, OVERSAMPLING).mean(axis=2), np.float32)


def ideal_projection(
    activity: np.ndarray, beam: ParallelBeam, fwhm_mm: float = FWHM_MM, isotope: str | None = None
) -> np.ndarray:
    """Blurred projection of finely sampled activity ``(n, 3 bins, 3 bins)`` -> float32 ``(n, views, bins)``.

    Resolution is that of :func:`blur_matrix`; the unit is that of activity*mm.
    """
    fine = strip_project(activity, beam.views, beam.bin_mm / OVERSAMPLING)
    return np.asarray(fine @ blur_matrix(beam, fwhm_mm, isotope))


def attenuation_factors(mu: np.ndarray, beam: ParallelBeam) -> np.ndarray:
    """exp(-A mu) of a finely sampled mu map ``(n, 3 bins, 3 bins)``, averaged over each bin; in (0, 1]."""
    return _survival(strip_project(mu, beam.views, beam.bin_mm / OVERSAMPLING))


def _survival(line: np.ndarray) -> np.ndarray:
    return np.minimum(block_mean(np.exp(-np.maximum(line, 0)), (-1,)), 1)


def project_slices(
    activity: np.ndarray, mu: np.ndarray, beam: ParallelBeam, fwhm_mm: float, isotopes: Sequence[str | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Ideal projections and attenuation factors of slices that lie on each other, all in one go.

    Parameters
    ----------
    activity : ``(k, n, 3 bins, 3 bins)``, k tracers or frames with `isotopes` each. mu : ``(n, 3 bins, 3 bins)``, 1/mm.

    Returns
    -------
    ideal ``(k, n, views, bins)`` in the unit of activity*mm, factors ``(n, views, bins)``; float32.
    """
    k, n, size = activity.shape[:3]
    together = np.concatenate((activity.reshape(k * n, size, size), mu))
    lines = strip_project(together, beam.views, beam.bin_mm / OVERSAMPLING)
    ideal = [lines[i * n : (i + 1) * n] @ blur_matrix(beam, fwhm_mm, isotope) for i, isotope in enumerate(isotopes)]
    return np.maximum(np.stack(ideal), 0), _survival(lines[k * n :])


@dataclass(frozen=True)
class Coincidences:
    """What reaches the detectors in one slice, everything in kBq/mL*mm (counts over `counts_per_unit`).

    Parameters
    ----------
    trues : attenuation * ideal projection, ``(views, bins)``. scatter, randoms : the same shape.
    """

    trues: np.ndarray
    scatter: np.ndarray
    randoms: np.ndarray


@dataclass(frozen=True)
class Expected:
    """Expected counts of one slice at full dose, float32 ``(views, bins)``, and their scale.

    Parameters
    ----------
    prompts : all; ``counts_per_unit * normalisation * attenuation * ideal + background``.
    background : scatter and randoms. randoms : of these the randoms. counts_per_unit : counts per kBq/mL*mm.
    """

    prompts: np.ndarray
    background: np.ndarray
    randoms: np.ndarray
    counts_per_unit: float


def expected_counts(rates: Coincidences, counts: float, normalisation: np.ndarray | None = None) -> Expected:
    """Expected prompts of one slice, so long a scan that there are `counts` of them.

    Parameters
    ----------
    normalisation : bin efficiencies ``(views, bins)``, 1 without; they act on everything that is detected.

    Raises
    ------
    AllpetError : there is no activity in the slice.
    """
    together = rates.trues.astype(np.float64) + rates.scatter + rates.randoms
    if normalisation is not None:
        together = together * normalisation
    total = together.sum()
    if not (total > 0 and rates.trues.sum() > 0):
        raise AllpetError("the slice holds no activity; counts need some inside the field of view")
    scale = counts / total

    def detected(part: np.ndarray) -> np.ndarray:
        efficient = part if normalisation is None else part * normalisation
        return np.asarray(efficient * scale, np.float32)

    randoms = detected(rates.randoms)
    background = detected(rates.scatter) + randoms
    return Expected(detected(rates.trues) + background, background, randoms, float(scale))


@lru_cache(maxsize=4)
def _smoothing(views: int, bins: int, sigma_views: float, sigma_bins: float) -> tuple[np.ndarray, ...]:
    """Matrices of :func:`smooth_views`: views among themselves, views from beyond the seam, bins."""

    def kernel(distance: np.ndarray, sigma: float) -> np.ndarray:
        weight = np.exp(-((distance / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
        return np.asarray(weight)

    apart = np.arange(views)[:, None] - np.arange(views)
    turns = (kernel(apart + 2 * views * k, sigma_views) for k in (-1, 0, 1))
    beyond = (kernel(apart + views * k, sigma_views) for k in (-1, 1))
    across = kernel(np.arange(bins)[:, None] - np.arange(bins), sigma_bins)
    return sum(turns, np.zeros(apart.shape)), sum(beyond, np.zeros(apart.shape)), across


def smooth_views(sinogram: np.ndarray, sigma_views: float, sigma_bins: float) -> np.ndarray:
    """Gaussian smoothing of one sinogram ``(view, radial)`` that continues across the mirrored seam.

    Sigmas of less than one view or bin are too narrow for it.
    """
    own, beyond, across = _smoothing(*sinogram.shape, sigma_views, sigma_bins)
    return np.asarray((own @ sinogram + beyond @ sinogram[:, ::-1]) @ across)


def smooth_background(
    trues: np.ndarray, beam: ParallelBeam, scatter_share: float, randoms_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """A quick stand-in for simulated scatter and randoms: the trues smoothed (70 mm, a tenth of the views), a dome.

    Parameters
    ----------
    trues : ``(views, bins)``. scatter_share : of the coincidences that are no randoms. randoms_share : of the prompts.

    Returns
    -------
    scatter, randoms : ``(views, bins)`` in the unit of the trues.
    """
    smooth = smooth_views(trues.astype(np.float64), beam.views / 10, 70.0 / beam.bin_mm)
    total = trues.sum(dtype=np.float64)
    scatter = smooth * (total * scatter_share / (1 - scatter_share) / max(smooth.sum(), 1e-30))
    dome = np.broadcast_to(1 - 0.25 * (2 * beam.radii / beam.fov_mm) ** 2, beam.shape)
    randoms = dome * (total / (1 - scatter_share) * randoms_share / (1 - randoms_share) / dome.sum())
    return scatter.astype(np.float32), randoms.astype(np.float32)


def draw_counts(expected: np.ndarray, dose_fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Poisson counts at full dose, each kept with probability `dose_fraction` (binomial thinning); float32."""
    full = rng.poisson(np.asarray(expected, np.float64))
    return rng.binomial(full, dose_fraction).astype(np.float32)
