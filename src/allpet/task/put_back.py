"""What the data hold beyond an estimate, put back as far as it stands out of Poisson noise."""

from __future__ import annotations

import math

import torch

from allpet.model.restorer import gaussian_blur

REACH = 6.0
"""Bins over which counts that an estimate lacks are averaged, to know their noise."""
CERTAIN = 4
"""Standard deviations of a band's power in noise alone that are not taken for signal."""


def spectrum_of(strip: torch.Tensor) -> torch.Tensor:
    """Fourier coefficients of the double cover of sinograms ``(n, views, bins)``, ``(n, 2 views, bins // 2 + 1)``."""
    return torch.fft.rfft2(torch.cat([strip, strip.flip(-1)], dim=-2), norm="ortho")


def strip_of(spectrum: torch.Tensor, views: int, bins: int) -> torch.Tensor:
    """Sinograms ``(n, views, bins)`` of such coefficients."""
    return torch.fft.irfft2(spectrum, s=(2 * views, bins), norm="ortho")[..., :views, :]


def dyadic(rows: int, columns: int) -> torch.Tensor:
    """Number of the dyadic band that each of these coefficients is in, from 0, int64 ``(rows, columns)``."""
    along = (torch.fft.fftfreq(rows, 1 / rows).abs() + 1).log2().floor().long()
    across = (torch.arange(columns) + 1.0).log2().floor().long()
    return along[:, None] * (int(across.max()) + 1) + across[None, :]


def poisson_noise(expected: torch.Tensor) -> torch.Tensor:
    """Standard deviation of counts of this mean ``(n, view, radial)``, never below that of a hundredth of the plane's
    mean."""
    return (expected + 0.01 * expected.mean(dim=(-2, -1), keepdim=True)).clamp_min(1e-6).sqrt()


def _lacking(residual: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
    """What the counts have more than an estimate, locally averaged, >= 0."""
    seen = live.to(residual.dtype)
    return (gaussian_blur(residual * seen, REACH) / gaussian_blur(seen, REACH).clamp_min(0.05)).clamp_min(0)


def put_back(counts: torch.Tensor, estimate: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
    """Add to an estimate what the data hold beyond it, frequency band by frequency band.

    The residual over its Poisson standard deviation is white noise of power 1 where the estimate is right. (Counts that
    it lacks over a wide area have noise too, which must not be taken for signal.) In each dyadic band of the double
    cover's Fourier plane the power P beyond that (and beyond the scatter of P itself) is signal; the band is added with
    Wiener's gain ``(P - 1) / P``.

    Parameters
    ----------
    counts, estimate : ``(n, view, radial)``. live : False for bins that were not measured.
    """
    spread = poisson_noise(estimate + _lacking(counts - estimate, live))
    white = (counts - estimate) / spread * live
    share = live.double().mean(dim=(-2, -1)).clamp_min(1e-6).float()
    spectrum = spectrum_of(white)
    power = spectrum.abs().square() / share[:, None, None]
    bands = dyadic(*spectrum.shape[-2:])
    gain = torch.zeros_like(power)
    for band in bands.unique():
        inside = bands == band
        mean = power[:, inside].mean(dim=1)
        noise = 1 + CERTAIN * math.sqrt(2 / int(inside.sum()))
        gain[:, inside] = ((mean - noise) / mean.clamp_min(1e-6)).clamp_min(0)[:, None]
    change = strip_of(spectrum * gain, *white.shape[-2:])
    return (estimate + change * spread * live).clamp_min(0)
