"""An attenuation image on the planes of a scan."""

from __future__ import annotations

import re

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.io.files import PADDED, centre_of_square
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

    Notes
    -----
    A map that was padded to a square when it was read has its middle where the file's was.
    """
    from scipy.ndimage import map_coordinates

    check_mumap(mumap)
    own = mumap.grid
    down, right = _padding(mumap)
    last = own.size - 1
    columns = _inside(grid.x / own.pixel_mm + last / 2 - right, last)
    rows = _inside(last / 2 - grid.y / own.pixel_mm - down, last)
    if len(mumap) == 1:
        levels: np.ndarray = np.zeros(planes)
    elif len(mumap) == planes and not (stacked and abs(mumap.plane_mm / plane_mm - 1) > SAME):
        levels = np.arange(planes, dtype=float)
    else:
        last = len(mumap) - 1
        levels = (np.arange(planes) - (planes - 1) / 2) * plane_mm / mumap.plane_mm + last / 2
        levels = _inside(levels, last)
    where = np.meshgrid(levels[some], rows, columns, indexing="ij")
    values = map_coordinates(mumap.array.numpy(), where, order=1, mode="constant", cval=0.0)
    return torch.from_numpy(values.astype(np.float32)).clamp_min(0)


def _inside(place: np.ndarray, last: int) -> np.ndarray:
    """Places in voxels, those in the outer half of a border voxel moved to its middle."""
    within = (place > -0.5 - 1e-6) & (place < last + 0.5 + 1e-6)
    return np.asarray(np.where(within, place.clip(0, last), place))


def _padding(image: Image) -> tuple[float, float]:
    """Pixels, down and to the right, from the middle of what was read to that of the image."""
    sides = re.fullmatch(r"(\d+) x (\d+)", str(image.header.get(PADDED, "")))
    found = tuple(map(int, sides.groups())) if sides else ()
    return centre_of_square(*found) if found and max(found) == image.grid.size else (0.0, 0.0)
