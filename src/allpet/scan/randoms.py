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
from allpet.scan.corrected import BACKGROUND, corrected_for

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


def smooth_randoms(scan: Scan) -> torch.Tensor:
    """Expected randoms of every line from the scan's delayeds; each plane keeps the total that was measured there.

    On a raw ring: crystal factors from all planes together, scaled to each plane. On a parallel beam the crystals are
    no longer known: there each plane is smoothed by a wide Gaussian, weighted by efficiency, across the mirrored seam.

    Parameters
    ----------
    scan : with ``delayeds``.

    Returns
    -------
    float32 ``(n, view, radial)``: positive on live lines of planes with any delayeds, 0 where nothing was measured.

    Raises
    ------
    AllpetError : no delayeds.
    """
    if scan.delayeds is None:
        raise AllpetError("the scan has no delayeds; give its randoms as background, or the delayeds beside it")
    delayeds = scan.delayeds.to(torch.float64)
    if isinstance(scan.geometry, RingBeam):
        live = scan.geometry.live()
        factor = crystal_factors(delayeds.sum(dim=0).numpy(), scan.geometry)
        first, second = scan.geometry.crystal_pairs()
        shape = torch.from_numpy(factor[first] * factor[second] * live)[None]
    else:
        weight = torch.ones_like(delayeds) if scan.normalisation is None else scan.normalisation.to(torch.float64)
        mean = _wide_gaussian(delayeds.numpy()) / np.maximum(_wide_gaussian(weight.numpy()), 1e-30)
        shape = torch.from_numpy(np.maximum(mean, 0.0)) * weight
    total = torch.where(shape > 0, delayeds, 0.0).sum(dim=(1, 2), keepdim=True)
    return (total * shape / shape.sum(dim=(1, 2), keepdim=True).clamp_min(1e-300)).to(torch.float32)


def _wide_gaussian(planes: np.ndarray) -> np.ndarray:
    """Each plane smoothed with a standard deviation of a twelfth of its views and of its bins."""
    from scipy.ndimage import gaussian_filter

    views, bins = planes.shape[1:]
    whole_turn = np.concatenate([planes, planes[..., ::-1]], axis=1)
    smooth = gaussian_filter(whole_turn, (0, views / 12, bins / 12), mode=("nearest", "wrap", "nearest"))
    return smooth[:, :views]


def with_randoms(scan: Scan) -> Scan:
    """The scan with its randoms as background where it has none yet: those it states, else its smoothed delayeds; none
    where its header says that they are taken off."""
    if scan.background is not None or (scan.randoms is None and scan.delayeds is None):
        return scan
    if {"randoms", BACKGROUND} & corrected_for(scan):
        return replace(scan, randoms=None, delayeds=None)
    return replace(scan, background=smooth_randoms(scan) if scan.randoms is None else scan.randoms)
