"""Transparent medical attention (TMA): regions of an image as weights of its sinogram, exactly undone.

``W = 1 + sum_r strength_r * A m_r / max(A m_r)``, with region r's weights m_r in the image and the maximum over the
whole scan, so that planes keep their proportion. ``W * s`` emphasises (or, with a strength below 0, plays down) every
line through a region by its length in it; ``/ W`` gives s back. Nothing in it is learned (arXiv 2509.09130).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import Geometry
from allpet.mask.region import Region, check_strength
from allpet.project import Projector
from allpet.recon.whole import image_grid_of
from allpet.scan.carry import Carrier

LEAST, ROUNDING = 1e-3, 1e-6
"""Smallest weight that is allowed: below it, regions that are played down sum to nearly -1."""


def attention(mask: torch.Tensor, projector: Projector, strength: float = 1.0) -> torch.Tensor:
    """Attention weights ``W = 1 + strength * A m / max(A m)`` of one mask, ``(..., n, n) -> (..., views, bins)``.

    The maximum is that of the whole scan (all planes of `mask`); an empty mask gives W = 1.

    Parameters
    ----------
    mask : weights >= 0. strength : above -1.

    Raises
    ------
    AllpetError : a negative weight, or a strength out of range.
    """
    check_strength(strength)
    if bool((mask < 0).any()):
        raise AllpetError("mask has negative values; weights must be >= 0")
    projected = projector(mask)
    peak = projected.amax() if projected.numel() else projected.new_zeros(())
    return 1 + strength * (projected / peak if float(peak) > 0 else torch.zeros_like(projected))


class Lines:
    """Regions of an image on the lines of a scan.

    Parameters
    ----------
    geometry : of the scan; a ring's lines take what the evenly spaced grid of its arc correction has next to them.
    """

    def __init__(self, geometry: Geometry) -> None:
        beam, self.grid = image_grid_of(geometry)
        self.geometry = geometry
        self.projector = Projector(beam, self.grid)
        self.carrier = Carrier(geometry, beam, "bilinear")

    def __call__(self, mask: torch.Tensor) -> torch.Tensor:
        """Length of every line in a mask, weighted by it: ``(n, row, column)`` to mm ``(n, view, radial)``."""
        return self.carrier.up(self.projector(mask))

    def share(self, region: Region) -> torch.Tensor:
        """``A m / max(A m)`` on the planes of the region's box, in [0, 1], ``(planes, view, radial)``; 0 if no line of
        the scan meets it."""
        shape = (len(region.levels), *self.grid.shape)
        box = np.zeros(shape, np.float32)
        box[:, region.box[1], region.box[2]] = region.weights
        projected = self(torch.from_numpy(box))
        peak = float(projected.amax())
        return (projected / peak).clamp(0, 1) if peak > 0 else torch.zeros_like(projected)


def attention_of(regions: Sequence[Region], lines: Lines, planes: int) -> torch.Tensor:
    """Weights W of all planes of a scan under its regions' strengths, float32 ``(planes, view, radial)``, above 0.

    Raises
    ------
    AllpetError : a region outside of the image, or strengths of overlapping regions that sum to -1 or below.
    """
    weights = torch.ones(planes, *lines.geometry.shape)
    for region in regions:
        region.check((planes, *lines.grid.shape))
        weights[region.box[0]] += region.strength * lines.share(region)
    check_weights(weights)
    return weights


def check_weights(weights: torch.Tensor) -> None:
    """Refuse weights that cannot be undone."""
    least = float(weights.amin()) if weights.numel() else 1.0
    if not least >= LEAST - ROUNDING:
        raise AllpetError(
            f"strengths of overlapping regions sum to {least - 1:.3g} on some lines; they must stay above -1 "
            f"(at least {LEAST - 1:g}), or the emphasis cannot be undone: weaken or delete one"
        )


def emphasise(sinogram: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """``W * s``."""
    return sinogram * weights


def undo(emphasised: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """``s`` from ``W * s``, exact to the rounding of the type."""
    return emphasised / weights
