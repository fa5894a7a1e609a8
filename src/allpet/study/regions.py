"""Coarse segmentation judged: lesions of simulated people and tumours of patients, against fixed thresholds.

Lesions of a simulated slice are the joined pixels of its label map. A lesion is "hot" or "cold" by the true activity of
its rim against what lies within 12 mm of it; a "centre" is the necrotic part of a hot one. Lesions of fewer than 50
mm2, or with 0.8 to 1.25 times their surroundings, count neither as found nor as missed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from allpet.errors import AllpetError
from allpet.mask.attend import quick_image
from allpet.mask.body import Body, find_body
from allpet.mask.foci import LEAST_MM2
from allpet.mask.region import Region
from allpet.mask.suggest import FIXED_SUV, suggest
from allpet.scan.core import Image
from allpet.scan.plan import REGIONS
from allpet.scan.simulate import simulate
from allpet.scan.suv import to_suv
from allpet.study.froc import Marked, Slice, score_slice, summary

SORTS = ("hot", "cold", "centre")
TRACERS = ("FDG", "PSMA", "DOPA")
DOSES = (1.0, 0.05)
COUNTS = 500_000.0
LEAST_TRUTH_MM2 = 50.0
HOT, COLD = 1.25, 0.8
SHARE = 0.41
SKIN_MM = 10.0
LOOKED_AT = ("STS_001", "STS_002", "STS_003", "STS_004", "STS_005")
"""Patients on whom weights of the ranking were changed; the others were not looked at one by one."""
MANY = 40
"""Most suggestions of a slice that are scored."""


@dataclass(frozen=True)
class Case:
    """A slice with its truth.

    Parameters
    ----------
    image : one plane in SUV. truths : sort and bool mask of every lesion. lesions : all of them, bool. person : name.
    known : facts to group by. given : suggestions, where they were made from the whole volume.
    """

    image: Image
    truths: list[tuple[str, np.ndarray]]
    lesions: np.ndarray
    person: str
    known: dict[str, Any]
    given: list[Marked] | None = None

    @property
    def plane(self) -> np.ndarray:
        """The slice, SUV ``(row, column)``."""
        return np.asarray(self.image.array[0].numpy())


def lesions_of(
    labels: np.ndarray, activity: np.ndarray, names: Sequence[str], pixel_mm: float
) -> list[tuple[str, np.ndarray]]:
    """Sort ("hot", "cold", "centre", "none" for what is not judged) and mask of every lesion of a simulated slice."""
    rim, core = labels == names.index("lesion"), labels == names.index("lesion centre")
    parts, count = ndimage.label(rim | core, np.ones((3, 3)))
    out = []
    for number in range(1, count + 1):
        whole = parts == number
        far = ndimage.distance_transform_edt(~whole) * pixel_mm
        near = (far > pixel_mm) & (far < 12) & (labels > 0) & ~rim & ~core
        mine, inside = whole & rim, whole & core
        sort = "none"
        if mine.sum() * pixel_mm**2 >= LEAST_TRUTH_MM2 and near.sum() >= 3:
            contrast = float(activity[mine].mean()) / max(float(np.median(activity[near])), 1e-9)
            sort = "hot" if contrast > HOT else "cold" if contrast < COLD else "none"
        if mine.any():
            out.append((sort, mine))
        if inside.any():
            judged = sort == "hot" and inside.sum() * pixel_mm**2 >= LEAST_TRUTH_MM2
            out.append(("centre" if judged else "none", inside))
    return out


def simulated(
    people: int, seed: int, dose: float, split: str, size: int, slices: int, region: str, tracer: str
) -> Iterator[Case]:
    """Slices of simulated people of one region and tracer."""
    known: dict[str, Any] = dict(region=region, tracer=tracer, split=split, seed=seed, counts=COUNTS)
    known |= dict(task="low-dose", dose_fraction=dose, views=size, bins=size, slices_per_subject=slices)
    data = simulate(people * slices, **known)
    image = quick_image(data.scan())
    names = data.attributes["labels"]
    for k in range(len(data)):
        facts = dict(weight_kg=float(data.weight_kg[k]), injected_mbq=float(data.injected_mbq[k]))
        plane = to_suv(replace(image, array=image.array[k : k + 1], **facts))  # type: ignore[arg-type]
        truths = lesions_of(data.labels[k], data.image[k], names, image.grid.pixel_mm)
        lesions = np.isin(data.labels[k], [names.index("lesion"), names.index("lesion centre")])
        person = f"{region} {int(data.subject[k])}"  # the same body with every tracer
        yield Case(plane, truths, lesions, person, dict(region=region, tracer=tracer))


def patients(folder: Path, names: Sequence[str] | None = None) -> Iterator[list[Case]]:
    """The slices of each patient with a soft-tissue sarcoma (SUV, tumour masks); suggestions from the whole volume."""
    from allpet.io import read

    found = sorted(path for path in folder.glob("STS_*") if names is None or path.name in names)
    if not found:
        raise AllpetError(f"{folder.name}: holds no folder STS_001 ...; give the folder that holds sts_fdg")
    for path in found:
        image, mask = (read(path / f"PET_{part}.nii.gz") for part in ("image", "mask"))
        assert isinstance(image, Image) and isinstance(mask, Image)
        image = replace(image, unit="SUV", tracer="FDG")
        tumour = mask.array.numpy() > 0.5
        pixel = image.grid.pixel_mm
        made = suggest(image, limit=MANY * len(image))
        cases = []
        for k in range(len(image)):
            plane = replace(image, array=image.array[k : k + 1])
            truths = tumours_of(tumour[k], plane.array[0].numpy(), pixel)
            part = "looked at" if path.name in LOOKED_AT else "unseen"
            cases.append(Case(plane, truths, tumour[k], path.name, dict(part=part), _cut(made, k)))
        yield cases


def tumours_of(mask: np.ndarray, suv: np.ndarray, pixel_mm: float) -> list[tuple[str, np.ndarray]]:
    """Tumours of a slice, and a stand-in for their necrotic centres, which nobody has drawn: 6 mm or more inside of the
    tumour's outline, below half of its 90th percentile, 100 mm2 or more."""
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    out = []
    for number in range(1, count + 1):
        mine = parts == number
        enough = mine.sum() * pixel_mm**2 >= LEAST_TRUTH_MM2
        out.append(("hot" if enough else "none", mine))
        deep = ndimage.distance_transform_edt(ndimage.binary_fill_holes(mine)) * pixel_mm >= 6
        low = deep & (suv < 0.5 * np.percentile(suv[mine], 90))
        inner, some = ndimage.label(low)
        for k in range(1, some + 1):
            if (inner == k).sum() * pixel_mm**2 >= 100:
                out.append(("centre", inner == k))
    return out


