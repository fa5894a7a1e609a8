"""Task ``low-dose``: from counts at a fraction of the dose to the expected counts at full dose.

The restorer gives the expected emission on the model's grid; it is carried to the scan's own
lines, where what it left unexplained is put back as far as it stands out of Poisson noise;
restoring counts drawn from the estimate, several times over, gives the standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.scan.arc import line_coordinates
from allpet.scan.core import Scan
from allpet.scan.randoms import with_randoms
from allpet.scan.units import COUNTS
from allpet.task.carry import Carrier

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET, Result
    from allpet.model.restorer import Restorer

PLANES = 4  # planes at a time: bounds the memory


def low_dose(
    model: AllPET,
    scan: Scan,
    dose_fraction: float | None = None,
    samples: int = 4,
    seed: int = 0,
    prompt: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Expected full-dose counts of every plane, on the scan's own grid.

    Parameters
    ----------
    scan : prompts, with what is known of efficiency and background (randoms are estimated from delayeds).
    dose_fraction : share of the full dose in `scan`; default: what the scan says, else 1 (the scan's own dose).
    samples : draws behind the standard deviation; 0 for none. seed : of the draws.
    prompt : checked, but not needed: the restorer is told counts and pitch only.
    progress : called with planes done and planes in all.

    Returns
    -------
    Result: ``expected`` in counts at full dose (background included), ``std`` of it.

    Raises
    ------
    AllpetError : not counts, negative counts, a fraction outside (0, 1].
    """
    from allpet.model.allpet import Result

    if scan.unit != COUNTS:
        raise AllpetError(f"low-dose takes measured counts; this scan is in {scan.unit}")
    if bool((scan.sinogram < 0).any()):
        raise AllpetError("low-dose takes prompts; this scan has bins below zero (was a background subtracted?)")
    notes = []
    if dose_fraction is None:
        dose_fraction = scan.dose_fraction
    if dose_fraction is None:
        dose_fraction = 1.0
        notes.append("dose fraction unknown: these are the expected counts at the scan's own dose")
    if scan.background is None and scan.delayeds is None:
        notes.append("no background (randoms, scatter) is known: all counts are taken for trues")
    if not 0 < dose_fraction <= 1:
        raise AllpetError(f"dose fraction is {dose_fraction}; it must be above 0 and at most 1")
    if samples < 0 or samples == 1:
        raise AllpetError(f"samples is {samples}; a standard deviation needs at least 2 (0 for none)")
    if scan.background is None and scan.delayeds is not None:
        scan = with_randoms(scan)
    restorer = model.need("restorer")
    beam = working_beam(scan, *model.beam.shape)
    carrier = Carrier(scan.geometry, beam)
    temperature = float(model.config.get("temperature", 1.0))
    if prompt:
        model.parse(prompt)  # the restorer is told counts and pitch only; a wrong prompt is still an error

    expected, spread = [], []
    for start in range(0, len(scan), PLANES):
        part = scan.planes(slice(start, start + PLANES))
        efficiency = part.efficiency
        background = torch.zeros_like(part.sinogram) if part.background is None else part.background
        seen, eff, back = (carrier.down(x) for x in (part.sinogram, efficiency, background))
        unit = float(eff.amax()) or 1.0
        coarse = Counts(seen, eff / unit, back, torch.full((len(part),), beam.bin_mm))
        with torch.no_grad():
            emission = restorer(coarse.counts, coarse.efficiency, coarse.background, coarse.bin_mm)
        estimate = efficiency * carrier.up(emission / unit) + background
        expected.append(put_back(part.sinogram, estimate, part.live) / dose_fraction)
        if samples:
            planes = range(start, start + len(part))
            deviation = sample_spread(restorer, emission, coarse, samples, seed, planes) * temperature
            spread.append(efficiency * carrier.up(deviation / unit) / dose_fraction)
        if progress:
            progress(min(start + PLANES, len(scan)), len(scan))
    full = None if scan.background is None else scan.background / dose_fraction
    known = dict(background=full, delayeds=None, dose_fraction=1.0)
    result = scan.with_sinogram(torch.cat(expected), **known)
    std = replace(result, sinogram=torch.cat(spread), background=None) if spread else None
    return Result(result, std, tuple(notes))


