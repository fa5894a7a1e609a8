"""Analytic disks, shared by several tests."""

import numpy as np
import torch

from allpet.geometry import ImageGrid, ParallelBeam


def disk_image(grid: ImageGrid, radius: float, x0: float, y0: float, fine: int = 16) -> torch.Tensor:
    """Share of every pixel's area inside a disk."""
    n = grid.size * fine
    axis = (np.arange(n) - (n - 1) / 2) * grid.pixel_mm / fine
    inside = (axis[None, :] - x0) ** 2 + (-axis[:, None] - y0) ** 2 <= radius**2
    return torch.from_numpy(inside.reshape(grid.size, fine, grid.size, fine).mean((1, 3)))


def disk_sinogram(beam: ParallelBeam, radius: float, x0: float, y0: float) -> torch.Tensor:
    """The disk's chords, averaged over the width of each bin, in closed form."""

    def area(s: np.ndarray) -> np.ndarray:
        s = np.clip(s, -radius, radius)
        return s * np.sqrt(radius**2 - s**2) + radius**2 * np.arcsin(s / radius)

    centre = x0 * np.cos(beam.angles) + y0 * np.sin(beam.angles)
    s = beam.radii[None, :] - centre[:, None]
    return torch.from_numpy((area(s + beam.bin_mm / 2) - area(s - beam.bin_mm / 2)) / beam.bin_mm)
