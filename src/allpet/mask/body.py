"""Outline of the body in a plane, and the uptake about every point of it: what suggested regions are measured against.

Nothing in it is learned. Lengths in mm; values in the image's own unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

TISSUE_SHARE = 0.25
"""The body is where a smoothed plane exceeds this share of its soft tissue."""
SMOOTH_MM = 4.0
"""Standard deviation of the smoothing before the outline is drawn."""
CLOSE_MM = 12.0
"""Gaps up to this radius belong to the body."""
LEAST_MM2 = 500.0
"""Smallest part of a body."""
AROUND_MM = 20.0
"""Standard deviation of the Gaussian behind the organ-scale background."""
NOISE_FLOOR = 0.03
"""Least relative noise: no z-score is larger than contrast over this."""
FAR_MM, ALIKE_MM, ALIKE = 10.0, 8.0, 0.976
"""Planes farther apart than this are not linked; smoothing before they are compared; least correlation."""
LIVER_MM = 16.0
"""Half the side of the square that has to fit into a liver."""
LIVER_SPREAD = 0.2
"""Largest relative standard deviation in it, beside that of the noise."""


@dataclass(frozen=True)
class Body:
    """One plane and what is found of the body in it.

    Parameters
    ----------
    plane : float32 ``(row, column)``, no value below 0. mask : the body, bool. level : median uptake of soft tissue.
    around : organ-scale background, at least a tenth of `level`. noise : relative standard deviation of a voxel.
    depth_mm : distance to the outline. liver : mean and standard deviation of a liver, or None.
    middle : column of the midline. pixel_mm : side of a pixel.
    """

    plane: np.ndarray
    mask: np.ndarray
    level: float
    around: np.ndarray
    noise: float
    depth_mm: np.ndarray
    liver: tuple[float, float] | None
    middle: float
    pixel_mm: float


def find_body(plane: np.ndarray, pixel_mm: float) -> Body | None:
    """The body in a plane ``(row, column)``; None where there is none."""
    plane = np.nan_to_num(np.asarray(plane, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(plane.max(initial=0.0))
    if not top > 0:
        return None
    plane = np.maximum(plane, 0)
    smooth = ndimage.gaussian_filter(plane, SMOOTH_MM / pixel_mm)
    level = soft_level(smooth)
    mask = outline(smooth, level, pixel_mm)
    if not mask.any():
        return None
    around = local_mean(plane, mask, AROUND_MM / pixel_mm)
    hot = mask & (plane > 2 * around)
    if hot.any() and hot.sum() < 0.5 * mask.sum():  # once more without what stands out
        around = local_mean(plane, mask & ~hot, AROUND_MM / pixel_mm, around)
    around = np.maximum(around, 0.1 * level)
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].astype(np.float32) * np.float32(pixel_mm)
    noise = relative_noise(plane, mask & (depth > 10), around)
    middle = float(np.mean(np.nonzero(mask)[1]))
    return Body(
        plane,
        mask,
        level,
        around,
        noise,
        depth,
        find_liver(plane, depth, level, noise, middle, pixel_mm),
        middle,
        pixel_mm,
    )


def soft_level(smooth: np.ndarray) -> float:
    """Median of all values above 0.3 times this median: soft tissue, whatever hot organs and air there are."""
    values = smooth[smooth > 0.02 * np.percentile(smooth[smooth > 0], 90)]
    level = float(values.mean())
    for _ in range(8):
        level = float(np.median(values[values > 0.3 * level]))
    return level


def outline(smooth: np.ndarray, level: float, pixel_mm: float) -> np.ndarray:
    """The body, bool ``(row, column)``: above a share of soft tissue, gaps closed, holes filled, specks dropped."""
    mask = smooth > TISSUE_SHARE * level
    reach = max(round(CLOSE_MM / pixel_mm), 1)
    wide = np.pad(mask, reach)
    disk = ball(reach)
    far = ndimage.distance_transform_edt(~wide) <= reach if wide.any() else wide
    closed = ndimage.distance_transform_edt(far) > reach if not far.all() else far
    mask = ndimage.binary_fill_holes(closed[reach:-reach, reach:-reach] | mask)
    mask = ndimage.binary_opening(mask, ball(1)) if min(mask.shape) > 2 * len(disk) else mask
    parts, count = ndimage.label(mask)
    if count == 0:
        return np.asarray(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    keep = sizes >= max(LEAST_MM2 / pixel_mm**2, 0.05 * sizes.max())
    return np.asarray(keep[parts])


def local_mean(values: np.ndarray, where: np.ndarray, sigma: float, empty: np.ndarray | None = None) -> np.ndarray:
    """Gaussian mean over the voxels of `where` alone; `empty` (default 0) where none is near. `sigma` in pixels."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma, truncate=3)
    total = ndimage.gaussian_filter(np.where(where, values, 0).astype(np.float32), sigma, truncate=3)
    fallback = np.zeros_like(total) if empty is None else empty
    return np.asarray(np.where(weight > 0.02, total / np.maximum(weight, 1e-6), fallback))


