"""Tasks ``delayed`` and ``convert``: another scan of the same patient, predicted from this one.

Both multiply what was measured, at the scan's own resolution, with the ratio of the predicted to the present image's
projection. Neither is a measurement: they say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from allpet.errors import AllpetError
from allpet.mask.region import Region
from allpet.model.prompt import TRACERS as WORDS
from allpet.model.restorer import gaussian_blur
from allpet.scan.core import Image, Scan
from allpet.scan.corrected import BACKGROUND
from allpet.scan.kinetics import ISOTOPES
from allpet.scan.simulate import find_tracer_word
from allpet.scan.tracers import TRACERS
from allpet.task.gather import Gather
from allpet.task.planes import (
    SAMPLES,
    Progress,
    Words,
    bare,
    begin,
    calibration_for,
    check_samples,
    first_tracer,
    header_of_another,
    parts,
    question,
    working_beam,
)
from allpet.task.point import Pointed
from allpet.task.temper import temper

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET, Result

SEEN, SMOOTH = 0.05, 1.0
"""Uptake, in units of the scan, below which a retention index says nothing; standard deviation in pixels of the
smoothing of both images before their ratio is taken."""
DELAYS = (10.0, 240.0)
"""Minutes between the frames that can be asked for."""


def delayed(
    model: AllPET,
    scan: Scan,
    delay_minutes: float | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    prompt: str | None = None,
    images: bool = False,
    roi: Sequence[Region] | None = None,
    progress: Progress | None = None,
    first_plane: int = 0,
) -> Result:
    """Trues of a frame of the same length that starts `delay_minutes` after this one, predicted.

    Parameters
    ----------
    scan : counts of the first frame. delay_minutes : from start to start, 10 to 240; default: what is usual for the
        tracer. samples, seed, prompt, images, roi, progress, first_plane : as :func:`allpet.task.low_dose.low_dose`.

    Returns
    -------
    Result: ``expected`` trues in counts (attenuated and decayed like a scan, without background), ``std`` of it;
    ``extras["-retention"]``, the retention index in percent: decay-corrected change of the uptake over the first.

    Raises
    ------
    AllpetError : as :func:`allpet.task.planes.begin`; a tracer that is not known; a delay out of range.
    """
    notes: list[str] = []
    scan, words = begin("delayed", model, scan, prompt, notes)
    if words.tracer not in TRACERS:
        raise AllpetError(f"delayed needs the tracer, for its decay; name it in the prompt, one of {', '.join(WORDS)}")
    tracer = TRACERS[words.tracer]
    if scan.isotope is not None and scan.isotope != tracer.isotope.name:
        raise AllpetError(
            f"the scan says isotope {scan.isotope}, but {words.tracer} is of {tracer.isotope.name} here: a later frame "
            "cannot be told; correct the header if it is wrong"
        )
    if delay_minutes is None:
        delay_minutes = (tracer.delayed_s[0] - tracer.first_s[0]) / 60
        notes.append(f"delay not given: {delay_minutes:g} min, as is usual for {words.tracer}")
    if not DELAYS[0] <= delay_minutes <= DELAYS[1]:
        raise AllpetError(f"delay is {delay_minutes:g} min; it must be {DELAYS[0]:g} to {DELAYS[1]:g}")
    decay = float(ISOTOPES[tracer.isotope.name].decay(60 * delay_minutes))
    notes.append("a prediction of a later frame, not a measurement")
    start = None if scan.start_s is None else scan.start_s + 60 * delay_minutes
    per_unit = scan.counts_per_unit
    if scan.decay_reference == "injection" and per_unit is not None:
        per_unit = per_unit * decay  # the same activity at injection gives fewer counts later
    told = (scan, replace(scan, start_s=start, counts_per_unit=per_unit), words)
    return _predict(
        "delayed", model, *told, samples, seed, images, roi, progress, first_plane, notes, delay_minutes, decay
    )


def convert(
    model: AllPET,
    scan: Scan,
    to: str | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    prompt: str | None = None,
    images: bool = False,
    roi: Sequence[Region] | None = None,
    progress: Progress | None = None,
    first_plane: int = 0,
) -> Result:
    """Trues that another tracer's usual scan of the same patient would show, predicted.

    Parameters
    ----------
    to : the tracer wanted. Other parameters as :func:`delayed`.

    Returns
    -------
    Result: ``expected`` trues in counts (attenuated, without background), ``std`` of it.

    Raises
    ------
    AllpetError : as :func:`allpet.task.planes.begin`; no tracer wanted, an unknown one, or the one that the scan has.
    """
    notes: list[str] = []
    scan, words = begin("convert", model, scan, prompt, notes)
    if to is None:
        raise AllpetError(f"convert needs the tracer that is wanted: give one of {', '.join(WORDS)}")
    wanted = find_tracer_word(to)
    if wanted not in model.tracers:
        raise AllpetError(f"this model knows no {wanted}; it can convert to {', '.join(model.tracers)}")
    if wanted == words.tracer:
        raise AllpetError(f"tracer '{to}' is what the scan has already; name another to convert to")
    if words.tracer is None:
        notes.append("the scan's tracer is unknown: name it in the prompt for a better prediction")
    notes.append(
        f"a prediction of what {wanted} would show, not a measurement: uptake that the first tracer "
        "does not betray cannot be in it"
    )
    words = Words(words.tracer, wanted, words.region)
    shown = replace(
        scan,
        tracer=wanted,
        isotope=TRACERS[wanted].isotope.name,
        **calibration_for(scan, first_tracer(scan) or words.tracer, wanted),
        injected_mbq=None,
        start_s=None,
        header=header_of_another(scan),
    )
    return _predict("convert", model, scan, shown, words, samples, seed, images, roi, progress, first_plane, notes)


def _predict(
    task: str,
    model: AllPET,
    scan: Scan,
    shown: Scan,
    words: Words,
    samples: int,
    seed: int,
    images: bool,
    roi: Sequence[Region] | None,
    progress: Progress | None,
    first_plane: int,
    notes: list[str],
    delay_minutes: float | None = None,
    decay: float = 1.0,
) -> Result:
    """The prediction, plane by plane; `shown`: what is known of the scan that is predicted."""
    check_samples(samples)
    if words.region is None:
        notes.append("the region is unknown: name it in the prompt for a better prediction")
    translator, corrector = model.translator_of(task), model.translator_of("low-dose")
    gather, pointed = Gather(model, task, words, shown, images), Pointed(model, task, scan, roi, seed, shown)
    expected, spread, change = [], [], []
    for part in parts(model, scan, scan.attenuation, progress, first_plane=first_plane):
        ask = question(task, words, part, delay_minutes, decay)
        gather.look(part)
        seen, part = part, pointed.attended(part)
        with torch.no_grad():
            mean, doubt = translator(part.seen.views, ask)
            without = mean if part is seen else translator(seen.seen.views, ask)[0]
        image = mean[:, 0]
        pointed.keep(part, without[:, 0], image, doubt[:, 0])
        gather.keep(part, image, doubt[:, 0], ask)
        expected.append(part.ratio(image, model) * part.trues())
        if task == "delayed":
            with torch.no_grad():
                now = corrector(part.seen.views, question("low-dose", words, part))[0][:, 0]
            own = gather.trusted(part, now, "low-dose") * decay  # as far corrected as the later image is
            change.append(_index(own, image))
        if samples:
            factor = temper(model, "sinogram", ask)
            spread.append(part.deviation(task, image, doubt[:, 0], samples, seed, model) * factor)
    result = bare(shown.with_sinogram(torch.cat(expected), background=None), BACKGROUND)
    std = result.with_sinogram(torch.cat(spread)) if spread else None
    extras: dict[str, Scan | Image] = {}
    if task == "delayed":
        grid = working_beam(scan, *model.beam.shape).image_grid()
        known = {**scan.acquired(), "decay_reference": None}
        extras["-retention"] = Image(torch.cat(change), grid, "%", plane_mm=scan.plane_mm, **known)
    return gather.result(result, std, notes, pointed, extras)


def _index(first: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
    """Retention index in percent of two images ``(n, bins, bins)``, the first one decayed to the later's time."""
    first, later = (gaussian_blur(x, SMOOTH) for x in (first, later))
    return torch.where(first > SEEN, 100 * (later / first.clamp_min(SEEN) - 1), 0.0)
