"""Scores: image quality, sinogram consistency, and distance between sets; all batched torch."""

from allpet.metrics.classifier import PromptClassifier, prompt_features
from allpet.metrics.consistency import (
    mirror_seam,
    moment_residual,
    moment_shares,
    moments,
    pseudo_inverse,
    range_residual,
)
from allpet.metrics.distribution import (
    coverage,
    density,
    energy_distance,
    kernel_distance,
    precision_recall,
    sliced_wasserstein,
)
from allpet.metrics.diversity import (
    mean_pairwise_correlation,
    participation_ratio,
    sliding_block_masks,
    vendi_score,
)
from allpet.metrics.features import image_features, pca_features, principal_components, sinogram_features
from allpet.metrics.image import nrmse, psnr, ssim
from allpet.metrics.memorisation import Audit, Memorisation, audit, copy_distance, memorisation, nearest_distance

__all__ = [
    "Audit",
    "Memorisation",
    "PromptClassifier",
    "audit",
    "copy_distance",
    "coverage",
    "density",
    "energy_distance",
    "image_features",
    "kernel_distance",
    "mean_pairwise_correlation",
    "memorisation",
    "mirror_seam",
    "moment_residual",
    "moment_shares",
    "moments",
    "nearest_distance",
    "nrmse",
    "participation_ratio",
    "pca_features",
    "precision_recall",
    "principal_components",
    "prompt_features",
    "pseudo_inverse",
    "psnr",
    "range_residual",
    "sinogram_features",
    "sliced_wasserstein",
    "sliding_block_masks",
    "ssim",
    "vendi_score",
]
