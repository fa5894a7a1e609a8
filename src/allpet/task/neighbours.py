"""Planes that lie next to each other, restored together: each borrows from those beside it as much as noise asks for.

Planes are restored one by one, so their noise is independent, while a body changes little from one to the next. With
``D_m = x[k - m] + x[k + m] - 2 x[k]`` for m = 1 to 4 the estimate of plane k is ``x[k] + sum_m a_m D_m``, in every
dyadic band of the double cover's Fourier plane with weights of its own. They minimise Stein's unbiased estimate of
the square error (Stein, Ann. Statist. 9(6), 1981)::

    |sum_m a_m D_m|^2 - 2 r sum_m n_m a_m + r,      so      sum_j <D_i, D_j> a_j = n_i r

with r the energy of a plane's noise and n_m the number of neighbours at distance m. Nothing is fitted and nothing is
assumed of the body: where planes differ by more than noise, the weights are small. r is measured: every plane is
restored a second time from half of its counts, and the energy of the difference is r in expectation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch

from allpet.task.put_back import dyadic, spectrum_of, strip_of

if TYPE_CHECKING:
    from allpet.model.restorer import Restorer
    from allpet.task.seen import Counts

LEAST = 3
"""Planes from which on they are restored together."""
WINDOW = 6
"""Planes to either side over which energies are averaged."""
BLOCK = 32
DISTANCES = (1, 2, 3, 4)
HALVES = 0x68616C66
"""Names the stream of random numbers behind halves of counts. Draws go by (seed, plane, sample): it stands in the place
of a sample as well, so that no seed shares the stream."""


def events(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts as whole numbers >= 0, those in between (of an arc correction) rounded up or down at random so that no
    count is lost in the mean; whole ones take nothing from the generator."""
    counts = counts.clip(0)
    low = np.floor(counts).astype(np.int64)
    part = counts - low
    return low + (rng.random(counts.shape) < part) if part.any() else low


def half_of(counts: torch.Tensor, first: int) -> torch.Tensor:
    """Half of the counts ``(n, view, radial)``, drawn by binomial thinning; a plane's draw goes by its number."""
    drawn = []
    for k, plane in enumerate(counts.numpy()):
        rng = np.random.default_rng([HALVES, first + k, HALVES])
        drawn.append(rng.binomial(events(plane, rng), 0.5))
    return torch.from_numpy(np.stack(drawn).astype(np.float32))


@torch.no_grad()
def restored_together(
    restorer: Restorer, chunks: Iterable[tuple[Counts, torch.Tensor, torch.Tensor | float]]
) -> torch.Tensor:
    """Emission of all planes at efficiency 1 ``(n, views, bins)``, each with what it shares with its neighbours.

    Parameters
    ----------
    chunks : a few planes at a time on the model's grid, half of their counts, and the efficiency that is 1 in them
        (a number, or ``(n, 1, 1)``).
    """
    found, alive = [], []
    for coarse, half, peak in chunks:
        planes, halves = (
            restorer(counts, coarse.efficiency, background, coarse.bin_mm) / (share * peak)
            for counts, background, share in ((coarse.counts, coarse.background, 1), (half, coarse.background / 2, 0.5))
        )
        found.append((planes, halves))
        alive.append((coarse.efficiency > 0).any(dim=(-2, -1)))
    whole, halved = (torch.cat(planes) for planes in zip(*found, strict=True))
    live = torch.cat(alive)  # a plane that nothing was measured in has nothing to lend
    whole[live], whole[~live] = together(whole[live], halved[live]), 0.0
    return whole


def together(planes: torch.Tensor, halves: torch.Tensor) -> torch.Tensor:
    """Restored planes with what they share with their neighbours, ``(n, view, radial)``, >= 0.

    Parameters
    ----------
    planes : restored one by one, of one unit. halves : the same from half of the counts, doubled.
    """
    n, (views, bins) = len(planes), planes.shape[-2:]
    bands = dyadic(2 * views, bins // 2 + 1)
    number = int(bands.max()) + 1
    far = len(DISTANCES)
    energy, noise = torch.zeros(n, number, far, far), torch.zeros(n, number)
    for start in range(0, n, BLOCK):
        own, differences = _around(planes, start)
        for i, one in enumerate(differences):
            for j, other in enumerate(differences):
                energy[start : start + len(own), :, i, j] = by_band((one.conj() * other).real, bands, number)
        left = own - spectrum_of(halves[start : start + BLOCK])
        noise[start : start + len(own)] = by_band(left.abs().square(), bands, number)
    there = torch.arange(n)[:, None]
    beside = torch.stack([(there >= m).float() + (there < n - m).float() for m in DISTANCES], dim=-1)
    weights = _weights(_averaged(energy), _averaged(beside * noise[..., None]))
    out = torch.empty_like(planes)
    for start in range(0, n, BLOCK):
        own, differences = _around(planes, start)
        for k, one in enumerate(differences):
            own = own + weights[start : start + len(own), bands, k] * one
        out[start : start + len(own)] = strip_of(own, views, bins)
    return out.clamp_min(0)


def _around(planes: torch.Tensor, start: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Spectra of a block of planes, and of their differences from those at each distance, where there are any."""
    n, far = len(planes), max(DISTANCES)
    low, high, stop = max(start - far, 0), min(start + BLOCK + far, n), min(start + BLOCK, n)
    spectra, here = spectrum_of(planes[low:high]), torch.arange(start, stop)
    own = spectra[here - low]
    differences = []
    for m in DISTANCES:
        sides = [torch.where((here + s >= 0) & (here + s < n), here + s, here) - low for s in (-m, m)]
        differences.append(spectra[sides[0]] + spectra[sides[1]] - 2 * own)
    return own, differences


def by_band(values: torch.Tensor, bands: torch.Tensor, number: int) -> torch.Tensor:
    """Sums over each band, ``(n, rows, columns) -> (n, number)``."""
    return torch.zeros(len(values), number).index_add_(1, bands.flatten(), values.flatten(1))


def _averaged(values: torch.Tensor) -> torch.Tensor:
    """Sums over the planes of a window about each one, ``(n, ...)``."""
    total = torch.cat([torch.zeros_like(values[:1]), values]).double().cumsum(dim=0)
    place = torch.arange(len(values))
    high, low = (place + WINDOW + 1).clamp_max(len(values)), (place - WINDOW).clamp_min(0)
    return (total[high] - total[low]).float()


def _weights(energy: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Weights ``(n, bands, far)`` from energies ``(n, bands, far, far)`` and noise ``(n, bands, far)``.

    None is below 0 (where some would be, the farthest go without), and all together leave a plane no less than an even
    mean of them would.
    """
    out, found = torch.zeros_like(noise), torch.zeros(noise.shape[:-1], dtype=torch.bool)
    for far in range(noise.shape[-1], 0, -1):
        some, wanted = energy[..., :far, :far], noise[..., :far]
        size = some.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[..., None, None].clamp_min(1e-20)
        weights = torch.linalg.solve(some / size + 1e-6 * torch.eye(far), wanted / size[..., 0])
        fits = (weights >= 0).all(dim=-1) if far > 1 else torch.ones_like(found)
        most = far / (2 * far + 1)
        weights = weights.clamp_min(0)
        weights = weights * (most / weights.sum(dim=-1, keepdim=True).clamp_min(most))
        out[..., :far] = torch.where((fits & ~found)[..., None], weights, out[..., :far])
        found |= fits
    return out
