"""A scan with attention: its image, the regions in it, their weights on its lines, and the emphasised scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from allpet.geometry import RingBeam
from allpet.mask.attention import Lines, attention_of, emphasise, undo
from allpet.mask.region import Region, check_strength
from allpet.recon.whole import reconstruct
from allpet.scan.core import Image, Scan
from allpet.scan.units import SHARE

IN_COUNTS = ("background", "randoms", "delayeds")
QUICK: dict[str, Any] = dict(method="osem", iterations=2, fwhm_mm=5.0)
"""The quick reconstruction that regions are looked for in."""


@dataclass(frozen=True)
class Attended:
    """Parameters
    ----------
    image : quick reconstruction. regions : on its grid. weights : W on the scan's lines, ``(n, view, radial)``.
    emphasised : the scan times W, with all that is in counts beside it.
    """

    image: Image
    regions: tuple[Region, ...]
    weights: torch.Tensor
    emphasised: Scan

    @property
    def weights_scan(self) -> Scan:
        """The weights as a scan, to be written."""
        e = self.emphasised
        return Scan(self.weights, e.geometry, SHARE, plane_mm=e.plane_mm, **e.acquired())

    def undone(self) -> Scan:
        """The scan without emphasis, to the rounding of float32."""
        return _scaled(self.emphasised, lambda values: undo(values, self.weights))


def quick_image(scan: Scan) -> Image:
    """The image that regions are looked for in, and drawn on: a short OSEM, smoothed."""
    return reconstruct(scan, **QUICK)


def likely_regions(scan: Scan, image: Image) -> list[Region]:
    """Suggestions worth showing; a ring's own planes are neighbours, however noisy they are."""
    from allpet.mask.suggest import LIKELY, suggest

    return suggest(image, linked=True if isinstance(scan.geometry, RingBeam) else None, least=LIKELY)


def attend(
    scan: Scan, regions: Sequence[Region] | None = None, strength: float | None = None, image: Image | None = None
) -> Attended:
    """Emphasise regions of a scan in its sinogram.

    Parameters
    ----------
    scan : counts or ideal projections, any geometry. regions : on the grid of :func:`quick_image`; default those that
        the coarse segmentation suggests. strength : of all regions; default each one's own. image : of the scan, where
        it is known already.

    Raises
    ------
    AllpetError : a region outside of the image, strengths that could not be undone.
    """
    if strength is not None:
        check_strength(strength)
    image = quick_image(scan) if image is None else image
    if regions is None:
        regions = likely_regions(scan, image)
    found = tuple(regions)
    if strength is not None:
        found = tuple(replace(region, strength=strength) for region in found)
    weights = attention_of(found, Lines(scan.geometry), len(scan))
    return Attended(image, found, weights, _scaled(scan, lambda values: emphasise(values, weights)))


def _scaled(scan: Scan, change: Callable[[torch.Tensor], torch.Tensor]) -> Scan:
    others = {name: change(value) for name in IN_COUNTS if (value := getattr(scan, name)) is not None}
    return scan.with_sinogram(change(scan.sinogram), dynamic=None, **others)
