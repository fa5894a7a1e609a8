"""Scores: image quality, sinogram consistency, and distance between sets; all batched torch."""

from allpet.metrics.consistency import (
    mirror_seam,
    moment_residual,
    moment_shares,
    moments,
    pseudo_inverse,
    range_residual,
)
from allpet.metrics.distribution import Memorisation, memorisation, nearest_distance, sliced_wasserstein
from allpet.metrics.image import nrmse, psnr, ssim

__all__ = [
    "Memorisation",
    "memorisation",
    "mirror_seam",
    "moment_residual",
    "moment_shares",
    "moments",
    "nearest_distance",
    "nrmse",
    "pseudo_inverse",
    "psnr",
    "range_residual",
    "sliced_wasserstein",
    "ssim",
]
