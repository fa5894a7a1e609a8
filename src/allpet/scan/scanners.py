"""Scanners whose raw data can be read, as frozen facts."""

from __future__ import annotations

from dataclasses import dataclass

from allpet.geometry import RingBeam


@dataclass(frozen=True)
class RingScanner:
    """A cylindrical scanner with virtual crystals in the gaps between its blocks.

    Parameters
    ----------
    name : as STIR knows it. aliases : what else a header calls it, in lower case.
    rings : detector rings. ring_mm : distance between rings.
    views, bins : size of an unmashed sinogram.
    inner_radius_mm : radius of the crystals' faces. depth_mm : mean depth of interaction.
    block : every position on the ring that is a multiple of this is a gap.
    max_ring_difference : largest difference kept between the two rings of a line.
    """

    name: str
    aliases: tuple[str, ...]
    rings: int
    ring_mm: float
    views: int
    bins: int
    inner_radius_mm: float
    depth_mm: float
    block: int
    max_ring_difference: int

    @property
    def beam(self) -> RingBeam:
        """Geometry of one sinogram."""
        return RingBeam(self.views, self.bins, self.inner_radius_mm + self.depth_mm, self.block)

    @property
    def direct_planes(self) -> int:
        """Planes after single-slice rebinning: one per ring and one between neighbours."""
        return 2 * self.rings - 1


MMR = RingScanner(
    name="Siemens mMR",
    aliases=("siemens mmr", "mmr", "2008", "biograph_mmr", "biograph mmr"),
    rings=64,
    ring_mm=4.0625,
    views=252,
    bins=344,
    inner_radius_mm=328.0,
    depth_mm=7.0,
    block=9,
    max_ring_difference=60,
)
"""Siemens Biograph mMR; sizes of Delso et al. 2011 (J Nucl Med 52:1914), mean depth of interaction as in STIR."""

SCANNERS = (MMR,)


def find_scanner(name: str) -> RingScanner | None:
    """The scanner a header's ``originating system`` names, or None."""
    name = " ".join(name.lower().split())
    return next((scanner for scanner in SCANNERS if name in scanner.aliases), None)
