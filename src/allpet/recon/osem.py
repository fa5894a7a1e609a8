"""Maximum-likelihood reconstruction, penalised if asked for: MLEM and its ordered-subset form."""

from __future__ import annotations

import torch

from allpet.errors import AllpetError
from allpet.project import Projector
from allpet.recon.fbp import field_of_view
from allpet.recon.likelihood import subset_parts
from allpet.recon.penalised import KEPT, descend, relaxed_step
from allpet.recon.prior import RelativeDifference

RELAXATION = 0.1
"""Chosen: after 10 iterations half the step, after 90 a tenth."""


def mlem(
    counts: torch.Tensor,
    projector: Projector,
    iterations: int = 50,
    efficiency: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
    start: torch.Tensor | None = None,
    psf_mm: float = 0.0,
    prior: RelativeDifference | None = None,
) -> torch.Tensor:
    """Maximum likelihood by expectation maximisation: :func:`osem` with one subset."""
    return osem(counts, projector, iterations, 1, efficiency, background, start, psf_mm, prior)


def osem(
    counts: torch.Tensor,
    projector: Projector,
    iterations: int = 10,
    subsets: int = 8,
    efficiency: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
    start: torch.Tensor | None = None,
    psf_mm: float = 0.0,
    prior: RelativeDifference | None = None,
    relaxation: float = RELAXATION,
) -> torch.Tensor:
    """Ordered-subset expectation maximisation for ``counts ~ Poisson(efficiency * R A x + background)``.

    Minimises ``sum_i (expected_i - counts_i log expected_i) + penalty(x)`` over x >= 0, with the penalty of `prior`.

    Parameters
    ----------
    counts : ``(..., views, bins)``, measured counts (prompts; never pre-corrected).
    efficiency : factors >= 0 of the same shape (normalisation * attenuation); 0 marks a bin
        that was not measured and is left out. Default 1.
    background : expected randoms + scatter in counts. Default 0.
    start : first image, positive inside the field of view. Default: uniform.
    psf_mm : full width at half maximum of the resolution R, a Gaussian along the radial axis; 0 for none.
    prior : relative difference prior; default none. With one subset the objective falls at every iteration, down to
        its minimum; with several, each uses its share of the prior.
    relaxation : with a prior and several subsets: steps of iteration k = 0, 1, ... are scaled by
        ``1 / (1 + relaxation * k)``, which lets the subsets' limit cycle die out at the minimum.

    Returns
    -------
    image ``(..., n, n)``, >= 0, in counts per mm; zero outside the circle that all views see, and where no
    measured bin looks.

    Raises
    ------
    AllpetError : too few iterations or too many subsets, counts below zero, a width or relaxation below zero.

    Notes
    -----
    Hudson and Larkin, IEEE Trans. Med. Imaging 13(4), 1994; subset order as far apart as can be.
    """
    beam, grid = projector.beam, projector.grid
    if iterations < 1 or not 1 <= subsets <= beam.views:
        raise AllpetError(
            f"iterations {iterations}, subsets {subsets}: need at least 1 and at most {beam.views} subsets"
        )
    if not 0 <= relaxation < float("inf"):
        raise AllpetError(f"relaxation is {relaxation}; it must be 0 or more")
    dtype = counts.dtype if counts.dtype == torch.float64 else torch.float32
    counts = counts.to(dtype)
    if bool((counts < 0).any()):
        raise AllpetError("counts below zero: OSEM takes measured prompts, and the background as an argument")
    seen = field_of_view(projector, dtype).to(counts.device)
    image = seen.expand(*counts.shape[:-2], *grid.shape) * 1.0 if start is None else start.to(dtype) * seen
    parts = subset_parts(counts, projector, subsets, efficiency, background, psf_mm)
    image = image * (sum(part.sensitivity for part in parts) > 0)  # nothing is known of what no measured bin sees
    if prior is not None and subsets == 1:
        return descend(parts[0], image, prior, seen, iterations)
    if prior is None:
        for _ in range(iterations):
            for part in parts:
                image = part.em(image, part.back(part.expected(image)))
        return image
    mean = torch.zeros_like(image)
    for part in parts:
        mean += part.sensitivity / subsets
    for k in range(iterations):
        for part in parts:
            step = relaxed_step(part, image, prior, seen, mean, 1 / subsets)
            image = torch.maximum(step.div_(1 + relaxation * k).add_(image), KEPT * image)
    return image
