"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598), in all of sampling or in a range of noise levels."""

from __future__ import annotations

import math

import torch

from allpet.diffusion.noise import Denoise
from allpet.errors import AllpetError


def guided(
    denoise_with: Denoise,
    denoise_without: Denoise,
    scale: float,
    interval: tuple[float, float] | None = None,
) -> Denoise:
    """A denoiser that exaggerates its condition: ``without + scale * (with - without)``.

    Parameters
    ----------
    denoise_with, denoise_without : told the condition, and not told it.
    scale : 1 follows the condition as learned, at one evaluation; above 1 exaggerates it; 0 ignores it.
    interval : noise levels (low, high], in the unit of sigma, in which to guide; elsewhere the condition is followed
        as learned, at one evaluation if no sample needs two (Kynkaanniemi et al., arXiv 2404.07724).

    Raises
    ------
    AllpetError : a scale that is not finite or negative, or an interval that is none.
    """
    if not 0 <= scale < math.inf:
        raise AllpetError(f"guidance is {scale}; it must be a number of at least 0 (1: as learned)")
    low, high = (0.0, math.inf) if interval is None else interval
    if not 0 <= low < high:
        raise AllpetError(f"guidance interval is {low} to {high}; 0 <= low < high must hold")
    if scale == 1:
        return denoise_with

    def denoise(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        inside = (sigma > low) & (sigma <= high)
        clean = denoise_with(z, sigma)
        if not bool(inside.any()):
            return clean
        without = denoise_without(z, sigma)
        exaggerated = without + scale * (clean - without)
        return torch.where(inside.reshape(-1, *[1] * (z.ndim - 1)), exaggerated, clean)

    return denoise
