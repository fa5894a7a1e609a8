"""The Poisson likelihood of counts, cut into ordered subsets."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from allpet.recon.psf import Operator, operator


@dataclass(frozen=True)
class Part:
    """One subset of the views: ``counts ~ Poisson(efficiency * A x + background)``.

    Parameters
    ----------
    operator : A of these views. counts : ``(..., views, bins)``.
    efficiency, background : of the same shape, or None for 1 and 0. sensitivity : ``A' efficiency``, ``(..., n, n)``.
    """

    operator: Operator
    counts: torch.Tensor
    efficiency: torch.Tensor | None
    background: torch.Tensor | None
    sensitivity: torch.Tensor

    def trues(self, image: torch.Tensor) -> torch.Tensor:
        """``efficiency * A x``."""
        line = self.operator(image)
        return line if self.efficiency is None else line * self.efficiency

    def expected(self, image: torch.Tensor) -> torch.Tensor:
        """``efficiency * A x + background``."""
        trues = self.trues(image)
        return trues if self.background is None else trues + self.background

    def back(self, expected: torch.Tensor) -> torch.Tensor:
        """``A' efficiency (counts / expected)``; a bin that expects nothing carries no weight."""
        ratio = torch.where(expected > 0, self.counts / expected.clamp_min(1e-12), torch.zeros_like(self.counts))
        return self.operator.adjoint(ratio if self.efficiency is None else ratio * self.efficiency)

    def em(self, image: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        """The step of expectation maximisation; a pixel that no measured bin sees stays as it is."""
        return torch.where(self.sensitivity > 0, image * back / self.sensitivity.clamp_min(1e-12), image)


def subset_parts(
    counts: torch.Tensor,
    whole: Operator,
    subsets: int,
    efficiency: torch.Tensor | None,
    background: torch.Tensor | None,
    psf_mm: float,
) -> list[Part]:
    """The subsets in the order of use, neighbours in time far apart in angle."""
    parts = []
    for k in _far_apart(subsets):
        part = operator(whole.beam, whole.grid, psf_mm, (k, subsets))
        y = counts[..., k::subsets, :]
        eff = None if efficiency is None else efficiency[..., k::subsets, :].to(counts.dtype)
        add = None if background is None else background[..., k::subsets, :].to(counts.dtype)
        sensitivity = part.adjoint(torch.ones_like(y) if eff is None else eff.expand_as(y))
        parts.append(Part(part, y, eff, add, sensitivity))
    return parts


def _far_apart(subsets: int) -> list[int]:
    """Order of subsets in which neighbours in time are far apart in angle."""
    order = [0]
    while len(order) < subsets:
        left = [k for k in range(subsets) if k not in order]
        distance = {k: min(min(abs(k - o), subsets - abs(k - o)) for o in order[-2:]) for k in left}
        order.append(max(left, key=lambda k: distance[k]))
    return order