class Counts(NamedTuple):
    """Planes on the model's grid: all ``(n, views, bins)``, pitch ``(n,)``."""

    counts: torch.Tensor
    efficiency: torch.Tensor
    background: torch.Tensor
    bin_mm: torch.Tensor


def working_beam(scan: Scan, views: int, bins: int) -> ParallelBeam:
    """The model's grid over the part of the field of view that holds the object.

    A parallel-beam scan of the model's own size is worked on as it is. Otherwise the half-width
    is where 99.5 % of the counts above the background lie, and a tenth more.
    """
    geometry = scan.geometry
    if isinstance(geometry, ParallelBeam) and geometry.shape == (views, bins):
        return geometry
    net = scan.sinogram if scan.background is None else scan.sinogram - scan.background
    profile = net.sum(dim=(0, 1)).double().clamp_min(0)
    radius = torch.from_numpy(line_coordinates(geometry)[1][0]).abs()
    order = radius.argsort()
    share = profile[order].cumsum(0) / profile.sum().clamp_min(1e-9)
    reach = float(radius[order][int((share < 0.995).sum().clamp_max(len(order) - 1))]) * 1.1
    return ParallelBeam(views, bins, 2 * min(max(reach, 40.0), float(radius.max())) / (bins - 1))


def put_back(counts: torch.Tensor, estimate: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
    """Add to an estimate what the data hold beyond it, frequency band by frequency band.

    The residual over its Poisson standard deviation is white noise of power 1 where the estimate
    is right. In each dyadic band of the double cover's Fourier plane the power P beyond that (and
    beyond the scatter of P itself) is signal; the band is added with Wiener's gain ``(P - 1) / P``.

    Parameters
    ----------
    counts, estimate : ``(n, view, radial)``. live : False for bins that were not measured.
    """
    spread = (estimate + 0.01 * estimate.mean(dim=(-2, -1), keepdim=True)).clamp_min(1e-6).sqrt()
    white = (counts - estimate) / spread * live
    share = live.double().mean(dim=(-2, -1)).clamp_min(1e-6).float()
    spectrum = torch.fft.rfft2(torch.cat([white, white.flip(-1)], dim=-2), norm="ortho")
    power = spectrum.abs().square() / (2 * share[:, None, None])
    rows, columns = spectrum.shape[-2:]
    along = (torch.fft.fftfreq(rows, 1 / rows).abs() + 1).log2().floor()
    across = (torch.arange(columns) + 1.0).log2().floor()
    bands = (along[:, None] * 64 + across[None, :]).long()
    gain = torch.zeros_like(power)
    for band in bands.unique():
        inside = bands == band
        mean = power[:, inside].mean(dim=1)
        noise = 1 + 3 * math.sqrt(2 / int(inside.sum()))
        gain[:, inside] = ((mean - noise) / mean.clamp_min(1e-6)).clamp_min(0)[:, None]
    change = torch.fft.irfft2(spectrum * gain, s=(rows, white.shape[-1]), norm="ortho")[..., : white.shape[-2], :]
    return (estimate + change * spread * live).clamp_min(0)


def sample_spread(
    restorer: Restorer, emission: torch.Tensor, scan: Counts, samples: int, seed: int, planes: range
) -> torch.Tensor:
    """Standard deviation of the restored emission if the scan were taken again, ``(n, views, bins)``.

    Parametric bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 6): counts are
    drawn from the estimate and restored again. Sample i of a plane depends on (seed, plane, i) alone.
    """
    expected = scan.efficiency * emission + scan.background
    draws = []
    for i in range(samples):
        rngs = [np.random.default_rng([seed, plane, i]) for plane in planes]
        rows = [rng.poisson(row.double().numpy()) for rng, row in zip(rngs, expected, strict=True)]
        again = torch.from_numpy(np.stack(rows)).float()
        with torch.no_grad():
            draws.append(restorer(again, scan.efficiency, scan.background, scan.bin_mm))
    return torch.stack(draws).std(dim=0)
