"""Filtered back-projection with the absolute scale kept."""

from __future__ import annotations

import math

import torch

from allpet.errors import AllpetError
from allpet.project import Projector

WINDOWS = ("ramp", "hann", "cosine")


def ramp_filter(bins: int, bin_mm: float, window: str = "ramp", dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Frequency response in 1/mm of the band-limited ramp on a padded axis, ``(padded // 2 + 1,)``.

    Built from the ramp's exact samples in space (Kak and Slaney, Principles of Computerized
    Tomographic Imaging, 1988, eq. 61), which keeps the mean right where a sampled ``|f|`` does not.
    """
    if window not in WINDOWS:
        raise AllpetError(f"filter window '{window}' is unknown; known: {', '.join(WINDOWS)}")
    padded = 2 ** math.ceil(math.log2(2 * bins))
    k = torch.fft.fftfreq(padded, 1 / padded, dtype=torch.float64)
    kernel = torch.where(k.abs() % 2 == 1, -1 / (math.pi * k * bin_mm) ** 2, torch.zeros_like(k))
    kernel[0] = 1 / (4 * bin_mm**2)
    response = torch.fft.rfft(kernel).real * bin_mm
    nu = torch.fft.rfftfreq(padded, dtype=torch.float64)
    if window == "hann":
        response = response * (0.5 + 0.5 * torch.cos(2 * math.pi * nu))
    elif window == "cosine":
        response = response * torch.cos(math.pi * nu)
    return response.to(dtype)


def field_of_view(projector: Projector, dtype: torch.dtype) -> torch.Tensor:
    """1 inside the circle that every view sees, ``(n, n)``."""
    grid = projector.grid
    x, y = torch.from_numpy(grid.x), torch.from_numpy(grid.y)
    radius = min(projector.beam.fov_mm, grid.size * grid.pixel_mm) / 2
    return ((x[None, :] ** 2 + y[:, None] ** 2) <= radius**2).to(dtype)


def fbp(sinogram: torch.Tensor, projector: Projector, window: str = "ramp") -> torch.Tensor:
    """Filtered back-projection.

    Parameters
    ----------
    sinogram : ``(..., views, bins)``, value*mm (corrected for attenuation and background).
    projector : the operator whose adjoint back-projects.
    window : ``"ramp"``, ``"hann"`` or ``"cosine"`` (apodised towards the Nyquist frequency).

    Returns
    -------
    image ``(..., n, n)`` in the sinogram's unit per mm; it may be negative, and is zero
    outside the circle that all views see.
    """
    beam, grid = projector.beam, projector.grid
    dtype = sinogram.dtype if sinogram.dtype == torch.float64 else torch.float32
    response = ramp_filter(beam.bins, beam.bin_mm, window, dtype).to(sinogram.device)
    padded = 2 * (len(response) - 1)
    spectrum = torch.fft.rfft(sinogram.to(dtype), n=padded, dim=-1) * response
    filtered = torch.fft.irfft(spectrum, n=padded, dim=-1)[..., : beam.bins]
    scale = math.pi / beam.views * beam.bin_mm / grid.pixel_mm**2
    return projector.adjoint(filtered) * (scale * field_of_view(projector, dtype).to(sinogram.device))