def sort_of(region: Region) -> str:
    """ "hot", "cold" or "centre"."""
    return "centre" if region.name.startswith("cold centre") else region.kind


def _cut(regions: Sequence[Region], plane: int) -> list[Marked]:
    """The part of regions in one plane."""
    out = []
    for region in regions:
        if plane in region.planes:
            mask = region.levels[plane - region.start[0]] > 127
            if mask.any():
                out.append(Marked(sort_of(region), region.start[1:], mask, region.score))
    return out


def ours(case: Case) -> list[Marked]:
    """:func:`allpet.mask.suggest.suggest`."""
    return _cut(suggest(case.image, limit=MANY), 0) if case.given is None else case.given


def fixed(case: Case) -> list[Marked]:
    """Everything above SUV 2.5, and holes in it, ranked by peak."""
    body = find_body(case.plane, case.image.grid.pixel_mm)
    return [] if body is None else _components(body, FIXED_SUV)


def share_of_plane(case: Case) -> list[Marked]:
    """Everything above 41 % of the plane's maximum, and holes in it; cold: below 41 % of the body's median."""
    body = find_body(case.plane, case.image.grid.pixel_mm)
    if body is None:
        return []
    inside = body.mask & (body.depth_mm > SKIN_MM)
    low = (body.plane < SHARE * float(np.median(body.plane[body.mask]))) & inside
    cold = [Marked("cold", start, mask, -float(body.plane[at][mask].min())) for at, start, mask in _parts(low, body)]
    return _components(body, SHARE * float(body.plane[body.mask].max())) + cold


def share_of_focus(case: Case) -> list[Marked]:
    """From every local maximum, highest first, what is joined to it above 41 % of it, and holes in it."""
    body = find_body(case.plane, case.image.grid.pixel_mm)
    if body is None:
        return []
    size = 2 * max(round(4 / body.pixel_mm), 1) + 1
    peaks = (body.plane == ndimage.maximum_filter(body.plane, size)) & body.mask
    taken = np.zeros_like(body.mask)
    out: list[Marked] = []
    rows, columns = np.nonzero(peaks)
    for k in np.argsort(-body.plane[rows, columns], kind="stable")[:MANY]:
        if taken[rows[k], columns[k]]:
            continue
        parts, _ = ndimage.label((body.plane >= SHARE * body.plane[rows[k], columns[k]]) & body.mask & ~taken)
        grown = parts == parts[rows[k], columns[k]]
        taken |= grown
        out += _with_holes(grown, body)
    return out


METHODS: dict[str, Callable[[Case], list[Marked]]] = {
    "suggest": ours,
    "SUV 2.5": fixed,
    "41 % of the plane's maximum": share_of_plane,
    "41 % of each focus' maximum": share_of_focus,
}


def _parts(mask: np.ndarray, body: Body) -> Iterator[tuple[tuple[slice, slice], tuple[int, int], np.ndarray]]:
    """Components that are no specks: box, its start, and the mask in it."""
    parts, count = ndimage.label(mask)
    for number, box in enumerate(ndimage.find_objects(parts, count), 1):
        if box is not None and (mine := parts[box] == number).sum() * body.pixel_mm**2 >= LEAST_MM2:
            yield (box[0], box[1]), (box[0].start, box[1].start), mine


