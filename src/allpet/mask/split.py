"""Parts that sum to the whole: positive/negative split, exactly reversible."""

from __future__ import annotations

import torch

from allpet.errors import AllpetError
from allpet.project import Projector


def project_mask(mask: torch.Tensor, projector: Projector) -> torch.Tensor:
    """``M = A m / max(A m)`` in [0, 1], ``(..., n, n) -> (..., views, bins)``; an empty mask gives 0.

    Each mask of a batch is divided by its own maximum (RMAS, arXiv 2509.09130).
    """
    if not bool((mask >= 0).all()):
        raise AllpetError("mask has negative values or NaN; weights must be >= 0")
    projected = projector(mask)
    peak = projected.amax(dim=(-2, -1), keepdim=True)
    return torch.where(peak > 0, projected / peak.clamp_min(1e-30), torch.zeros_like(projected)).clamp(0, 1)


def split(sinogram: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive part ``M*s`` and negative part ``(1-M)*s`` whose floating-point sum is s to the bit.

    Parameters
    ----------
    sinogram : any float tensor. mask : M in [0, 1], broadcastable to it.

    Notes
    -----
    ``neg = s - M*s`` and ``pos = s - neg``: whichever of the two is at least half of s is
    obtained by a subtraction without rounding (Sterbenz's lemma), hence ``pos + neg == s``.
    """
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise AllpetError("mask has values outside [0, 1] or NaN; divide the projected mask by its maximum")
    negative = sinogram - mask * sinogram
    return sinogram - negative, negative
