"""Task ``low-dose``: from counts at a fraction of the dose to the expected counts at full dose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from allpet.errors import AllpetError
from allpet.io.header import THINNING
from allpet.mask.region import Region
from allpet.scan.core import Scan
from allpet.task.gather import Gather
from allpet.task.planes import SAMPLES, Progress, bare, begin, check_samples, parts, question
from allpet.task.point import Pointed
from allpet.task.temper import temper

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET, Result


def low_dose(
    model: AllPET,
    scan: Scan,
    dose_fraction: float | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    prompt: str | None = None,
    images: bool = False,
    roi: Sequence[Region] | None = None,
    progress: Progress | None = None,
    first_plane: int = 0,
) -> Result:
    """Expected full-dose counts of every plane, on the scan's own grid.

    The restorer gives the expected emission on the model's grid. The translator corrects its image (only where tracer
    and region are known and the planes are familiar) and states the error. The emission is carried to the scan's own
    lines, where what it left unexplained is put back as far as it stands out of Poisson noise.

    Parameters
    ----------
    scan : prompts, with what is known of efficiency and background (randoms are estimated from delayeds).
    dose_fraction : share of the full dose in `scan`; default: what the scan says, else 1 (the scan's own dose).
    samples : draws behind the standard deviation; 0 for none. seed : of the draws.
    prompt : default: what the scan says. images : give the image and its standard deviation, too.
    roi : regions to attend to, on the grid of the scan's quick image (see :mod:`allpet.task.point`).
    progress : called with planes done and planes in all.
    first_plane : number of the scan's first plane where it is a part of a longer one: draws go by plane.

    Returns
    -------
    Result: ``expected`` in counts at full dose (background included), ``std`` of it.

    Raises
    ------
    AllpetError : not counts, negative counts, a fraction outside (0, 1].
    """
    check_samples(samples)
    notes: list[str] = []
    shares = _shares(scan, dose_fraction, notes)
    scan, words = begin("low-dose", model, scan, prompt, notes)
    translator = model.translator_of("low-dose")
    per_unit = None if scan.counts_per_unit is None else scan.counts_per_unit / shares  # of the same activity
    known: dict[str, Any] = dict(dose_fraction=1.0, dose_fractions=None, counts_per_unit=per_unit)
    gather = Gather(model, "low-dose", words, replace(scan, **known), images)
    pointed = Pointed(model, "low-dose", scan, roi, seed)
    full = _full_background(scan, shares[:, None, None].float())
    expected, deviations = [], []
    for part in parts(model, scan, scan.attenuation, progress, first_plane=first_plane):
        gather.look(part)
        some = slice(part.first, part.first + len(part))
        share = shares[some, None, None].float()
        asked = question("low-dose", words, part)
        with torch.no_grad():
            mean, doubt = translator(part.seen.views, asked)
        without = gather.informed(part, mean[:, 0], doubt[:, 0])
        image, spread = pointed.look(part, without, doubt[:, 0])
        pointed.keep(part, without, image, spread)
        gather.keep(part, image / share, spread / share, asked)
        trues = part.trues(part.corrected(image, model)) / share
        expected.append(trues if full is None else trues + full[some])
        if samples:
            factor = temper(model, "sinogram", asked) / share
            deviations.append(part.deviation("low-dose", image, spread, samples, seed, model) * factor)
    result = bare(scan.with_sinogram(torch.cat(expected), background=full, **known))
    std = result.with_sinogram(torch.cat(deviations), background=None) if deviations else None
    return gather.result(result, std, notes, pointed)


def _full_background(scan: Scan, share: torch.Tensor) -> torch.Tensor | None:
    """Background at full dose. A lower dose that is a lower activity makes randoms fewer by the square of the share."""
    if scan.background is None:
        return None
    if scan.randoms is None or scan.header.get(THINNING) != "activity":
        return scan.background / share
    return (scan.background - scan.randoms) / share + scan.randoms / share.square()


def _shares(scan: Scan, dose_fraction: float | None, notes: list[str]) -> torch.Tensor:
    """Share of the full dose in every plane, float64 ``(n,)``: what is given, else what the scan says, else 1."""
    given = scan.dose_fraction if dose_fraction is None else dose_fraction
    if given is None and scan.dose_fractions is not None:
        shares = scan.dose_fractions
    else:
        shares = torch.full((len(scan),), 1.0 if given is None else float(given), dtype=torch.float64)
        if given is None:
            notes.append("dose fraction unknown: these are the expected counts at the scan's own dose")
    wrong = [float(value) for value in shares if not 0 < value <= 1]
    if wrong:
        raise AllpetError(f"dose fraction is {wrong[0]:g}; it must be above 0 and at most 1")
    return shares
