"""Taps of a Gaussian on whole numbers, the same for the simulator's blur and the reconstruction's."""

from __future__ import annotations

import math

import numpy as np

NARROW = 0.5
"""Standard deviation in bins below which samples of a Gaussian no longer have its variance (off by 15 % at 0.5)."""


def gaussian_taps(sigma: float, reach: float = 4.0) -> np.ndarray:
    """Weights at the whole numbers ``-k .. k``, float64, symmetric, >= 0, sum 1; `sigma` in bins.

    Samples of the Gaussian out to `reach` standard deviations; below :data:`NARROW` three taps with its exact variance.
    """
    if sigma < NARROW:
        return np.array([sigma**2 / 2, 1 - sigma**2, sigma**2 / 2])
    at = np.arange(-math.ceil(reach * sigma), math.ceil(reach * sigma) + 1)
    taps = np.exp(-0.5 * (at / sigma) ** 2)
    return np.asarray(taps / taps.sum())