def relative_noise(plane: np.ndarray, inside: np.ndarray, around: np.ndarray) -> float:
    """Robust relative standard deviation of what a Gaussian of 1.5 pixels takes away, scaled to white noise."""
    if inside.sum() < 25:
        return NOISE_FLOOR
    rest = ((plane - ndimage.gaussian_filter(plane, 1.5)) / around)[inside]
    return max(1.4826 * float(np.median(np.abs(rest - np.median(rest)))), NOISE_FLOOR)


def find_liver(
    plane: np.ndarray, depth: np.ndarray, level: float, noise: float, middle: float, pixel_mm: float
) -> tuple[float, float] | None:
    """Mean and standard deviation of a large even area on the patient's right with 1.2 to 8 times the soft tissue."""
    side = max(2 * round(LIVER_MM / pixel_mm) + 1, 3)
    mean = ndimage.uniform_filter(plane, side)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(plane**2, side) - mean**2, 0))
    right = np.arange(plane.shape[1])[None, :] < middle
    even = (spread < (LIVER_SPREAD + noise) * mean) & (mean > 1.2 * level) & (mean < 8 * level)
    parts, count = ndimage.label(even & right & (depth > LIVER_MM))
    if count == 0:
        return None
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    best = parts == int(sizes.argmax())
    if sizes.max() * pixel_mm**2 < 400:
        return None
    return float(mean[best].mean()), float(spread[best].mean())


@lru_cache(maxsize=32)
def ball(radius: int) -> np.ndarray:
    """Disk of pixels within `radius` of its middle, bool ``(2 radius + 1, 2 radius + 1)``."""
    steps = np.arange(-radius, radius + 1)
    return np.asarray(steps[:, None] ** 2 + steps**2 <= radius**2 + 0.5)


def are_neighbours(planes: np.ndarray, plane_mm: float, pixel_mm: float) -> bool:
    """True where planes are 10 mm apart or less and look like their neighbours: a correlation of 0.976 or more.

    The planes' square roots are smoothed by 8 mm first. Planes of one simulated body 4 mm apart then correlate by 0.981
    or more, even at a twentieth of the dose; those of a data set, of other people or 40 mm apart, by 0.972 or less.
    A distance between planes alone says nothing: a data set without one has 1 mm.
    """
    if len(planes) < 2 or not plane_mm <= FAR_MM:
        return False
    sigma = ALIKE_MM / pixel_mm
    step = max(round(sigma), 1)
    values = np.sqrt(np.maximum(np.nan_to_num(planes, nan=0.0, posinf=0.0, neginf=0.0), 0))
    flat = np.stack([ndimage.gaussian_filter(plane, sigma)[::step, ::step].ravel() for plane in values])
    flat = flat - flat.mean(axis=1, keepdims=True)
    one, other = flat[:-1].astype(np.float64), flat[1:].astype(np.float64)
    size = math.sqrt(float((one**2).sum() * (other**2).sum()))
    return size > 0 and float((one * other).sum()) >= ALIKE * size
