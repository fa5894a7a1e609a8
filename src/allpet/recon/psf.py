"""The projector with the scanner's resolution: a Gaussian along the radial axis after the line integrals.

On parallel beams a Gaussian of each view is the same as an isotropic Gaussian of the image (projection-slice theorem);
along the radial axis it costs one small product and an ordered subset blurs only its own views.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector
from allpet.scan.units import sigma_of
from allpet.taps import gaussian_taps


@lru_cache(maxsize=8)
def radial_blur(
    bins: int, sigma: float, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """The blur as a symmetric banded matrix ``(bins, bins)``: its own transpose; what leaves the bins is lost."""
    taps = gaussian_taps(sigma)
    distance = np.abs(np.arange(bins)[:, None] - np.arange(bins)[None, :])
    half = len(taps) // 2
    matrix = np.where(distance <= half, taps[half:][np.minimum(distance, half)], 0.0)
    return torch.from_numpy(matrix).to(device=device, dtype=dtype)


class BlurredProjector:
    """``s = R A x``: line integrals, then a Gaussian of ``fwhm_mm`` along the radial axis.

    Parameters
    ----------
    beam, grid, subset : as for :class:`allpet.project.Projector`.
    fwhm_mm : full width at half maximum of the Gaussian in mm, 0 or more.

    Notes
    -----
    Shapes and types as for the projector. ``adjoint`` is the exact transpose ``A' R' = A' R``.

    Raises
    ------
    AllpetError : a width that is negative or not finite.
    """

    def __init__(self, beam: ParallelBeam, grid: ImageGrid, fwhm_mm: float, subset: tuple[int, int] = (0, 1)) -> None:
        check_fwhm(fwhm_mm)
        self.beam, self.grid, self.subset, self.fwhm_mm = beam, grid, subset, fwhm_mm
        self.projector = Projector(beam, grid, subset)
        self.shape = self.projector.shape

    def blur(self, sinogram: torch.Tensor) -> torch.Tensor:
        """The Gaussian along the last axis, any leading axes."""
        sigma = sigma_of(self.fwhm_mm / self.beam.bin_mm)
        return sinogram @ radial_blur(self.beam.bins, sigma, sinogram.dtype, sinogram.device)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Project and blur: ``(..., n, n) -> (..., views, bins)``."""
        return self.blur(self.projector(image))

    def adjoint(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Exact transpose: ``(..., views, bins) -> (..., n, n)``."""
        work = sinogram if sinogram.dtype == torch.float64 else sinogram.float()
        return self.projector.adjoint(self.blur(work))


Operator = Projector | BlurredProjector


def check_fwhm(fwhm_mm: float) -> None:
    """Refuse a width that is negative or not finite."""
    if not (math.isfinite(fwhm_mm) and fwhm_mm >= 0):
        raise AllpetError(f"resolution is {fwhm_mm} mm; it must be 0 or more")


def operator(beam: ParallelBeam, grid: ImageGrid, fwhm_mm: float = 0.0, subset: tuple[int, int] = (0, 1)) -> Operator:
    """The projector of some views, with resolution where the width is above 0."""
    check_fwhm(fwhm_mm)
    return BlurredProjector(beam, grid, fwhm_mm, subset) if fwhm_mm > 0 else Projector(beam, grid, subset)
