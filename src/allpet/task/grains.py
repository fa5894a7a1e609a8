"""What errors about a stated mean look like: smooth noise of unit variance everywhere, and draws with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch

WIDTHS = (1.2, 3.0, math.inf)
"""Of the grains that errors are made of, in pixels; the last one is one number for the whole plane."""
GRAINS = {
    "low-dose": (0.85, 0.12, 0.03),
    "attenuation": (0.65, 0.31, 0.04),
    "delayed": (0.95, 0.0, 0.05),
    "convert": (0.11, 0.56, 0.33),
    "separate": (0.62, 0.23, 0.15),
}
"""Their shares of the variance in the errors of each task's image (of attenuation: its mu map), as
``python -m allpet.train.grains`` finds them on validation people; another task's are taken to be those of low-dose."""


def draws(
    task: str, mean: torch.Tensor, spread: torch.Tensor, samples: int, seed: int, first: int
) -> Iterator[torch.Tensor]:
    """Images about a mean, ``samples`` times ``(n, bins, bins)``, >= 0; errors are smooth, of these deviations.

    Sample i of a plane depends on (seed, plane, i) alone.
    """
    shares = GRAINS.get(task, GRAINS["low-dose"])
    for i in range(samples):
        yield (mean + spread * smooth_noise(shares, mean.shape, seed, first, i)).clamp_min(0)


def smooth_noise(shares: Sequence[float], shape: torch.Size, seed: int, first: int, sample: int) -> torch.Tensor:
    """Noise of unit variance in every pixel, a mixture of grains of these shares, ``(n, rows, columns)``."""
    planes = []
    for plane in range(first, first + shape[0]):
        rng = np.random.default_rng([seed, plane, sample])
        total = torch.zeros(shape[1:])
        for width, share in zip(WIDTHS, shares, strict=True):
            if math.isinf(width):
                total += math.sqrt(share) * rng.standard_normal()
                continue
            down, across = (_blur(size, width) for size in shape[1:])
            white = torch.from_numpy(rng.standard_normal((down.shape[1], across.shape[1]), dtype=np.float32))
            total += math.sqrt(share) * (down @ white @ across.T)
        planes.append(total)
    return torch.stack(planes)


@lru_cache(maxsize=16)
def _blur(size: int, width: float) -> torch.Tensor:
    """Gaussian smoothing of white noise that is longer on either side, ``(size, size + 2 reach)``: what comes out has
    the variance of what goes in."""
    reach = math.ceil(3 * width)
    t = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (t / width).square())
    kernel = kernel / kernel.square().sum().sqrt()
    rows = torch.zeros(size, size + 2 * reach)
    for k in range(size):
        rows[k, k : k + len(kernel)] = kernel
    return rows
