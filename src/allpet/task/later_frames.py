"""What a static scan of two tracers shares with the later of its dynamic frames, borrowed from them.

These frames are counts of their own of nearly the same activity. With x the restored static scan, y that of the frames
(brought to its sum) and D = y - x, the estimate is ``x + a D``, in every dyadic band of the double cover's Fourier
plane with a weight that minimises Stein's unbiased estimate of the square error, ``a = r / |D|^2`` in [0, 1]. The
energy r of x's noise is measured by restoring half of its counts, as :mod:`allpet.task.neighbours` does for planes.
Where the two differ by more than noise, little is borrowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from allpet.task.neighbours import by_band
from allpet.task.put_back import dyadic, spectrum_of, strip_of

if TYPE_CHECKING:
    from allpet.model.restorer import Restorer
    from allpet.task.seen import Counts, Frames

LATER = 3
"""Of the six frames; by then both tracers have been injected."""


@torch.no_grad()
def borrowed(
    restorer: Restorer, scan: Counts, emission: torch.Tensor, half: torch.Tensor, frames: Frames
) -> torch.Tensor:
    """The restored emission ``(n, views, bins)`` with what it shares with the later frames, >= 0.

    Parameters
    ----------
    emission : restored from `scan`, efficiency 1. half : half of the scan's counts, thinned ``(n, views, bins)``.
    """
    again = 2 * restorer(half, scan.efficiency, scan.background / 2, scan.bin_mm)
    counts, background = (x[:, -LATER:].sum(dim=1) for x in (frames.counts, frames.background))
    other = restorer(counts, scan.efficiency, background, scan.bin_mm)
    total = other.sum(dim=(-2, -1), keepdim=True)
    other = other * (emission.sum(dim=(-2, -1), keepdim=True) / total.clamp_min(1e-6))
    views, bins = emission.shape[-2:]
    bands = dyadic(2 * views, bins // 2 + 1)
    number = int(bands.max()) + 1
    own = spectrum_of(emission)
    off = spectrum_of(other) - own
    noise, energy = (by_band(x.abs().square(), bands, number) for x in (own - spectrum_of(again), off))
    weight = (noise / energy.clamp_min(1e-20)).clamp(0, 1) * (total[:, 0] > 0)
    return strip_of(own + weight[:, bands] * off, views, bins).clamp_min(0)
