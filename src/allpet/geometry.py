"""Geometry of sinograms and images: frozen facts in millimetres and radians.

A sinogram is ``(..., view, radial)``. View k of a :class:`ParallelBeam` stands at
``phi_k = k * pi / views`` and radial bin i at ``s_i = (i - (bins - 1) / 2) * bin_mm``.
An image is ``(..., row, column)`` with ``x_j = (j - (n - 1) / 2) * pixel_mm`` and
``y_i = ((n - 1) / 2 - i) * pixel_mm``: row 0 is anterior, column 0 the patient's right
(head first, supine). A line is ``s = x cos(phi) + y sin(phi)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from allpet.errors import AllpetError


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise AllpetError(f"{name} is {value}; it must be a positive number")


@dataclass(frozen=True)
class ParallelBeam:
    """Evenly spaced parallel-beam sinogram over 180 degrees.

    Parameters
    ----------
    views : number of angles in [0, pi).
    bins : number of radial bins, centred on s = 0.
    bin_mm : radial pitch in mm.
    """

    views: int
    bins: int
    bin_mm: float

    def __post_init__(self) -> None:
        _positive("views", self.views)
        _positive("bins", self.bins)
        _positive("bin_mm", self.bin_mm)

    @property
    def shape(self) -> tuple[int, int]:
        """``(views, bins)``."""
        return self.views, self.bins

    @property
    def fov_mm(self) -> float:
        """Width of the radial field of view in mm."""
        return self.bins * self.bin_mm

    @property
    def angles(self) -> np.ndarray:
        """View angles phi in radians, float64 ``(views,)``."""
        return np.arange(self.views) * (math.pi / self.views)

    @property
    def radii(self) -> np.ndarray:
        """Radial positions s in mm, float64 ``(bins,)``."""
        return (np.arange(self.bins) - (self.bins - 1) / 2) * self.bin_mm

    def image_grid(self, size: int | None = None) -> ImageGrid:
        """The image grid that spans the same field of view (default: one pixel per bin)."""
        n = self.bins if size is None else size
        return ImageGrid(size=n, pixel_mm=self.fov_mm / n)


@dataclass(frozen=True)
class RingBeam:
    """Raw sinogram of a cylindrical scanner: interleaved views, bins not equally spaced (no arc correction).

    With ``t = bin - bins // 2`` the line of view v joins crystals ``v + floor(t / 2)`` and
    ``v - floor((t + 1) / 2) + views`` (mod ``crystals = 2 * views``) and passes the axis at
    ``s = radius_mm * sin(pi * t / crystals)``. Positions count in the scanner's own sense, from the front towards the
    patient's left: view v is at ``-v * pi / views`` in the axes above (odd t: half a view before it).

    Parameters
    ----------
    views : half the number of crystals on a ring.
    bins : radial bins kept.
    radius_mm : inner crystal radius plus mean depth of interaction.
    block : a crystal position that is a multiple of this is a gap without a crystal; 0 for none.
    """

    views: int
    bins: int
    radius_mm: float
    block: int = 0

    def __post_init__(self) -> None:
        _positive("views", self.views)
        _positive("bins", self.bins)
        _positive("radius_mm", self.radius_mm)

    @property
    def shape(self) -> tuple[int, int]:
        """``(views, bins)``."""
        return self.views, self.bins

    @property
    def crystals(self) -> int:
        """Crystal positions on a ring, gaps included."""
        return 2 * self.views

    @property
    def angles(self) -> np.ndarray:
        """View angles in the scanner's own sense in radians, float64 ``(views,)``."""
        return np.arange(self.views) * (math.pi / self.views)

    @property
    def radii(self) -> np.ndarray:
        """Radial positions s in mm, float64 ``(bins,)``; not equally spaced."""
        t = np.arange(self.bins) - self.bins // 2
        return self.radius_mm * np.sin(np.pi * t / self.crystals)

    def crystal_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The two crystal positions of every line, each int64 ``(views, bins)``."""
        t = np.arange(self.bins) - self.bins // 2
        v = np.arange(self.views)[:, None]
        first = (v + t // 2) % self.crystals
        second = (v - (t + 1) // 2 + self.views) % self.crystals
        return first, second

    def live(self) -> np.ndarray:
        """True where both crystals exist, bool ``(views, bins)``; False marks a detector gap."""
        if self.block <= 0:
            return np.ones(self.shape, dtype=bool)
        first, second = self.crystal_pairs()
        return (first % self.block != 0) & (second % self.block != 0)


Geometry = ParallelBeam | RingBeam


@dataclass(frozen=True)
class ImageGrid:
    """Square image plane.

    Parameters
    ----------
    size : pixels along each side.
    pixel_mm : pixel side in mm.
    """

    size: int
    pixel_mm: float

    def __post_init__(self) -> None:
        _positive("size", self.size)
        _positive("pixel_mm", self.pixel_mm)

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)``."""
        return self.size, self.size

    @property
    def x(self) -> np.ndarray:
        """Column positions in mm, left to right in the array, float64 ``(size,)``."""
        return (np.arange(self.size) - (self.size - 1) / 2) * self.pixel_mm

    @property
    def y(self) -> np.ndarray:
        """Row positions in mm, row 0 on top (largest y), float64 ``(size,)``."""
        return ((self.size - 1) / 2 - np.arange(self.size)) * self.pixel_mm
