"""Helgason-Ludwig conditions, made exact: what little a pixel grid costs in consistency is taken back."""

from __future__ import annotations

import torch

from allpet.geometry import ParallelBeam

ORDERS = 5


def match_moments(sinogram: torch.Tensor, beam: ParallelBeam, orders: int = ORDERS) -> torch.Tensor:
    """The sinogram times ``1 + q(phi, s)``, q a polynomial in s at each view, so that its moments are an image's.

    The moment of order n, ``sum_i s_i^n p(phi, s_i)``, of a sinogram is a trigonometric polynomial of degree n in phi
    (Helgason, Ludwig). Projecting pixels breaks that by about 1e-4; here the parts of the moments beyond degree n,
    n < `orders`, are removed, and the change is spread over the bins in proportion to what they hold: zeros stay 0.

    Parameters
    ----------
    sinogram : ``(..., views, bins)``, >= 0.
    """
    views = beam.views
    s = sinogram.double()
    u = (torch.arange(beam.bins, device=s.device, dtype=s.dtype) - (beam.bins - 1) / 2) * (2 / beam.bins)
    power = torch.stack([u**k for k in range(2 * orders - 1)])
    moments = s @ power.T  # (..., views, 2 * orders - 1)
    parity = torch.tensor([(-1.0) ** n for n in range(orders)], device=s.device, dtype=s.dtype)
    whole = torch.cat([moments[..., :orders], moments[..., :orders] * parity], dim=-2)  # both ways round the circle
    spectrum = torch.fft.rfft(whole, dim=-2)
    degree = torch.arange(spectrum.shape[-2], device=s.device)[:, None]
    kept = spectrum * (degree <= torch.arange(orders, device=s.device))
    change = torch.fft.irfft(kept, n=2 * views, dim=-2)[..., :views, :] - moments[..., :orders]
    index = torch.arange(orders, device=s.device)
    gram = moments[..., index[:, None] + index[None, :]]
    ridge = 1e-9 * gram[..., :1, :1].clamp_min(1e-30) * torch.eye(orders, device=s.device, dtype=s.dtype)
    q = torch.linalg.solve(gram + ridge, change[..., None])[..., 0] @ power[:orders]
    return (s * (1 + q.clamp(-0.5, 0.5))).to(sinogram.dtype)
