"""What counts say beyond an image: the image's posterior mean, with the translator's own mean and deviation as prior.

With x the translator's image, S its stated deviation and G a smoothing of one pixel, what x lacks, d, is taken for
normal with mean 0 and covariance ``S G G' S``, and the counts' noise for normal with Poisson's variance. The mean of d
given the counts y minimises ``|W (y - b - E A x - E A d)|^2 + |(S G)^-1 d|^2`` (E: efficiency, b: background, W: 1 over
the noise's deviation) and is found by conjugate gradients. Where the network is sure nothing happens; where it is not,
as in hot organs, counts decide if they are many. Nothing is fitted.
"""

from __future__ import annotations

import torch

from allpet.model.restorer import gaussian_blur
from allpet.project import Projector
from allpet.task.seen import Counts

GRAIN = 1.0
"""Standard deviation in pixels of the smoothing that the image's errors are taken to have."""
STEPS = 10
"""Of the conjugate gradients."""


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
    noise = (expected + 0.01 * expected.mean(dim=(-2, -1), keepdim=True)).clamp_min(1e-6).sqrt()
    weight = scan.efficiency * unit[:, None, None] / noise

    def grained(white: torch.Tensor) -> torch.Tensor:
        return spread * _smooth(white)

    def back(y: torch.Tensor) -> torch.Tensor:
        return _smooth(spread * projector.adjoint(weight * y))

    left = back((scan.counts - expected) / noise)
    found, way, size = torch.zeros_like(left), left, _square(left)
    for _ in range(STEPS):
        bent = way + back(weight * projector(grained(way)))
        step = size / (way * bent).sum(dim=(-2, -1), keepdim=True).clamp_min(1e-20)
        found, left = found + step * way, left - step * bent
        before, size = size, _square(left)
        way = left + size / before.clamp_min(1e-20) * way
    return grained(found)


def _square(x: torch.Tensor) -> torch.Tensor:
    return x.square().sum(dim=(-2, -1), keepdim=True)


def _norm() -> float:
    """Of the smoothing: with it white noise keeps a variance of 1."""
    point = torch.zeros(1, 33, 33)
    point[0, 16, 16] = 1
    return float(gaussian_blur(point, GRAIN).square().sum().sqrt())


NORM = _norm()


def _smooth(x: torch.Tensor) -> torch.Tensor:
    return gaussian_blur(x, GRAIN) / NORM
