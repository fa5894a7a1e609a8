"""What is read off a region: mean, maximum and peak uptake."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from allpet.geometry import ImageGrid
from allpet.mask.region import Region

PEAK_MM = 6.2
"""Radius of the sphere of 1 mL behind a peak (PERCIST 1.0, Wahl et al., J Nucl Med 2009)."""


@dataclass(frozen=True)
class Uptake:
    """Of a region, in the image's unit.

    Parameters
    ----------
    mean : weighted by the region. maximum : of its voxels with a weight of at least a half. peak : largest mean of a
    sphere of 1 mL about any of these. volume_ml : of the region.
    """

    mean: float
    maximum: float
    peak: float
    volume_ml: float


def mean_in(planes: np.ndarray, region: Region) -> float:
    """Weighted mean of ``(plane, row, column)`` in a region."""
    weights = region.weights
    return float((planes[region.box] * weights).sum(dtype=np.float64) / weights.sum(dtype=np.float64))


def uptake(
    planes: np.ndarray,
    region: Region,
    grid: ImageGrid,
    plane_mm: float,
    peaks: np.ndarray | None = None,
    neighbours: bool = True,
) -> Uptake:
    """Uptake of a region in an image ``(plane, row, column)``.

    Parameters
    ----------
    peaks : :func:`peak_image` of the whole image, where many regions are read off it; default: made about the region.
    neighbours : whether planes lie next to each other; else the peak is that of the sphere's cut with the plane.
    """
    core = region.levels > 127
    if not core.any():
        core = region.levels == region.levels.max()
    if peaks is None:
        reach = [side // 2 for side in _sphere(grid, plane_mm, neighbours).shape]
        wide = tuple(slice(max(k.start - r, 0), k.stop + r) for k, r in zip(region.box, reach, strict=True))
        inner = tuple(slice(k.start - w.start, k.stop - w.start) for k, w in zip(region.box, wide, strict=True))
        found = peak_image(planes[wide], grid, plane_mm, neighbours)[inner]
    else:
        found = peaks[region.box]
    volume = region.voxels * grid.pixel_mm**2 * plane_mm / 1000
    return Uptake(mean_in(planes, region), float(planes[region.box][core].max()), float(found[core].max()), volume)


def peak_image(planes: np.ndarray, grid: ImageGrid, plane_mm: float, neighbours: bool = True) -> np.ndarray:
    """Mean of a sphere of 1 mL about every voxel, of what of it lies in the image, float64 ``(plane, row, column)``."""
    from scipy.signal import fftconvolve

    sphere, values = _sphere(grid, plane_mm, neighbours), planes.astype(np.float64)
    within = fftconvolve(np.ones_like(values), sphere, "same")
    return np.asarray(fftconvolve(values, sphere, "same") / within)


def _sphere(grid: ImageGrid, plane_mm: float, neighbours: bool) -> np.ndarray:
    """:func:`ball`, or its middle plane alone."""
    whole = ball(grid.pixel_mm, plane_mm)
    middle = len(whole) // 2
    return whole if neighbours else whole[middle : middle + 1]


@lru_cache(maxsize=8)
def ball(pixel_mm: float, plane_mm: float) -> np.ndarray:
    """Share of every voxel about a voxel's middle that lies in the sphere."""
    fine = (np.arange(5) + 0.5) / 5 - 0.5

    def axis(step: float) -> np.ndarray:
        reach = int(np.ceil(PEAK_MM / step))
        return ((np.arange(-reach, reach + 1)[:, None] + fine).ravel()) * step

    z, x = axis(plane_mm), axis(pixel_mm)
    inside = z[:, None, None] ** 2 + x[:, None] ** 2 + x**2 <= PEAK_MM**2
    shape = (len(z) // 5, 5, len(x) // 5, 5, len(x) // 5, 5)
    return np.asarray(inside.reshape(shape).mean(axis=(1, 3, 5)))
