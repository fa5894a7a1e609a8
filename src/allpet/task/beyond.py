"""What counts say beyond an image: the image's posterior mean, with the translator's own mean and deviation as prior.

With x the translator's image, S its stated deviation and G a smoothing of one pixel, what x lacks, d, is taken for
normal with mean 0 and covariance ``S G G' S``, and the counts' noise for normal with Poisson's variance. The mean of d
given the counts y minimises ``|W (y - b - E A x - E A d)|^2 + |(S G)^-1 d|^2`` (E: efficiency, b: background, W: 1 over
the noise's deviation) and is found by conjugate gradients. Where the network is sure nothing happens; where it is not,
as in hot organs, counts decide if they are many. Nothing is fitted.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch.nn import functional as F

from allpet.model.restorer import gaussian_blur
from allpet.project import Projector, least_squares
from allpet.task.put_back import poisson_noise
from allpet.task.seen import Counts

GRAIN = 1.0
"""Standard deviation in pixels of the smoothing that the image's errors are taken to have."""
STEPS, ENOUGH = 60, 1e-3
"""Of the conjugate gradients: at most, and by how much the gradient has shrunk then."""


def beyond(
    scan: Counts, expected: torch.Tensor, spread: torch.Tensor, unit: torch.Tensor, projector: Projector
) -> torch.Tensor:
    """The change of images that their counts call for, ``(n, bins, bins)``; it may be below 0.

    Parameters
    ----------
    scan : counts on the model's grid. expected : their mean by the images, background included ``(n, views, bins)``.
    spread : stated deviation of the images ``(n, bins, bins)``. unit : counts that an image value of 1 stands for
    ``(n,)``, in counts a bin per pixel side.
    """
    noise = poisson_noise(expected)
    weight = scan.efficiency * unit[:, None, None] / noise

    def grained(white: torch.Tensor) -> torch.Tensor:
        return spread * _blurred(white) / norm()

    def forward(white: torch.Tensor) -> torch.Tensor:
        return weight * projector(grained(white))

    def back(y: torch.Tensor) -> torch.Tensor:
        return _blurred(spread * projector.adjoint(weight * y)) / norm()

    data = (scan.counts - expected) / noise
    return grained(least_squares(forward, back, data, STEPS, damping=1.0, tolerance=ENOUGH))


def _blurred(x: torch.Tensor) -> torch.Tensor:
    """The smoothing, with zeros outside of the image: it is its own transpose."""
    reach = math.ceil(3 * GRAIN)
    return gaussian_blur(F.pad(x, (reach,) * 4), GRAIN)[..., reach:-reach, reach:-reach]


@cache
def norm() -> float:
    """Of the smoothing: divided by it, smoothed white noise keeps a variance of 1."""
    point = torch.zeros(1, 33, 33)
    point[0, 16, 16] = 1
    return float(gaussian_blur(point, GRAIN).square().sum().sqrt())
