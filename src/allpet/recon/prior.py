"""Relative difference prior: value, gradient and curvature, for planes by themselves or for a volume."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from allpet.errors import AllpetError

IN_PLANE = ((0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1))
"""One of each pair of opposite neighbours: (plane, row, column). Eight neighbours in the plane."""
ACROSS = tuple((1, row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))
"""One of each pair of opposite neighbours in other planes. Eighteen more neighbours."""


@dataclass(frozen=True)
class RelativeDifference:
    """Penalty on relative differences between neighbouring pixels.

    ``beta * sum over pairs (j, k) of w (x_j - x_k)^2 / (x_j + x_k + gamma |x_j - x_k| + epsilon)``, each pair once,
    ``w`` = pixel side over the pair's distance. Convex for x >= 0. With each pair counted from both sides and a
    factor 1/2 this is the usual form: Nuyts et al., IEEE Trans. Nucl. Sci. 49(1), 56, 2002; `epsilon` as in STIR.

    Parameters
    ----------
    beta : weight in mm for an image in counts/mm, where the likelihood's gradient is a sensitivity in mm. The penalty
        grows in proportion to the image, so the same weight smooths alike whatever the number of counts.
    gamma : the larger, the more edges are spared; 0 penalises the square alone. 2 is what scanners use.
    epsilon : activity (unit of the image) below which differences no longer count as relative.
    plane_pixels : distance between planes in pixels to count 18 neighbours in other planes too; None for the plane's 8.

    Raises
    ------
    AllpetError : a value that is negative or not finite; a plane distance that is not above 0.
    """

    beta: float
    gamma: float = 2.0
    epsilon: float = 0.0
    plane_pixels: float | None = None

    def __post_init__(self) -> None:
        for name in ("beta", "gamma", "epsilon"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise AllpetError(f"{name} of the prior is {getattr(self, name)}; it must be 0 or more")
        if self.plane_pixels is not None and not (math.isfinite(self.plane_pixels) and self.plane_pixels > 0):
            raise AllpetError(f"plane distance of the prior is {self.plane_pixels} pixels; it must be above 0")

    @property
    def axes(self) -> int:
        """Number of last axes that belong together: 2 (a plane) or 3 (a volume)."""
        return 2 if self.plane_pixels is None else 3


Cut = Any  # slices of the last axes, after an ellipsis


def _pairs(prior: RelativeDifference, inside: torch.Tensor | None) -> Iterator[tuple[torch.Tensor | float, Cut, Cut]]:
    """For each direction: ``beta w`` (0 where one of the two is outside), and where the two of each pair lie."""

    def cut(step: int, first: bool) -> slice:
        ahead = (step > 0) == first
        return slice(None, -abs(step) or None) if ahead else slice(abs(step), None)

    distance = prior.plane_pixels or 1.0
    for offset in IN_PLANE if prior.axes == 2 else IN_PLANE + ACROSS:
        steps = offset[-prior.axes :]
        one: Cut = (..., *(cut(step, True) for step in steps))
        other: Cut = (..., *(cut(step, False) for step in steps))
        weight = prior.beta / math.hypot(offset[0] * distance, offset[1], offset[2])
        if inside is None:
            yield weight, one, other
        else:
            yield weight * (inside[(..., *one[-2:])] * inside[(..., *other[-2:])]), one, other


def penalty(x: torch.Tensor, prior: RelativeDifference, inside: torch.Tensor | None = None) -> torch.Tensor:
    """The penalty of each plane ``(...)``, or of each volume: float64, summed in float64.

    Parameters
    ----------
    x : image ``(..., n, n)``, or ``(..., planes, n, n)`` for a prior across planes; >= 0.
    inside : 1 for pixels that count, 0 for others, ``(n, n)``; default all.
    """
    total = torch.zeros(x.shape[: -prior.axes], dtype=torch.float64, device=x.device)
    for weight, one, other in _pairs(prior, inside):
        a, b = x[one], x[other]
        step = a - b
        share = step * step / _below(a, b, step, prior)
        total = total + (weight * share).sum(dim=tuple(range(-prior.axes, 0)), dtype=torch.float64)
    return total


def slope_and_curvature(
    x: torch.Tensor, prior: RelativeDifference, inside: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of the penalty, and a diagonal that is at least its Hessian at `x` (sums of absolute values of rows).

    Parameters and shapes as for :func:`penalty`; both results have the shape of `x`, and are 0 outside.
    """
    gradient, curvature = torch.zeros_like(x), torch.zeros_like(x)
    eps = prior.epsilon
    for weight, one, other in _pairs(prior, inside):
        a, b = x[one], x[other]
        step = a - b
        below = _below(a, b, step, prior)
        common = step.mul_(weight).div_(below).div_(below)  # in place: volumes are large
        gradient[one].addcmul_(common, torch.add(below, b, alpha=2).add_(eps))
        gradient[other].addcmul_(common, torch.add(below, a, alpha=2).add_(eps), value=-1)
        common = torch.add(a, b).add_(eps).mul_(4 * weight).div_(below).div_(below).div_(below)
        curvature[one].addcmul_(common, torch.mul(b, 2).add_(eps))
        curvature[other].addcmul_(common, torch.mul(a, 2).add_(eps))
    return gradient, curvature


def _below(a: torch.Tensor, b: torch.Tensor, step: torch.Tensor, prior: RelativeDifference) -> torch.Tensor:
    """The denominator, kept above 0 where both are 0."""
    return step.abs().mul_(prior.gamma).add_(a).add_(b).add_(prior.epsilon).clamp_min_(1e-12)
