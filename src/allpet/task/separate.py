"""Task ``separate``: two tracers in one scan, taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from allpet.errors import AllpetError
from allpet.mask import split
from allpet.mask.region import Region
from allpet.model.prompt import TRACERS as WORDS
from allpet.scan.core import Scan
from allpet.scan.corrected import BACKGROUND
from allpet.scan.tracers import TRACERS
from allpet.task.gather import Gather
from allpet.task.planes import (
    SAMPLES,
    Part,
    Progress,
    bare,
    begin,
    calibration_for,
    check_samples,
    first_tracer,
    header_of_another,
    parts,
    question,
)
from allpet.task.point import Pointed
from allpet.task.temper import temper

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET, Result

SMALL = 1e-3
"""Share of a plane's peak that is added to both tracers, so that their shares are defined where nothing is."""


def share_of(part: Part, images: torch.Tensor, model: AllPET) -> torch.Tensor:
    """The first tracer's share of every bin at the scan's lines, in [0, 1], from both images ``(n, 2, bins, bins)``."""
    one, two = (part.up(part.counts_of(x, model)) for x in images.unbind(1))
    small = SMALL * (one + two).amax(dim=(-2, -1), keepdim=True).clamp_min(1e-9)
    return ((one + small) / (one + two + 2 * small)).clamp(0, 1)


def separate(
    model: AllPET,
    scan: Scan,
    samples: int = SAMPLES,
    seed: int = 0,
    prompt: str | None = None,
    images: bool = False,
    roi: Sequence[Region] | None = None,
    progress: Progress | None = None,
    first_plane: int = 0,
) -> Result:
    """Trues of either tracer; their sum is the restored trues of both, to the bit.

    The image is split into two that are >= 0 and sum to it; their projections give each tracer's share of every bin.
    Dynamic frames, where the scan brings some, are used: after a staggered injection they tell the tracers apart.

    Parameters
    ----------
    prompt : such as ``"FDG + PSMA abdomen"``; default: what the scan says. Others as
        :func:`allpet.task.low_dose.low_dose`.

    Returns
    -------
    Result: ``expected`` is the first tracer's trues in counts (attenuated, without background), ``std`` of it (the
    second's is the same: their sum is fixed); ``extras["-second"]`` the second tracer's.

    Raises
    ------
    AllpetError : as :func:`allpet.task.planes.begin`; not two different tracers.
    """
    check_samples(samples)
    notes: list[str] = []
    scan, words = begin("separate", model, scan, prompt, notes)
    if words.tracer not in TRACERS or words.to not in TRACERS or words.tracer == words.to:
        raise AllpetError(
            f"separate needs two different tracers, as in the prompt 'FDG + PSMA abdomen'; known: {', '.join(WORDS)}"
        )
    dynamic = scan.dynamic is not None
    if not dynamic:
        notes.append("no dynamic frames: told apart by organs alone, which is far less certain")
    translator = model.translator_of("separate")
    own = first_tracer(scan) or words.tracer  # whose activity and calibration the scan states
    known: list[dict[str, Any]] = []
    for word in (words.tracer, words.to):
        facts = dict(tracer=word, isotope=TRACERS[word].isotope.name, **calibration_for(scan, own, word))
        known.append(
            facts
            if word == own
            else {**facts, "injected_mbq": None, "start_s": None, "header": header_of_another(scan)}
        )
    shown = replace(scan, **known[0])
    gather, pointed = (
        Gather(model, "separate", words, shown, images),
        Pointed(model, "separate", scan, roi, seed, shown),
    )
    first, second, spread = [], [], []
    for part in parts(model, scan, scan.attenuation, progress, dynamic, first_plane):
        ask = question("separate", words, part, frames=dynamic)
        gather.look(part)
        seen, part = part, pointed.attended(part)
        with torch.no_grad():
            mean, doubt = translator(part.seen.views, ask)
            without = mean if part is seen else translator(seen.seen.views, ask)[0]
        pointed.keep(part, without[:, 0], mean[:, 0], doubt[:, 0])
        gather.keep(part, mean[:, 0], doubt[:, 0], ask)
        mine, theirs = split(part.trues(), share_of(part, mean, model))
        first.append(mine)
        second.append(theirs)
        if samples:
            factor = temper(model, "sinogram", ask)
            spread.append(part.deviation("separate", mean[:, 0], doubt[:, 0], samples, seed, model) * factor)
    both = zip((first, second), known, strict=True)
    result, other = (
        bare(scan.with_sinogram(torch.cat(planes), background=None, **facts), BACKGROUND) for planes, facts in both
    )
    std = result.with_sinogram(torch.cat(spread)) if spread else None
    return gather.result(result, std, notes, pointed, {"-second": other})