def _components(body: Body, limit: float) -> list[Marked]:
    return _with_holes((body.plane >= limit) & body.mask, body)


def _with_holes(mask: np.ndarray, body: Body) -> list[Marked]:
    """Components as hot ones, ranked by peak, and their holes as cold centres, ranked by the peak about them."""
    out = []
    for at, start, mine in _parts(mask, body):
        peak = float(body.plane[at][mine].max())
        filled = ndimage.binary_fill_holes(mine)
        out.append(Marked("hot", start, mine, peak))
        wide = np.zeros_like(mask)
        wide[at] = filled & ~mine
        out += [Marked("centre", first, hole, peak) for _, first, hole in _parts(wide, body)]
    return out


def judge(
    people: int = 36,
    seed: int = 41,
    data: Path | None = None,
    doses: Sequence[float] = DOSES,
    split: str = "test",
    size: int = 128,
    slices: int = 4,
    names: Sequence[str] | None = None,
    resamples: int = 500,
    workers: int = 1,
) -> list[dict[str, Any]]:
    """A row for each set of slices, group of it, sort of lesion and method.

    Parameters
    ----------
    people : of each region. data : folder that holds ``sts_fdg``; None leaves the patients out. names : of patients,
    all by default. size : bins, views and pixels. workers : processes.
    """
    torch.set_num_threads(1)
    rows = []
    for dose in doses:
        look = partial(scored_people, people, seed, dose, split, size, slices)
        prompts = [(region, tracer) for region in REGIONS for tracer in TRACERS]
        if workers == 1:
            parts = [look(*prompt) for prompt in prompts]
        else:
            with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
                parts = list(pool.map(look, *zip(*prompts, strict=True)))
        scored = {key: [s for part in parts for s in part[key]] for key in parts[0]}
        rows += rows_of(f"simulated, dose {dose:g}", scored, ("region", "tracer"), seed, resamples)
    if data is not None:
        cases = (case for some in patients(data / "sts_fdg", names) for case in some)
        rows += rows_of("patients (STS)", score_cases(cases), ("part",), seed, resamples)
    return rows


Scored = dict[tuple[str, str], list[Slice]]


def scored_people(
    people: int, seed: int, dose: float, split: str, size: int, slices: int, region: str, tracer: str
) -> Scored:
    """Slices of simulated people of one region and tracer, by method and sort, in one thread."""
    torch.set_num_threads(1)
    return score_cases(simulated(people, seed, dose, split, size, slices, region, tracer))


def score_cases(cases: Iterator[Case]) -> Scored:
    """Slices by method and sort."""
    out: Scored = {(method, sort): [] for method in METHODS for sort in SORTS}
    for case in cases:
        for method, look in METHODS.items():
            marked = look(case)
            for sort in SORTS:
                mine = [region for region in marked if region.sort == sort]
                truths = [mask for name, mask in case.truths if name == sort]
                out[method, sort].append(score_slice(case.person, mine, truths, case.lesions, **case.known))
    return out


def rows_of(name: str, scored: Scored, groups: Sequence[str], seed: int, resamples: int) -> list[dict[str, Any]]:
    """A row for each sort and method, of all slices and of their groups."""
    rows = []
    for (method, sort), slices in scored.items():
        nothing = all(not s.false and all(score == -np.inf for score, _ in s.found) for s in slices)
        if nothing or not any(s.found for s in slices):  # a method without such regions, slices without such lesions
            continue
        row = dict(set=name, group="all", sort=sort, method=method)
        rows.append(row | summary(slices, seed, resamples))
        for key in groups:
            for value in dict.fromkeys(s.known[key] for s in slices):
                some = [s for s in slices if s.known[key] == value]
                if any(s.found for s in some):
                    rows.append(row | dict(group=value) | summary(some, seed, resamples))
    return rows


def markdown(rows: Sequence[dict[str, Any]], groups: bool = False) -> str:
    """The rows of whole sets (of their groups, too) as a Markdown table."""
    heads = ("slices", "lesions", "method", "sensitivity at 1 false region a slice", "false a slice", "Dice", "n")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        if row["group"] != "all" and not groups:
            continue
        where = row["set"] if row["group"] == "all" else f"{row['set']}, {row['group']}"
        cells = [
            where,
            row["sort"],
            row["method"],
            _with(row, "sensitivity"),
            f"{row['false']:.2f}",
            _with(row, "dice"),
        ]
        lines.append("| " + " | ".join([*cells, f"{row['lesions']} in {row['people']}"]) + " |")
    return "\n".join(lines)


def save(path: Path, rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Write the rows and where they come from as JSON."""
    from allpet.io.files import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as (file,):
        file.write_text(json.dumps(dict(rows=list(rows), provenance=facts), indent=1) + "\n", encoding="utf-8")


def _with(row: dict[str, Any], name: str) -> str:
    """A value and its interval."""
    value, span = row[name], row[f"{name}_95"]
    return "-" if value is None else f"{value:.2f}" + (f" ({span[0]:.2f} to {span[1]:.2f})" if span else "")
