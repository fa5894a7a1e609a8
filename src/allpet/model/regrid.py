"""Images from one pixel size to another, band-limited."""

from __future__ import annotations

from functools import lru_cache

import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid

LOBES = 3


@lru_cache(maxsize=16)
def _weights(source: ImageGrid, target: ImageGrid) -> torch.Tensor:
    """Lanczos weights ``(target.size, source.size)``; each row sums to 1 where its support lies inside."""
    where = (torch.arange(target.size, dtype=torch.float64) - (target.size - 1) / 2) * target.pixel_mm
    have = (torch.arange(source.size, dtype=torch.float64) - (source.size - 1) / 2) * source.pixel_mm
    width = max(source.pixel_mm, target.pixel_mm)  # no finer than either grid can hold
    u = (where[:, None] - have[None, :]) / width
    kernel = torch.sinc(u) * torch.sinc(u / LOBES) * (u.abs() < LOBES)
    # Rows are divided by what they would sum to on an endless grid: beyond the edge the image is 0, not repeated.
    reach = int(LOBES * width / source.pixel_mm) + 2
    near = ((where / source.pixel_mm) - (source.size - 1) / 2 % 1).floor()[:, None] + torch.arange(-reach, reach + 1)
    v = (where[:, None] - (near + (source.size - 1) / 2 % 1) * source.pixel_mm) / width
    total = (torch.sinc(v) * torch.sinc(v / LOBES) * (v.abs() < LOBES)).sum(dim=1, keepdim=True)
    return (kernel / total).float()


def regrid(image: torch.Tensor, source: ImageGrid, target: ImageGrid) -> torch.Tensor:
    """``(..., source.size, source.size)`` on another grid about the same centre; values keep their unit.

    Lanczos interpolation of three lobes, widened to the coarser of the two pixels, so that nothing folds
    back; outside of the source the image is 0. Small overshoots below 0 at edges are left to the caller.

    Raises
    ------
    AllpetError : the image is not on the source grid.
    """
    if tuple(image.shape[-2:]) != (source.size, source.size):
        raise AllpetError(f"image is {tuple(image.shape[-2:])}; it must be {source.size} x {source.size}")
    if source == target:
        return image
    weights = _weights(source, target).to(image)
    return weights @ image @ weights.T
