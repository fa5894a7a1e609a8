"""Oblique planes to direct planes: single-slice rebinning (SSRB).

Span-1 planes are stored by segment of ring difference 0, +1, -1, +2, -2, ...; segment d has ``rings - |d|`` planes.
Plane m of segment d lies midway between its two rings, at ``m + |d| / 2`` ring distances, so it adds to direct plane
``2 m + |d|`` (Daube-Witherspoon and Muehllehner 1987, J Nucl Med 28:1717).
"""

from __future__ import annotations

import numpy as np

from allpet.errors import AllpetError


def segments(max_difference: int) -> list[int]:
    """Ring differences in storage order: 0, 1, -1, 2, -2, ..."""
    return [0] + [sign * d for d in range(1, max_difference + 1) for sign in (1, -1)]


def direct_plane_of(rings: int, max_difference: int) -> np.ndarray:
    """Direct plane that each span-1 plane adds to, int64 ``(planes,)``.

    Raises
    ------
    AllpetError : a ring difference the scanner does not have.
    """
    if not 0 <= max_difference < rings:
        raise AllpetError(f"ring difference {max_difference} is not possible with {rings} rings; use 0..{rings - 1}")
    return np.concatenate([2 * np.arange(rings - abs(d)) + abs(d) for d in segments(max_difference)])


def ring_pairs(rings: int, max_difference: int) -> np.ndarray:
    """Ring pairs that add to each direct plane, int64 ``(2 * rings - 1,)``."""
    return np.bincount(direct_plane_of(rings, max_difference), minlength=2 * rings - 1)


def ssrb(planes: np.ndarray, rings: int, max_difference: int) -> np.ndarray:
    """Sum span-1 planes into direct planes; every count is kept.

    Parameters
    ----------
    planes : ``(span-1 planes, view, radial)``, any numeric type (a memory map is read plane by plane).
    rings, max_difference : the scanner's rings and the largest ring difference stored.

    Returns
    -------
    float32 ``(2 * rings - 1, view, radial)``.

    Raises
    ------
    AllpetError : the number of planes does not fit.
    """
    target = direct_plane_of(rings, max_difference)
    if len(planes) != len(target):
        raise AllpetError(
            f"{len(planes)} planes do not fit span 1 with {rings} rings and ring differences up to {max_difference}; "
            f"that makes {len(target)} planes"
        )
    out = np.zeros((2 * rings - 1, *planes.shape[1:]), np.float32)
    for plane, k in zip(planes, target, strict=True):
        out[k] += plane
    return out
