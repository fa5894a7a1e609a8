"""An attenuation image on the planes of a scan."""

from __future__ import annotations

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.scan.core import Image
from allpet.scan.mumap import LARGEST_MU, WATER
from allpet.scan.units import HU

LOWEST_CT = -100.0


def check_mumap(mumap: Image) -> None:
    """Refuse an image that is no attenuation in 1/mm.

    Raises
    ------
    AllpetError : CT in HU, or values below 0, all 0, or above any tissue's.
    """
    low, high = float(mumap.array.min()), float(mumap.array.max())
    if mumap.unit == HU or low < LOWEST_CT:
        raise AllpetError(
            f"mumap is CT in HU ({low:.0f} to {high:.0f}), not attenuation in 1/mm at 511 keV; "
            "convert it first: allpet convert CT MU --to-mu"
        )
    if low < -1e-6 or high > LARGEST_MU or high <= 0:
        raise AllpetError(
            f"mumap ranges from {low:.3g} to {high:.3g}; in 1/mm at 511 keV it must be 0 in air and below {LARGEST_MU} "
            f"(water {WATER}; 1/cm are ten times that)"
        )


SAME = 0.01
"""Relative difference up to which two distances of planes are taken for the same."""


def resample_mumap(
    mumap: Image, grid: ImageGrid, planes: int, plane_mm: float, some: slice = slice(None), stacked: bool = True
) -> torch.Tensor:
    """The attenuation image on another grid with the same centre, linear, ``(planes, n, n)`` in 1/mm; 0 outside of its
    voxels (a plane reaches half a plane distance to either side).

    Parameters
    ----------
    mumap : one plane for all, plane by plane as many as `planes` at the same distance, or any number at its own
        distance with the same middle.
    planes, plane_mm : of the scan. stacked : whether its planes lie next to each other; those of slices here and there
        are met plane by plane whatever their distance. some : which of its planes; default all.

    Raises
    ------
    AllpetError : values that are no attenuation in 1/mm.
    """
    from scipy.ndimage import map_coordinates

    check_mumap(mumap)
    own = mumap.grid
    columns = grid.x / own.pixel_mm + (own.size - 1) / 2
    rows = (own.size - 1) / 2 - grid.y / own.pixel_mm
    if len(mumap) == 1:
        levels: np.ndarray = np.zeros(planes)
    elif len(mumap) == planes and not (stacked and abs(mumap.plane_mm / plane_mm - 1) > SAME):
        levels = np.arange(planes, dtype=float)
    else:
        last = len(mumap) - 1
        levels = (np.arange(planes) - (planes - 1) / 2) * plane_mm / mumap.plane_mm + last / 2
        inside = (levels > -0.5 - 1e-6) & (levels < last + 0.5 + 1e-6)
        levels = np.where(inside, levels.clip(0, last), levels)
    where = np.meshgrid(levels[some], rows, columns, indexing="ij")
    values = map_coordinates(mumap.array.numpy(), where, order=1, mode="constant", cval=0.0)
    return torch.from_numpy(values.astype(np.float32)).clamp_min(0)
