"""Task ``attenuation``: what would have been counted without attenuation, and the attenuation itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.mask.region import Region
from allpet.project import Projector
from allpet.recon.mumap import resample_mumap
from allpet.scan.carry import Carrier
from allpet.scan.core import Image, Scan
from allpet.scan.corrected import ATTENUATION, BACKGROUND
from allpet.scan.mumap import WATER
from allpet.scan.rebin import segments_of_header
from allpet.scan.units import MU
from allpet.task.gather import Gather
from allpet.task.grains import draws
from allpet.task.planes import (
    PLANES,
    SAMPLES,
    Progress,
    Words,
    bare,
    begin,
    check_samples,
    parts,
    question,
    working_beam,
)
from allpet.task.point import Pointed
from allpet.task.temper import temper

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET, Result

BODY = 0.5
"""Attenuation in units of water's above which a pixel counts as body."""
LEAST = 1e-3
"""Smallest attenuation factor that is corrected."""


def attenuation(
    model: AllPET,
    scan: Scan,
    ct: Image | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    prompt: str | None = None,
    images: bool = False,
    roi: Sequence[Region] | None = None,
    progress: Progress | None = None,
    first_plane: int = 0,
) -> Result:
    """Expected counts without attenuation and background, on the scan's own grid, and the mu map.

    Without `ct` the attenuation is predicted from the counts alone; the scan's own attenuation factors, if it has any,
    are not used. The counts are then restored with the factors ``exp(-A mu)`` of that map.

    Parameters
    ----------
    ct : attenuation image in 1/mm at 511 keV, used instead of the prediction, which is compared with it.
    samples, seed : draws behind the standard deviation: of the image, and of the mu map where it is predicted.
    prompt : default: what the scan says.
    images : give the corrected image and its standard deviation, too. roi : regions to attend to in it, on the grid of
        the scan's quick image. progress : called with steps done and in all. first_plane : as
        :func:`allpet.task.low_dose.low_dose`.

    Returns
    -------
    Result: ``expected`` in counts (efficiency of the detectors included, as a scan without a patient would have it),
    ``std`` of it; ``extras["-mumap"]`` in 1/mm.

    Raises
    ------
    AllpetError : not counts, negative counts, or a `ct` that is no attenuation.
    """
    check_samples(samples)
    notes: list[str] = []
    scan, words = begin("attenuation", model, scan, prompt, notes)
    if ct is not None and len(ct) > 1 and segments_of_header(scan) is not None:
        raise AllpetError("planes of several segments do not lie as those of a CT; convert the scan with --rebin first")
    if scan.background is not None:
        notes.append("background taken as given: scatter that was estimated with another mu map may not fit this one")
    beam = working_beam(scan, *model.beam.shape)
    grid = beam.image_grid()
    own = ImageGrid(beam.bins, grid.pixel_mm)
    predicted, doubt = _predict(model, scan, words, _share(progress, 0))
    mumap = predicted
    if ct is not None:
        mumap = resample_mumap(ct, own, len(scan), scan.plane_mm, stacked=scan.neighbours)
        notes.append(agreement(predicted, mumap))
    else:
        notes.append("the mu map is predicted from the emission alone: look at it before you trust the correction")
        if scan.attenuation is not None:
            notes.append("the scan's own attenuation factors were not used")
    projector, carrier = Projector(beam, own), Carrier(scan.geometry, beam)

    def depth(mu: torch.Tensor) -> torch.Tensor:
        """Line integrals at the scan's lines."""
        return torch.cat([carrier.up(projector(x)) for x in mu.split(PLANES)])

    corrector = model.translator_of("low-dose")
    factors = (-depth(mumap)).exp().clamp_min(LEAST)
    gather, pointed = Gather(model, "low-dose", words, scan, images), Pointed(model, "low-dose", scan, roi, seed)
    expected, spread = [], []
    for part in parts(model, scan, factors, _share(progress, len(scan)), first_plane=first_plane):
        some = slice(part.first, part.first + len(part))
        lost = factors[some]
        gather.look(part)
        asked = question("low-dose", words, part)
        with torch.no_grad():
            mean, own_doubt = corrector(part.seen.views, asked)
        without = gather.informed(part, mean[:, 0], own_doubt[:, 0])
        image, own_spread = pointed.look(part, without, own_doubt[:, 0])
        pointed.keep(part, without, image, own_spread)
        gather.keep(part, image, own_spread, asked)
        expected.append(part.trues(part.corrected(image, model)) / lost)
        if samples:
            wobble = torch.zeros_like(lost)
            if ct is None:  # a map that is given is taken as it is
                own_depth = depth(mumap[some])
                drawn = draws("attenuation", mumap[some], doubt[some], samples, seed, first_plane + part.first)
                off = [depth(mu) - own_depth for mu in drawn]
                wobble = expected[-1] * torch.stack(off).exp().std(dim=0)
            noise = part.deviation("low-dose", image, own_spread, samples, seed, model) / lost
            factor = temper(model, "sinogram", question("attenuation", words, part))
            spread.append((wobble.square() + noise.square()).sqrt() * factor)
    result = bare(scan.with_sinogram(torch.cat(expected), attenuation=None, background=None), ATTENUATION, BACKGROUND)
    std = result.with_sinogram(torch.cat(spread)) if spread else None
    written = Image(mumap, own, MU, plane_mm=scan.plane_mm, **scan.acquired())
    return gather.result(result, std, notes, pointed, {"-mumap": written})


def _share(progress: Progress | None, done: int) -> Progress | None:
    """Progress of one of two passes over the planes."""
    if progress is None:
        return None
    return lambda planes, total: progress(planes + done, 2 * total)


def _predict(model: AllPET, scan: Scan, words: Words, progress: Progress | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mu maps and their standard deviations as the network states them (the sinogram's factor is fitted
    to these), on the model's grid, ``(n, bins, bins)`` in 1/mm."""
    translator = model.translator_of("attenuation")
    found = []
    for part in parts(model, scan, None, progress):
        asked = question("attenuation", words, part)
        with torch.no_grad():
            mean, doubt = translator(part.seen.views, asked)
        found.append(torch.stack([mean[:, 0], doubt[:, 0]]) * WATER)
    mu, deviation = torch.cat(found, dim=1)
    return mu, deviation


def agreement(predicted: torch.Tensor, given: torch.Tensor) -> str:
    """How far a prediction agrees with a mu map that was given, in a sentence."""
    body = given > BODY * WATER
    if not bool(body.any()):
        return "the mu map that was given is empty inside of the field of view"
    mine, theirs = predicted[body], given[body]
    outline = (predicted > BODY * WATER) & body
    dice = 2 * float(outline.sum()) / float((predicted > BODY * WATER).sum() + body.sum())
    bias = 100 * float(mine.mean() / theirs.mean() - 1)
    error = 100 * float((mine - theirs).abs().mean() / theirs.mean())
    return (
        f"mu map given and used; the prediction from the emission differs from it by {bias:+.1f} % in the mean and "
        f"{error:.1f} % per pixel of the body (outlines: Dice {dice:.2f})"
    )
