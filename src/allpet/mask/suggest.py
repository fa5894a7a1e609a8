"""Coarse segmentation: regions of an image that are worth attention, found without learning, and why.

In each plane: the outline of the body, seeds that stand out against their neighbourhood, growth to 41 % of the way
from the surroundings to the peak (50 % downwards for cold foci), cold centres within hot rims, and everything above
SUV 2.5 where SUV is known. Foci that overlap are one, the best ranked; neighbouring planes are linked. The only
numbers taken from data are the weights of the ranking (:data:`WEIGHTS`), of simulated training people.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from allpet.errors import AllpetError
from allpet.mask.body import Body, are_neighbours, find_body
from allpet.mask.foci import FIXED_SUV, RAYS, Focus, find_foci, without
from allpet.mask.region import FULL, Region, planes_words
from allpet.scan.core import Image
from allpet.scan.suv import UNITS, suv_factor
from allpet.scan.units import ACTIVITY

LIKELY = 0.1
"""Score from which on a suggestion is shown to a person."""
FEATURES = (
    "contrast",
    "z",
    "level",
    "organ",
    "mirror",
    "size",
    "size2",
    "large",
    "compact",
    "stricter",
    "depth",
    "stands",
    "rim",
    "closed",
)
WEIGHTS: dict[str, tuple[float, ...]] = {
    "hot": (5.8, 0.8, 0.5, 0.0, 1.6, 2.8, -3.2, 0.0, 4.9, -0.6, 1.2, 0.5, 0.0, 0.0, -12.2),
    "cold": (2.0, 3.0, 0.5, -3.3, 0.5, 1.5, -1.2, -1.0, 2.2, -0.1, 0.7, 0.4, 0.0, 0.0, -10.8),
    "centre": (-0.3, 1.4, -0.6, -1.7, -2.3, 0.2, 1.4, 0.0, 0.9, 0.0, 0.1, 2.3, 3.3, 3.9, -13.5),
}
"""Weights of the features and a constant, by kind: logistic regression on 180 simulated training people (FDG, PSMA and
DOPA, five regions, full dose and 1/20), rounded. Simulated lesions are small, so "large" is set by hand, and "level",
"organ" and "size2" of hot foci were changed on five patients (STS_001 to 005), whose tumours are not."""
LARGEST = math.log(20 / 8)
"""Logarithm of the radius over 8 mm above which a focus counts as large."""
OVERLAP = 0.35
"""Foci of one kind that share this part of the smaller one are one."""
CLEAR_CLOSED, CLEAR_Z = 0.8, 3.0
"""Share of rays that meet a rim, and z against it, from which a cold focus is called a cold centre."""
TWIN = 0.4
"""A cold focus and a cold centre that share this part of both together are one."""
LINK = 0.3
"""Foci of neighbouring planes are one region if they share this part of both together."""
THICK_MM = 6.0
"""Linked foci have to reach through so much, at most three planes, for their full score."""
MOST = 40
"""Most foci of a plane that are linked and ranked further."""


def features(focus: Focus, body: Body, typical: float) -> list[float]:
    """What a focus is ranked by, in the order of :data:`FEATURES`; all larger where it stands out more.

    Parameters
    ----------
    typical : median of all absolute z of this kind in the plane.
    """
    sign = 1.0 if focus.kind == "hot" else -1.0
    small = 0.05 * body.level

    def log(one: float, other: float) -> float:
        return math.log((max(one, 0) + small) / (max(other, 0) + small))

    contrast = sign * log(focus.mean, focus.beyond)
    size = math.log(focus.radius_mm / 8)
    usual = min(max(size, -1.0), LARGEST)
    return [
        min(max(contrast, 0.0), 0.5),
        math.log1p(abs(focus.z)),
        _clip(sign * log(focus.mean, body.level), -2, 2.5),
        _clip(sign * log(focus.mean, float(body.around[focus.box][focus.mask].mean())), -2, 2),
        _clip(sign * math.log(max(focus.ratio_mirror, 1e-3)), -1, 2),
        usual,
        usual**2,
        max(size - LARGEST, 0.0),
        focus.compact,
        float(focus.share > 0.55),
        _clip(math.log(max(focus.depth_mm, 2.0) / 30), -2, 1),
        math.log((abs(focus.z) + 0.5) / (typical + 0.5)),
        log(focus.beyond, focus.outside),
        focus.closed,
    ]


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def suggest(image: Image, limit: int = 12, linked: bool | None = None, least: float = 0.0) -> list[Region]:
    """Regions worth attention, the surest first; the same image gives the same regions.

    Parameters
    ----------
    image : any unit; SUV 2.5 is a limit only in SUV, or where weight, injected activity and times are known. NaN and
        values below 0 count as 0. limit : most regions: of the image where planes are linked, else of each plane.
    linked : are planes neighbours, so that foci of several are one region? Default: those 10 mm apart or less that look
        like each other (:func:`allpet.mask.body.are_neighbours`). least : lowest score; :data:`LIKELY` is worth a look.

    Returns
    -------
    Regions of kind "hot" or "cold", whose `score` is the chance among simulated training people that such a focus is
    a lesion, and whose `why` names the limits. Nothing from an image without contrast.

    Raises
    ------
    AllpetError : a limit below 0.
    """
    if limit < 0:
        raise AllpetError(f"limit is {limit}; it must be 0 or more")
    planes = image.array.numpy()
    if linked is None:
        linked = are_neighbours(planes, image.plane_mm, image.grid.pixel_mm)
    pixel, fixed = image.grid.pixel_mm, fixed_limit(image)
    liver = image.tracer in (None, "FDG") and image.region in (None, "chest", "abdomen")
    bodies: list[Body | None] = []
    foci: list[list[Focus]] = []
    for plane in planes:
        body = find_body(plane, pixel)
        bodies.append(None if body is None else body if liver else replace(body, liver=None))
        foci.append([] if body is None else distinct(ranked(find_foci(body, fixed), body), planes.shape[1:])[:MOST])
    chains = _chains(foci) if linked else [[(k, f)] for k, some in enumerate(foci) for f in some]
    needed = min(max(round(THICK_MM / image.plane_mm), 1), 3, len(planes)) if linked else 1
    scored = [(_score(chain, needed), chain) for chain in chains]
    scored.sort(key=lambda item: (-item[0], item[1][0][0], item[1][0][1].start))
    out: list[Region] = []
    used = [0] * len(planes)
    for score, chain in scored:
        number = 0 if linked else chain[0][0]
        if used[number] < limit and score >= least:
            used[number] += 1
            out.append(_region(chain, bodies, image, fixed, score))
    numbers = Counter[str]()
    for k, region in enumerate(out):
        numbers[region.name] += 1
        out[k] = replace(region, name=f"{region.name} {numbers[region.name]}")
    return out


def fixed_limit(image: Image) -> float | None:
    """SUV 2.5 in the image's unit; None where it cannot be known."""
    if image.unit in (UNITS["weight"], UNITS["lean"], UNITS["lean-james"]):
        return FIXED_SUV
    if image.unit != ACTIVITY:
        return None
    try:
        return FIXED_SUV / suv_factor(image)
    except AllpetError:
        return None


