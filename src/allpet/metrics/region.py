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


def uptake(planes: np.ndarray, region: Region, grid: ImageGrid, plane_mm: float) -> Uptake:
    """Uptake of a region in an image ``(plane, row, column)``."""
    core = region.levels > 127
    if not core.any():
        core = region.levels == region.levels.max()
    ball = _ball(grid.pixel_mm, plane_mm)
    reach = [side // 2 for side in ball.shape]
    wide = tuple(
        slice(max(part.start - r, 0), min(part.stop + r, side))
        for part, r, side in zip(region.box, reach, planes.shape, strict=True)
    )
    around = planes[wide].astype(np.float64)
    inner = tuple(
        slice(part.start - out.start, part.stop - out.start) for part, out in zip(region.box, wide, strict=True)
    )
    peak = -np.inf
    for plane, row, column in zip(*(np.nonzero(core)[axis] + inner[axis].start for axis in range(3)), strict=True):
        parts, part = [], []
        for at, r, side in zip((plane, row, column), reach, around.shape, strict=True):
            low, high = max(at - r, 0), min(at + r + 1, side)
            parts.append(slice(low, high))
            part.append(slice(low - at + r, high - at + r))
        weights = ball[tuple(part)]
        peak = max(peak, float((around[tuple(parts)] * weights).sum() / weights.sum()))
    voxel_ml = grid.pixel_mm**2 * plane_mm / 1000
    return Uptake(mean_in(planes, region), float(planes[region.box][core].max()), peak, region.voxels * voxel_ml)


@lru_cache(maxsize=8)
def _ball(pixel_mm: float, plane_mm: float) -> np.ndarray:
    """Share of every voxel about a voxel's middle that lies in the sphere."""
    fine = (np.arange(5) + 0.5) / 5 - 0.5

    def axis(step: float) -> np.ndarray:
        reach = int(np.ceil(PEAK_MM / step))
        return ((np.arange(-reach, reach + 1)[:, None] + fine).ravel()) * step

    z, x = axis(plane_mm), axis(pixel_mm)
    inside = z[:, None, None] ** 2 + x[:, None] ** 2 + x**2 <= PEAK_MM**2
    shape = (len(z) // 5, 5, len(x) // 5, 5, len(x) // 5, 5)
    return np.asarray(inside.reshape(shape).mean(axis=(1, 3, 5)))
