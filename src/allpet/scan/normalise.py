"""Bin efficiencies of a scanner: crystals, blocks, geometry along s, and gaps, brought to a parallel beam.

A line's efficiency is the product of its two crystals' efficiencies (log-normal from crystal to crystal, times a
profile within the block: crystals at a block's edge catch less), of a smooth geometric factor along s, and 0 in a gap.
Lines are shared among the bins of the beam by overlapping area, as arc correction does with counts; divided by what
full coverage would give, 1 means that all lines of a bin exist and are average. A bin that only gaps touch is 0:
missing. On a beam coarser than the ring gaps only thin the bins that they cross.
Casey ME, Gadagkar H, Newport D 1995, "A component based method for normalization in volume PET", 3D meeting, 67.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.scan.arc import share_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from allpet.scan.scanners import Scanner

CRYSTAL_SPREAD = 0.1
"""Standard deviation of the logarithm of a crystal's efficiency; chosen."""
EDGE_LOSS = 0.15
"""Share that the outermost crystals of a block catch less than the middle; chosen."""
GEOMETRIC_SPREAD = 0.03
"""Size of the smooth change along s; chosen."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """What a ring's lines mean to a beam.

    Parameters
    ----------
    share : sparse ``(views * bins, live lines)``; each row sums to its live coverage: 1 where all lines exist.
    first, second : crystals of each live line. s : its distance from the axis over the ring's radius.
    """

    share: csr_matrix
    first: np.ndarray
    second: np.ndarray
    s: np.ndarray


@lru_cache(maxsize=8)
def coverage(beam: ParallelBeam, scanner: Scanner) -> Coverage:
    """Shares of live lines in the bins of a beam, relative to full coverage.

    Raises
    ------
    AllpetError : the beam reaches beyond the lines of the scanner.
    """
    ring = scanner.beam
    every = share_matrix(ring, beam)
    full = np.asarray(every.sum(axis=1)).ravel()
    reach = 2 * ring.radius_mm * np.sin(np.pi * (ring.bins // 2 + 0.5) / ring.crystals)
    if beam.fov_mm > reach or not (full > 0).all():
        raise AllpetError(
            f"the field of view is {beam.fov_mm:g} mm wide; it must lie within the {reach:.0f} mm of {scanner.name}"
        )
    live = np.flatnonzero(ring.live().ravel())
    share = every.tocsc()[:, live].tocsr()
    share.data = (share.data / np.repeat(full, np.diff(share.indptr))).astype(np.float32)
    first, second = (crystal.ravel()[live] for crystal in ring.crystal_pairs())
    s = np.broadcast_to(ring.radii / ring.radius_mm, ring.shape).ravel()[live]
    return Coverage(share, first, second, s.astype(np.float32))


def block_profile(scanner: Scanner) -> np.ndarray:
    """Mean efficiency of each crystal position of a ring, 1 on average over crystals; float64 ``(crystals,)``.

    A parabola over each block of crystals between two gaps; even where a scanner has no gaps.
    """
    profile = np.ones(scanner.crystals)
    if scanner.block > 2:
        place = np.arange(scanner.crystals) % scanner.block
        across = 2 * (place - scanner.block / 2) / (scanner.block - 2)
        profile = 1 - EDGE_LOSS * across**2
        profile /= profile[place != 0].mean()
    return profile


def draw_normalisation(rng: np.random.Generator, beam: ParallelBeam, scanner: Scanner) -> np.ndarray:
    """Bin efficiencies of one scanner on one day.

    Parameters
    ----------
    rng : draws the crystals' efficiencies and the geometric factor, nothing else.
    beam : a parallel beam within the scanner's field of view.

    Returns
    -------
    float32 ``(views, bins)``: live coverage times mean efficiency, 0 where only gaps lie; about 1 without gaps.

    Raises
    ------
    AllpetError : the beam reaches beyond the lines of the scanner.
    """
    known = coverage(beam, scanner)
    crystal = np.exp(rng.normal(-(CRYSTAL_SPREAD**2) / 2, CRYSTAL_SPREAD, scanner.crystals)) * block_profile(scanner)
    crystal = crystal.astype(np.float32)
    bend = rng.uniform(-GEOMETRIC_SPREAD, GEOMETRIC_SPREAD, 2).astype(np.float32)
    edge = beam.fov_mm / 2 / scanner.beam.radius_mm
    geometric = 1 + bend[0] * ((known.s / edge) ** 2 - 1 / 3) + bend[1] * np.cos(2 * np.pi * known.s / edge)
    lines = crystal[known.first] * crystal[known.second] * geometric
    return np.asarray(known.share @ lines, np.float32).reshape(beam.shape)
