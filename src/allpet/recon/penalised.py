"""Penalised likelihood: a descent that never climbs on all data, and relaxed steps on ordered subsets.

Both minimise ``sum_i (expected_i - counts_i log expected_i) + penalty(x)`` over x >= 0.
"""

from __future__ import annotations

import torch

from allpet.recon.likelihood import Part
from allpet.recon.prior import RelativeDifference, penalty, slope_and_curvature

HALVINGS = 12
ENOUGH = 1e-4
"""Share of the decrease that the slope promises with which a step is taken (Armijo; the usual value)."""
KEPT = 0.1
"""Share of a pixel that a subset's step leaves at least, so that it stays above 0. Chosen."""


def target(
    image: torch.Tensor,
    em: torch.Tensor,
    sensitivity: torch.Tensor,
    slope: torch.Tensor,
    curvature: torch.Tensor,
) -> torch.Tensor:
    """Where ``s x - s em log x + slope (x - image) + curvature (x - image)^2 / 2`` is smallest over x >= 0."""
    mass = sensitivity * em
    half = 0.5 * (sensitivity + slope - curvature * image)
    root = (half * half + curvature * mass).sqrt()
    falling = (root - half) / curvature.clamp_min(1e-30)
    rising = mass / (half + root).clamp_min(1e-30)  # the same number, without cancellation
    return torch.where(half > 0, rising, torch.where(curvature > 0, falling, em))


def relaxed_step(
    part: Part, image: torch.Tensor, prior: RelativeDifference, inside: torch.Tensor, mean: torch.Tensor, share: float
) -> torch.Tensor:
    """The step along the gradient of one subset's data and `share` of the penalty.

    The gradient is scaled by ``x / (mean + share * curvature * x)``, with `mean` the mean sensitivity of the subsets.
    All subsets scale alike; so where their steps add up to nothing, as they do in the limit of small steps, the whole
    gradient is zero (Ahn and Fessler, IEEE Trans. Med. Imaging 22(5), 613, 2003). Steps of EM scale each by its own
    sensitivity and end elsewhere.
    """
    slope, curvature = slope_and_curvature(image, prior, inside)
    gradient = part.sensitivity - part.back(part.expected(image)) + slope.mul_(share)
    scale = curvature.mul_(share).mul_(image).add_(mean).clamp_min_(1e-30)
    return gradient.mul_(image).div_(scale).neg_()


def descend(
    part: Part, image: torch.Tensor, prior: RelativeDifference, inside: torch.Tensor, iterations: int
) -> torch.Tensor:
    """Iterations on all data at once, each of which lowers the objective of every plane (or volume) or leaves it.

    Around the present image the likelihood is replaced by the separable function of expectation maximisation, and the
    penalty by its gradient and a diagonal curvature; the minimum of the two together is one square root a pixel (the
    form of De Pierro, IEEE Trans. Med. Imaging 14(1), 132, 1995, for quadratic penalties; with no penalty it is EM).
    The way there goes down; its length is halved until the objective has fallen enough, which it
    nearly always has at full length. Expected counts are carried along, so an iteration costs one projection and
    one back-projection.
    """
    axes = prior.axes
    expected = part.expected(image)
    value = penalty(image, prior, inside)

    def over(values: torch.Tensor) -> torch.Tensor:
        return values.sum(dim=tuple(range(-axes, 0)), dtype=torch.float64)

    for _ in range(iterations):
        back = part.back(expected)
        slope, curvature = slope_and_curvature(image, prior, inside)
        aim = target(image, part.em(image, back), part.sensitivity, slope, curvature) * inside
        step = aim - image
        data_step = part.trues(step)
        promise = over((part.sensitivity - back + slope) * step)
        length = torch.ones_like(value)
        for halvings in range(HALVINGS + 1):
            scale = length.to(image.dtype)[(..., *[None] * axes)]
            change = over(_poisson_change(part.counts, expected, scale * data_step))
            change = change + penalty(image + scale * step, prior, inside) - value
            too_far = change > ENOUGH * length * promise
            if not bool(too_far.any()):
                break
            # After the last halving only rounding is left: such a plane stays as it is.
            length = torch.where(too_far, length / 2 if halvings < HALVINGS - 1 else torch.zeros_like(length), length)
        if not bool((length > 0).any()):
            break
        image = image + scale * step
        value = penalty(image, prior, inside)
        expected = (expected + scale * data_step).clamp_min(0)
    return image


def _poisson_change(counts: torch.Tensor, expected: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Change of ``expected - counts log expected`` in every bin; none where nothing is expected."""
    relative = torch.where(expected > 0, step / expected.clamp_min(1e-12), torch.zeros_like(step)).clamp_min(-1 + 1e-6)
    return torch.where(expected > 0, step - counts * torch.log1p(relative), torch.zeros_like(step))