def ranked(foci: Sequence[Focus], body: Body) -> list[Focus]:
    """The foci of a plane with their scores, best first."""
    out = []
    for kind in ("hot", "cold", "centre"):
        some = [focus for focus in foci if focus.kind == kind]
        typical = float(np.median([abs(focus.z) for focus in some])) if some else 0.0
        for focus in some:
            *weights, constant = WEIGHTS[kind]
            total = constant + sum(w * x for w, x in zip(weights, features(focus, body, typical), strict=True))
            out.append(replace(focus, score=1 / (1 + math.exp(-_clip(total, -50, 50)))))
    out = _centres_first(out)
    return sorted(out, key=lambda focus: (-focus.score, focus.start, focus.mask.shape))


def _centres_first(foci: Sequence[Focus]) -> list[Focus]:
    """A cold focus that is also seen as the centre of a clear rim is that centre, with the better of both scores."""
    centres = [focus for focus in foci if focus.kind == "centre"]
    clear = {id(focus) for focus in centres if focus.closed >= CLEAR_CLOSED and abs(focus.z) >= CLEAR_Z}
    better: dict[int, float] = {}
    out = []
    for focus in foci:
        twins = []
        for centre in centres if focus.kind == "cold" else ():
            both = _shared(focus, centre) if id(centre) in clear else 0
            if both > TWIN * (focus.mask.sum() + centre.mask.sum() - both):
                twins.append(centre)
        for centre in twins:
            better[id(centre)] = max(better.get(id(centre), centre.score), focus.score)
        if not twins:
            out.append(focus)
    return [replace(focus, score=better.get(id(focus), focus.score)) for focus in out]


def distinct(foci: Sequence[Focus], shape: tuple[int, ...]) -> list[Focus]:
    """Of foci that overlap, best first, the first; a cold centre is left out of the hot focus about it."""
    covered = {"hot": np.zeros(shape, bool), "cold": np.zeros(shape, bool)}
    kept: list[Focus] = []
    for focus in foci:
        there = covered["hot" if focus.kind == "hot" else "cold"]
        mine = focus.mask.sum()
        if (there[focus.box] & focus.mask).sum() > OVERLAP * mine:
            continue
        if any(_shared(focus, other) > OVERLAP * other.mask.sum() for other in kept if _alike(focus, other)):
            continue
        there[focus.box] |= focus.mask
        kept.append(focus)
    centres = [focus for focus in kept if focus.kind == "centre"]
    out = []
    for focus in kept:
        for centre in centres if focus.kind == "hot" else []:
            focus = without(focus, centre)
        out.append(focus)
    return out


