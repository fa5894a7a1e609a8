"""Expected randoms from measured delayeds.

The randoms rate of a pair of crystals is ``2 tau S_i S_j``: a product of one factor for each crystal. Tens of
thousands of noisy bins are thereby described by a few hundred crystal factors, which the delayeds determine well
(maximum likelihood from fan sums: Casey and Hoffman 1986, J Comput Assist Tomogr 10:845; Panin et al. 2008). A gap is
a crystal that does not exist; it needs no interpolation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import RingBeam
from allpet.scan.core import Scan

ITERATIONS = 50


def crystal_factors(delayeds: np.ndarray, beam: RingBeam) -> np.ndarray:
    """Maximum-likelihood factors u with ``E[delayeds] = u_i u_j`` over the live lines of one sinogram.

    Parameters
    ----------
    delayeds : counts ``(view, radial)``.

    Returns
    -------
    float64 ``(crystals,)``, positive where a crystal exists, 0 in a gap.
    """
    live = beam.live()
    first, second = (crystal[live] for crystal in beam.crystal_pairs())
    counts = np.asarray(delayeds, float)[live]

    def fans(values_first: np.ndarray, values_second: np.ndarray) -> np.ndarray:
        return np.bincount(first, values_first, beam.crystals) + np.bincount(second, values_second, beam.crystals)

    # Half a count in each fan keeps a crystal that happened to see nothing from being called dead.
    measured = fans(counts, counts) + 0.5
    lines = fans(np.ones(len(first)), np.ones(len(first)))
    measured[lines == 0] = 0.0
    factor = np.sqrt(max(float(counts.mean()), 1e-12)) * (lines > 0)
    for _ in range(ITERATIONS):
        expected = factor * fans(factor[second], factor[first])
        ratio = np.divide(measured, expected, out=np.zeros_like(measured), where=expected > 0)
        factor = factor * np.sqrt(ratio)  # the square root keeps the two crystals of a line from overshooting together
    return factor


def smooth_randoms(delayeds: torch.Tensor, beam: RingBeam) -> torch.Tensor:
    """Expected randoms of every line: crystal factors from all planes together, scaled to each plane's own total.

    Parameters
    ----------
    delayeds : counts ``(n, view, radial)`` on a raw ring geometry.

    Returns
    -------
    float32 ``(n, view, radial)``: positive on live lines of planes with any delayeds, 0 in gaps, and the same total in
    each plane as was measured there.

    Raises
    ------
    AllpetError : a shape that does not fit the geometry.
    """
    if delayeds.ndim != 3 or tuple(delayeds.shape[1:]) != beam.shape:
        raise AllpetError(
            f"delayeds of shape {tuple(delayeds.shape)} do not fit (n, {beam.views}, {beam.bins}) of the geometry"
        )
    live = beam.live()
    totals = delayeds[:, torch.from_numpy(live)].sum(dim=1, dtype=torch.float64)
    factor = crystal_factors(delayeds.sum(dim=0, dtype=torch.float64).numpy(), beam)
    first, second = beam.crystal_pairs()
    shape = torch.from_numpy(factor[first] * factor[second] * live)
    shape = shape / shape.sum().clamp_min(1e-300)
    return (totals[:, None, None] * shape).to(torch.float32)


def with_randoms(scan: Scan) -> Scan:
    """The scan with smoothed delayeds as background, where it has delayeds and no background yet.

    Raises
    ------
    AllpetError : the delayeds are not on a raw ring geometry.
    """
    if scan.background is not None or scan.delayeds is None:
        return scan
    if not isinstance(scan.geometry, RingBeam):
        raise AllpetError("randoms are estimated from raw delayeds; do it before arc correction")
    return replace(scan, background=smooth_randoms(scan.delayeds, scan.geometry))
