"""Does a generator copy its training set? Nearest neighbours, plain and modulo rotation, shift and flip.

An audit compares with people that were never trained on: how close do *they* come to the training set?
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import adaptive_avg_pool2d

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics.distribution import _rows
from allpet.metrics.features import unit_mean

SIZE = 64
CANDIDATES = 8
TURNS = 512
GROUP = 64


def nearest_distance(samples: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Distance of each sample to its nearest neighbour in the reference, relative to the sample's norm, ``(n,)``."""
    samples, reference = _rows(samples), _rows(reference)
    return torch.cdist(samples, reference).amin(dim=1) / samples.norm(dim=1).clamp_min(1e-300)


@dataclass(frozen=True)
class Memorisation:
    """Nearest-neighbour distances (medians, relative to the sample) of generated and held-out samples.

    A model that copies has ``to_train`` far below ``to_held_out``; held-out samples themselves
    (``held_out_to_train``) say how close unseen data lie to the training set.
    """

    to_train: float
    to_held_out: float
    held_out_to_train: float
    closer_to_train: float


def memorisation(generated: torch.Tensor, train: torch.Tensor, held_out: torch.Tensor, seed: int = 0) -> Memorisation:
    """Does the generator copy? Compare distances to training and to held-out data at equal size.

    Parameters
    ----------
    generated, train, held_out : ``(n, ...)`` samples on one grid and scale.
    seed : of the draw that cuts the larger of the two references to the size of the smaller, because the
        nearest of many lies closer than the nearest of few.

    Returns
    -------
    Memorisation : medians, and the share of generated samples closer to training than to held-out data
        (about 0.5 without copying).
    """
    size = min(len(train), len(held_out))
    generator = torch.Generator().manual_seed(seed)
    train = train[torch.randperm(len(train), generator=generator)[:size].to(train.device)]
    held_out = held_out[torch.randperm(len(held_out), generator=generator)[:size].to(held_out.device)]
    near_train, near_held = nearest_distance(generated, train), nearest_distance(generated, held_out)
    return Memorisation(
        to_train=float(near_train.median()),
        to_held_out=float(near_held.median()),
        held_out_to_train=float(nearest_distance(held_out, train).median()),
        closer_to_train=float((near_train < near_held).double().mean()),
    )


def centred(s: torch.Tensor, beam: ParallelBeam) -> torch.Tensor:
    """Sinograms over their mean, their objects moved so that the centre of mass is in the middle, ``(n, views, bins)``.

    By Helgason and Ludwig the first moment of a sinogram over its zeroth is ``x cos(phi) + y sin(phi)`` with (x, y) the
    centre of mass; that sine is fitted over the views, and each view is shifted by it (band-limited, zero outside).

    Raises
    ------
    AllpetError : as :func:`allpet.metrics.features.unit_mean`; sinograms of another shape than the beam's.
    """
    s = unit_mean(s)
    if tuple(s.shape[1:]) != beam.shape:
        raise AllpetError(f"sinograms are {tuple(s.shape[1:])}, the beam has {beam.shape}; they must agree")
    phi = torch.from_numpy(beam.angles).to(s.device)
    where = torch.arange(beam.bins, device=s.device, dtype=torch.float64) - (beam.bins - 1) / 2
    basis = torch.stack([phi.cos(), phi.sin()])
    first = (s.double() * where).sum(dim=-1) / s.double().sum(dim=-1).mean(dim=-1, keepdim=True)
    position = first @ torch.linalg.pinv(basis)
    shift = (position @ basis).clamp(-beam.bins / 2, beam.bins / 2)
    frequency = torch.fft.rfftfreq(2 * beam.bins, device=s.device, dtype=torch.float64)
    ramp = torch.exp(2j * math.pi * shift[..., None] * frequency)
    return torch.fft.irfft(torch.fft.rfft(s.double(), n=2 * beam.bins) * ramp, n=2 * beam.bins)[
        ..., : beam.bins
    ].float()


