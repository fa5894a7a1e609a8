"""Maximum-likelihood reconstruction: MLEM and its ordered-subset form."""

from __future__ import annotations

import torch

from allpet.errors import AllpetError
from allpet.project import Projector
from allpet.recon.fbp import field_of_view


def mlem(
    counts: torch.Tensor,
    projector: Projector,
    iterations: int = 50,
    efficiency: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Maximum likelihood by expectation maximisation: :func:`osem` with one subset."""
    return osem(counts, projector, iterations, 1, efficiency, background, start)


def osem(
    counts: torch.Tensor,
    projector: Projector,
    iterations: int = 10,
    subsets: int = 8,
    efficiency: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Ordered-subset expectation maximisation for ``counts ~ Poisson(efficiency * A x + background)``.

    Parameters
    ----------
    counts : ``(..., views, bins)``, measured counts (prompts; never pre-corrected).
    efficiency : factors >= 0 of the same shape (normalisation * attenuation); 0 marks a bin
        that was not measured and is left out. Default 1.
    background : expected randoms + scatter in counts. Default 0.
    start : first image, positive inside the field of view. Default: uniform.

    Returns
    -------
    image ``(..., n, n)``, >= 0, in counts per mm; zero outside the circle that all views see.

    Notes
    -----
    Hudson and Larkin, IEEE Trans. Med. Imaging 13(4), 1994; subset order as far apart as can be.
    """
    beam, grid = projector.beam, projector.grid
    if iterations < 1 or not 1 <= subsets <= beam.views:
        raise AllpetError(
            f"iterations {iterations}, subsets {subsets}: need at least 1 and at most {beam.views} subsets"
        )
    dtype = counts.dtype if counts.dtype == torch.float64 else torch.float32
    counts = counts.to(dtype)
    if bool((counts < 0).any()):
        raise AllpetError("counts below zero: OSEM takes measured prompts, and the background as an argument")
    seen = field_of_view(projector, dtype).to(counts.device)
    image = seen.expand(*counts.shape[:-2], *grid.shape) * 1.0 if start is None else start.to(dtype) * seen
    parts = []
    for k in _far_apart(subsets):
        part = Projector(beam, grid, (k, subsets)) if subsets > 1 else projector
        y = counts[..., k::subsets, :]
        eff = None if efficiency is None else efficiency[..., k::subsets, :].to(dtype)
        add = None if background is None else background[..., k::subsets, :].to(dtype)
        sensitivity = part.adjoint(torch.ones_like(y) if eff is None else eff.expand_as(y))
        parts.append((part, y, eff, add, sensitivity))
    for _ in range(iterations):
        for part, y, eff, add, sensitivity in parts:
            expected = part(image)
            if eff is not None:
                expected = expected * eff
            if add is not None:
                expected = expected + add
            ratio = torch.where(expected > 0, y / expected.clamp_min(1e-12), torch.zeros_like(y))
            update = part.adjoint(ratio if eff is None else ratio * eff)
            image = torch.where(sensitivity > 0, image * update / sensitivity.clamp_min(1e-12), image)
    return image


def _far_apart(subsets: int) -> list[int]:
    """Order of subsets in which neighbours in time are far apart in angle."""
    order = [0]
    while len(order) < subsets:
        left = [k for k in range(subsets) if k not in order]
        distance = {k: min(min(abs(k - o), subsets - abs(k - o)) for o in order[-2:]) for k in left}
        order.append(max(left, key=lambda k: distance[k]))
    return order
