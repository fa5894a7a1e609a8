"""Single photons around the ring, and the random coincidences that they make.

The rate of randoms of a pair of crystals is ``2 tau S_i S_j`` (:mod:`allpet.scan.randoms` estimates the factors from
measured delayeds; here they come from the activity). With ``S_i = efficiency * area_i / (2 pi) * q_i``, where ``q_i``
is the activity seen through the body, and trues of a pair ``efficiency^2 area_i area_j / (2 pi 4 R^2)`` times their
line integral, efficiency and area drop out: randoms are ``2 tau * 2 R^2 / pi * q_i q_j`` in the unit of the trues.

Bodies continue along z here too, to :data:`HALF_LENGTH_MM` above and below. With the height ``z = rho tan(psi)``, a
cell of activity a at the distance rho in the plane adds ``a * cell area * cos(incidence) / rho`` times the integral of
``cos(psi) exp(-M / cos(psi))`` over psi to q, M the integral of mu in the plane. Photons that were scattered on their
way are added as an even share (:data:`SCATTERED`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.scan.scanners import Scanner
from allpet.scan.scatter import (
    DETECTORS,
    Cast,
    cast,
    make_rays,
    pair_steps,
    pairs_to_beam,
    scatter_of,
    to_beam,
)

SCATTERED = 0.18
"""Scattered over unscattered photons in the window; 0.16 (head) to 0.21 (35 cm) in the Monte Carlo reference."""
HALF_LENGTH_MM = 350.0
"""Half the length of the body: that of the NEMA scatter phantom (70 cm); chosen."""
HEIGHTS = 4


@lru_cache(maxsize=8)
def _heights(fov_mm: float, radius_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """1 / cos(psi) and weights at nodes in sin(psi), both signs at once: float32 ``(nodes, cells, detectors)``."""
    rays = make_rays(fov_mm, radius_mm)
    node, share = np.polynomial.legendre.leggauss(HEIGHTS)
    top = HALF_LENGTH_MM / np.hypot(HALF_LENGTH_MM, rays.length_mm)
    sine = (node[:, None, None] + 1) / 2 * top
    weight = share[:, None, None] * top * (rays.cell_mm**2 * rays.cosine / rays.length_mm)
    return (1 / np.sqrt(1 - sine**2)).astype(np.float32), weight.astype(np.float32)


def singles_of(seen: Cast) -> np.ndarray:
    """Activity that each detector sees through the body, q in kBq/mL*mm: float32 ``(n, detectors)``."""
    stretch, weight = (part[:, seen.cells] for part in _heights(seen.rays.fov_mm, seen.rays.radius_mm))
    through = np.zeros_like(seen.mu_path)
    for factor, part in zip(stretch, weight, strict=True):
        through += part * np.exp(-factor * seen.mu_path)
    direct = np.einsum("nc,ncd->nd", seen.activity, through)
    even = direct.mean(axis=1, keepdims=True)
    return np.asarray(direct + SCATTERED * even)


def randoms_of(seen: Cast, beam: ParallelBeam, scanner: Scanner) -> np.ndarray:
    """Randoms of slices that were cast already, in the unit of the trues; see :func:`randoms_estimate`."""
    radius = scanner.beam.radius_mm
    singles = singles_of(seen)
    twice = np.concatenate((singles, singles), axis=1)
    other = [DETECTORS // 2 - t for t in range(pair_steps(beam.fov_mm, radius))]
    pairs = np.stack([singles * twice[:, first : first + DETECTORS] for first in other], axis=1)
    table = to_beam(beam, radius)
    window_s = scanner.coincidence_window_ns * 1e-9
    return pairs_to_beam(pairs, table, table.radial) * np.float32(window_s * 2 * radius**2 / np.pi)


def randoms_estimate(
    activity: np.ndarray, mu: np.ndarray, beam: ParallelBeam, scanner: Scanner, relative: bool = False
) -> np.ndarray:
    """Expected randoms of slices.

    Parameters
    ----------
    activity, mu : ``(n, size, size)`` in kBq/mL *at the time of the scan* and 1/mm, over the field of view of the beam.
    relative : give the shape only, with mean 1 in each slice; else in the unit of the trues (kBq/mL*mm), in which
        randoms grow with the square of the activity.

    Returns
    -------
    float32 ``(n, views, bins)``.

    Raises
    ------
    AllpetError : as :func:`allpet.scan.scatter.scatter_estimate`; a slice without activity has no relative shape.
    """
    out = randoms_of(cast(activity, mu, beam, scanner), beam, scanner)
    if not relative:
        return out
    mean = out.mean(axis=(1, 2), keepdims=True)
    if not (mean > 0).all():
        raise AllpetError("a slice holds no activity; its randoms have no shape")
    return np.asarray(out / mean)


def background_estimate(
    activity: np.ndarray, mu: np.ndarray, beam: ParallelBeam, scanner: Scanner
) -> tuple[np.ndarray, np.ndarray]:
    """Expected scatter and randoms of slices, both in the unit of the trues ``attenuation * ideal projection``.

    Parameters
    ----------
    activity, mu : ``(n, size, size)`` in kBq/mL at the time of the scan and 1/mm, over the field of view of the beam.

    Returns
    -------
    scatter, randoms : float32 ``(n, views, bins)`` in kBq/mL*mm; multiply by counts per unit (and normalisation).
    """
    seen = cast(activity, mu, beam, scanner)
    return scatter_of(seen, beam, scanner), randoms_of(seen, beam, scanner)