def _spectra(s: torch.Tensor, beam: ParallelBeam) -> torch.Tensor:
    """Angular spectra on the double cover of the centred sinograms, ``(n, frequency, radial)``.

    Bins are averaged to 64, frequencies kept up to 64. One side of the cover's spectrum and one side of the radial axis
    (the other follows from the mirror symmetry), weighted so that the sum of squared magnitudes is the squared norm.
    """
    bins = min(SIZE, beam.bins)
    side = torch.full(((bins + 1) // 2,), 2.0, device=s.device)
    if bins % 2:
        side[-1] = 1.0
    both = torch.full((min(SIZE, beam.views) + 1,), 2.0, device=s.device)
    both[0] = 1.0
    if len(both) > beam.views:  # the highest frequency of the cover's 2 * views is its own mirror
        both[-1] = 1.0
    out = []
    for part in s.split(GROUP):
        small = adaptive_avg_pool2d(centred(part, beam)[:, None], (beam.views, bins))[:, 0]
        spectrum = torch.fft.rfft(torch.cat([small, small.flip(-1)], dim=-2), dim=-2, norm="ortho")
        out.append(spectrum[:, : len(both), : len(side)] * (0.5 * both[:, None] * side).sqrt())
    return torch.cat(out)


def copy_distance(samples: torch.Tensor, reference: torch.Tensor, beam: ParallelBeam) -> torch.Tensor:
    """Distance of each sample to the nearest reference turned, moved and mirrored at will, float64 ``(n,)``.

    Both are divided by their mean, centred (:func:`centred`) and averaged to 64 bins. Over all rotations (by whole
    views, or finer so that there are at least 512) and both handednesses the least ``|sample - reference|``, over the
    sample's norm: 0 for a copy. Shifts are undone as far as the object stayed in view, magnification is not.

    The exact distance is taken to the 8 references that are nearest by signature: the magnitude of the angular spectrum
    on the double cover, which neither rotation nor reflection changes. The distance of two signatures is a lower bound
    of the exact one.

    Parameters
    ----------
    samples, reference : ``(n, views, bins)`` and ``(m, views, bins)`` on the grid of `beam`, in any unit.

    Raises
    ------
    AllpetError : as :func:`centred`.
    """
    a, b = _spectra(samples, beam), _spectra(reference, beam)
    near = torch.cdist(a.abs().flatten(1), b.abs().flatten(1)).topk(min(CANDIDATES, len(b)), largest=False).indices
    norm = a.abs().double().square().sum(dim=(-2, -1))
    other = b.abs().double().square().sum(dim=(-2, -1))
    out = []
    turns = 2 * beam.views * math.ceil(TURNS / (2 * beam.views))
    for start in range(0, len(a), GROUP):
        part, picked = a[start : start + GROUP, None], near[start : start + GROUP]
        found = b[picked].to(torch.complex128)
        best = torch.zeros(picked.shape, dtype=torch.float64, device=a.device)
        for candidate in (found, found.conj()):  # the conjugate is the mirrored object
            cross = (part.to(torch.complex128).conj() * candidate).sum(dim=-1)
            cross[..., 1:] = cross[..., 1:] / 2  # weighted for both sides of the spectrum already; irfft adds the other
            match = torch.fft.irfft(cross, n=turns, norm="forward")
            best = torch.maximum(best, match.amax(dim=-1))
        whole = norm[start : start + GROUP]
        square = (whole[:, None] + other[picked] - 2 * best).clamp_min(0).amin(dim=1)
        out.append((square / whole.clamp_min(torch.finfo(torch.float64).tiny)).sqrt())
    return torch.cat(out)


@dataclass(frozen=True)
class Audit:
    """Outcome of :func:`audit`; distances as in :func:`copy_distance`.

    Parameters
    ----------
    threshold : distance to training that the share `expected` of held-out people undercuts. share_below : of the
        generated. p_value : chance of so many or more below, were they as close to training as held-out people.
    generated, held_out : median distance to the nearest training sample. closest : least one of the generated.
    """

    threshold: float
    expected: float
    share_below: float
    p_value: float
    generated: float
    held_out: float
    closest: float

    @property
    def passed(self) -> bool:
        """No sign of copying at the 1 % level."""
        return self.p_value > 0.01


def audit(
    generated: torch.Tensor, train: torch.Tensor, held_out: torch.Tensor, beam: ParallelBeam, quantile: float = 0.01
) -> Audit:
    """Are more generated samples closer to training than held-out people ever come, whatever way they are turned?

    The threshold is the k-th smallest of the m held-out people's distances to training, k = quantile * (m + 1) rounded
    down, at least 1. Were generated and held-out samples exchangeable, the number of n generated below it would be
    beta-binomial (n; k, m + 1 - k), with mean n k / (m + 1): a binomial count whose chance is itself known from m
    people only. One-sided test.

    Parameters
    ----------
    generated, train, held_out : ``(n, views, bins)`` on the grid of `beam`, in any unit; `held_out` ideally of one
        slice a person: slices of one person are not independent.

    Raises
    ------
    AllpetError : as :func:`copy_distance`; a quantile outside (0, 0.5].
    """
    from scipy.stats import betabinom

    if not 0 < quantile <= 0.5:
        raise AllpetError(f"quantile is {quantile}; it must be above 0 and at most 0.5")
    mine, theirs = copy_distance(generated, train, beam), copy_distance(held_out, train, beam)
    m = len(theirs)
    k = max(1, math.floor(quantile * (m + 1) + 1e-9))
    threshold = theirs.sort().values[k - 1]
    below = int((mine < threshold).sum())
    return Audit(
        threshold=float(threshold),
        expected=k / (m + 1),
        share_below=below / len(mine),
        p_value=float(betabinom(len(mine), k, m + 1 - k).sf(below - 1)),
        generated=float(mine.median()),
        held_out=float(theirs.median()),
        closest=float(mine.min()),
    )
