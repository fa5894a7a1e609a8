"""Task ``low-dose``: from counts at a fraction of the dose to the expected counts at full dose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from allpet.errors import AllpetError
from allpet.scan.core import Scan
from allpet.task.gather import Gather
from allpet.task.planes import SAMPLES, Progress, bare, begin, check_samples, parts, question, temper

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
    progress: Progress | None = None,
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
    progress : called with planes done and planes in all.

    Returns
    -------
    Result: ``expected`` in counts at full dose (background included), ``std`` of it.

    Raises
    ------
    AllpetError : not counts, negative counts, a fraction outside (0, 1].
    """
    from allpet.model.allpet import Result

    check_samples(samples)
    notes: list[str] = []
    if dose_fraction is None:
        dose_fraction = scan.dose_fraction
    if dose_fraction is None:
        dose_fraction = 1.0
        notes.append("dose fraction unknown: these are the expected counts at the scan's own dose")
    if not 0 < dose_fraction <= 1:
        raise AllpetError(f"dose fraction is {dose_fraction}; it must be above 0 and at most 1")
    scan, words = begin("low-dose", model, scan, prompt, notes)
    translator = model.translator_of("low-dose")
    factor = temper(model, "low-dose", "sinogram")
    gather = Gather(model, "low-dose", words, images)
    expected, spread = [], []
    for part in parts(model, scan, scan.attenuation, progress):
        gather.look(part)
        with torch.no_grad():
            mean, doubt = translator(part.seen.views, question("low-dose", words, part))
        image = gather.trusted(part, mean[:, 0])
        gather.keep(part, image, doubt[:, 0])
        expected.append((part.trues(part.corrected(image, model)) + part.background) / dose_fraction)
        if samples:
            spread.append(part.deviation(image, doubt[:, 0], samples, seed, model) * (factor / dose_fraction))
    full = None if scan.background is None else scan.background / dose_fraction
    result = bare(scan.with_sinogram(torch.cat(expected), background=full, dose_fraction=1.0))
    std = result.with_sinogram(torch.cat(spread), background=None) if spread else None
    return Result(result, std, (*notes, *gather.notes()), gather.extras(scan), gather.strangeness)