def _alike(one: Focus, other: Focus) -> bool:
    return (one.kind == "hot") == (other.kind == "hot")


def _shared(one: Focus, other: Focus) -> int:
    """Pixels that both cover."""
    parts = []
    for a, b in zip(one.box, other.box, strict=True):
        parts.append((max(a.start, b.start), min(a.stop, b.stop)))
    if any(low >= high for low, high in parts):
        return 0
    cuts = [
        focus.mask[tuple(slice(low - s, high - s) for (low, high), s in zip(parts, focus.start, strict=True))]
        for focus in (one, other)
    ]
    return int((cuts[0] & cuts[1]).sum())


Chain = list[tuple[int, Focus]]
"""Foci with the plane of each."""


def _chains(foci: Sequence[Sequence[Focus]]) -> list[Chain]:
    """Foci of neighbouring planes that share enough, joined; each takes the best of the next plane's."""
    owner: dict[tuple[int, int], int] = {}
    chains: list[Chain] = []
    for plane, some in enumerate(foci):
        taken: set[int] = set()
        for number, focus in enumerate(some):
            best, shared = -1, LINK
            for k, other in enumerate(foci[plane - 1]) if plane else ():
                if other.kind != focus.kind or owner[plane - 1, k] in taken:
                    continue
                both = _shared(focus, other)
                part = both / (focus.mask.sum() + other.mask.sum() - both)
                if part > shared:
                    best, shared = owner[plane - 1, k], part
            if best < 0:
                best = len(chains)
                chains.append([])
            chains[best].append((plane, focus))
            taken.add(best)
            owner[plane, number] = best
    return chains


def _score(chain: Chain, needed: int) -> float:
    """Mean score of its best `needed` planes, 0 for those that it lacks: a focus of a single thin plane is noise."""
    return sum(sorted((focus.score for _, focus in chain), reverse=True)[:needed]) / needed


NAMES = {"hot": "hot spot", "cold": "cold spot", "centre": "cold centre"}


def _region(chain: Chain, bodies: Sequence[Body | None], image: Image, fixed: float | None, score: float) -> Region:
    """A chain as a region, named by its kind."""
    low = [min(focus.box[axis].start for _, focus in chain) for axis in (0, 1)]
    high = [max(focus.box[axis].stop for _, focus in chain) for axis in (0, 1)]
    first, last = chain[0][0], chain[-1][0]
    levels = np.zeros((last - first + 1, high[0] - low[0], high[1] - low[1]), np.uint8)
    for plane, focus in chain:
        rows, columns = (slice(s.start - k, s.stop - k) for s, k in zip(focus.box, low, strict=True))
        levels[plane - first, rows, columns][focus.mask] = FULL
    best_plane, best = max(chain, key=lambda item: item[1].score)
    body = bodies[best_plane]
    assert body is not None
    why = explain(best, body, image.unit, fixed)
    if len(chain) > 1:
        why += f"; in {planes_words(first, last)}, these numbers are those of plane {best_plane + 1}"
    kind = "hot" if best.kind == "hot" else "cold"
    return Region(NAMES[best.kind], (first, low[0], low[1]), levels, kind=kind, why=why + ".", score=score)


def explain(focus: Focus, body: Body, unit: str, fixed: float | None) -> str:
    """How a focus came about, with its limits, without a full stop."""
    hot, mean, beyond = focus.kind == "hot", focus.mean, focus.beyond
    near = "rim" if focus.kind == "centre" else "surroundings"
    said = f"Mean {mean:.3g} {unit} against {beyond:.3g} {unit} of its {near}"
    if beyond > 0:
        said += f" ({mean / beyond:.2g} times)"
    said += f", z {focus.z:+.1f} with a noise of {100 * body.noise:.0f} %"
    if focus.share == 0:
        said += f"; ends where uptake falls below {focus.limit:.3g} {unit}, SUV {FIXED_SUV:g}"
    else:
        way = "up to its peak" if hot else "down to its lowest"
        said += (
            f"; ends at {focus.limit:.3g} {unit}, {100 * focus.share:.0f} % of the way {way} of {focus.peak:.3g} {unit}"
        )
    if hot and fixed is not None and focus.share > 0:
        said += f"; peak {'above' if focus.peak >= fixed else 'below'} SUV {FIXED_SUV:g} ({fixed:.3g} {unit})"
    if hot and body.liver is not None:
        liver, spread = body.liver
        said += f"; {mean / liver:.2g} times what seems to be liver (z {(mean - liver) / max(spread, 1e-12):+.1f})"
    if focus.kind == "centre":
        said += f"; {100 * focus.closed:.0f} % of {RAYS} rays meet the rim, beyond it {focus.outside:.3g} {unit}"
    return said + f"; as large as a disk of {focus.radius_mm:.0f} mm radius"
