"""Regions to learn attention from: what people would mark in 500 scans, with a truth that is known.

Into the image of a training scan, hot, cold and ring-shaped foci are drawn at random (as RMAS draws masks), counts
are drawn from its projection at a random dose, and restored. A person's outline is an ellipse about the focus,
displaced and too small or too large, and may say whether it is hot or cold. Some outlines lie where nothing was
changed, so that pointing is no proof of a lesion. And some are what the coarse segmentation suggests in the noisy scan:
it picks what noise made hot, and the network has to know.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.io.store import open_store
from allpet.mask.attend import QUICK
from allpet.mask.outline import draw
from allpet.mask.region import Region
from allpet.mask.suggest import suggest
from allpet.model.focus import WINDOW, Sight
from allpet.model.restorer import gaussian_blur
from allpet.model.translator import ask
from allpet.recon.whole import smooth
from allpet.scan.core import Image
from allpet.scan.dataset import Dataset
from allpet.scan.phantom import LABEL
from allpet.scan.units import UNCALIBRATED, sigma_of
from allpet.task.seen import Counts, Seen, see
from allpet.task.sight import sight_of
from allpet.train.samples import groups_of_people

if TYPE_CHECKING:
    from allpet.model.allpet import AllPET

LESIONS = (LABEL["lesion"], LABEL["lesion centre"])
DOSES = (0.008, 1.0)
"""Share of the full dose, log-uniform."""
RADII_MM = (3.5, 22.0)
"""Of foci, log-uniform."""
HOT, COOL = (1.4, 20.0), (0.05, 0.75)
"""Uptake of hot (log-uniform) and cold foci (uniform) over that of their surroundings."""
NOTHING, COLD, RING = 0.15, 0.3, 0.12
"""Shares of outlines without a change, of cold foci, and of hot rings with a cold centre."""
SAID = 2 / 3
"""Share of outlines that say whether they are hot or cold; by chance where nothing was changed."""
SUGGESTED = 2
"""Suggestions taken from every scan, the likelier ones more often."""
UNLIKELY = 0.05
"""Added to a suggestion's score before one is drawn."""
BATCH = 8


@dataclass(frozen=True)
class Marked:
    """Regions, what is seen of them, and their truth.

    Parameters
    ----------
    sight : what the network sees, windows of :data:`~allpet.model.focus.WINDOW` pixels a side. target : true image at
    the scan's resolution, in units of the scan, ``(n, rows, columns)``. subject : unique number ``(n,)``. changed :
    whether there is a focus, bool ``(n,)``.
    """

    sight: Sight
    target: torch.Tensor
    subject: torch.Tensor
    changed: torch.Tensor

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, index: torch.Tensor | slice) -> Marked:
        sight = Sight(*(value[index] for value in vars(self.sight).values()))
        return Marked(sight, self.target[index], self.subject[index], self.changed[index])

    @classmethod
    def join(cls, sets: Sequence[Marked]) -> Marked:
        """Several as one."""
        sights = [vars(s.sight) for s in sets]
        sight = Sight(**{name: torch.cat([s[name] for s in sights]) for name in sights[0]})
        return cls(sight, *(torch.cat([getattr(s, name) for s in sets]) for name in ("target", "subject", "changed")))

    @classmethod
    def load(cls, paths: Sequence[str | Path], model: AllPET, rounds: int = 8, seed: int = 0) -> Marked:
        """Mark regions in the scans of stores of pairs (of low-dose, or any others with image, attenuation, background
        and labels), `rounds` times each.

        Raises
        ------
        AllpetError : a store without these arrays, or of another size than the model.
        """
        sets, stores = [], [open_store(path) for path in paths]
        groups = groups_of_people(stores)
        for number, (path, store) in enumerate(zip(paths, stores, strict=True)):
            missing = [n for n in ("image", "attenuation", "background", "labels", "counts_per_unit") if n not in store]
            if missing:
                raise AllpetError(f"{path}: has no array {missing[0]}; marking regions needs it")
            arrays = {name: store.rows(name, slice(0, len(store))) for name in store}
            data = Dataset(arrays, store.beam, store.attributes)
            if data.beam.shape != model.beam.shape:
                raise AllpetError(f"{path}: sinograms are {data.beam.shape}; this model takes {model.beam.shape}")
            person = 1_000_000 * (groups[number] - number)  # those of another store may be the same ones
            for turn, k in product(range(rounds), range(0, len(data), BATCH)):
                found = mark(data, model, range(k, min(k + BATCH, len(data))), turn, seed, 1_000_000 * number)
                sets.append(replace(found, subject=found.subject + person))
        return cls.join([s for s in sets if len(s)])

    def fingerprint(self) -> str:
        """16 hex digits that change with the data."""
        digest = hashlib.sha256()
        for value in (*vars(self.sight).values(), self.target, self.subject):
            digest.update(value.numpy().tobytes())
        return digest.hexdigest()[:16]


def mark(data: Dataset, model: AllPET, rows: range, turn: int, seed: int, offset: int) -> Marked:
    """Regions of some scans; depends on (seed, offset, row, turn) alone."""
    some = list(rows)
    grid = data.beam.image_grid()
    rngs = [np.random.default_rng([seed, offset, k, turn]) for k in some]
    labels = data.rows("labels", some)
    images, outlines = [], []
    for rng, image, label in zip(rngs, data.rows("image", some), labels, strict=True):
        changed, found = foci(rng, image, label, grid)
        images.append(changed)
        outlines.append(found)
    truth = torch.from_numpy(np.stack(images))
    doses = torch.tensor([math.exp(rng.uniform(*np.log(DOSES))) for rng in rngs], dtype=torch.float32)
    per_unit = torch.from_numpy(data.rows("counts_per_unit", some).astype(np.float32)) * doses
    column = (slice(None), None, None)
    attenuation, background = (
        torch.from_numpy(data.rows(name, some).astype(np.float32)) for name in ("attenuation", "background")
    )
    sigma = sigma_of(float(data.attributes.get("acquisition", {}).get("fwhm_mm", 4.5)))
    blurred = gaussian_blur(truth, sigma / grid.pixel_mm)
    projector = model.need("restorer").projector
    expected = attenuation * projector(blurred) * (per_unit * grid.pixel_mm)[column] + background * doses[column]
    counts = torch.from_numpy(
        np.stack([rng.poisson(e.double().numpy()) for rng, e in zip(rngs, expected, strict=True)]).astype(np.float32)
    )
    pitch = torch.full((len(some),), float(data.beam.bin_mm))
    scan = Counts(counts, attenuation, background * doses[column], pitch, -attenuation.clamp_min(1e-6).log())
    seen = see(model.need("restorer"), scan)
    present = present_image(model, seen, pitch, data.prompt, [float(rng.random()) < 0.25 for rng in rngs])
    target = blurred * (per_unit * grid.pixel_mm / seen.unit)[column]
    subject = torch.from_numpy(data.rows("subject", some).astype(np.int64)) + offset
    guesses = suggestions(model, scan, data)
    differs = [np.abs(a - b) > 1e-6 for a, b in zip(images, data.rows("image", some), strict=True)]
    lesions = np.isin(labels, LESIONS)
    sets = []
    for i, found in enumerate(outlines):
        guessed = drawn_from(rngs[i], guesses[i], differs[i] | lesions[i])
        for number, (outline, kind, focus) in enumerate([*found, *guessed]):
            one = slice(i, i + 1)
            sight, (r, c) = sight_of(
                model, outline[None], present[one], seen[one], scan[one], kind, number < len(found), WINDOW
            )
            sets.append(Marked(_half(sight), target[one, r, c].half(), subject[one], torch.tensor([focus])))
    return Marked.join(sets)


def suggestions(model: AllPET, scan: Counts, data: Dataset) -> list[list[Region]]:
    """What the coarse segmentation suggests in each of some scans, as a person would be shown it."""
    scale, first = model.need("restorer").start(scan.counts, scan.efficiency, scan.background)
    grid = data.beam.image_grid()
    fwhm = float(QUICK["fwhm_mm"]) / grid.pixel_mm
    planes = smooth(first * scale[:, None, None], fwhm)
    known: dict[str, Any] = {name: data.prompt.get(name) for name in ("tracer", "region")}
    return [suggest(Image(plane, grid, UNCALIBRATED, **known)) for plane in planes]


def drawn_from(
    rng: np.random.Generator, guesses: Sequence[Region], there: np.ndarray
) -> list[tuple[torch.Tensor, str, bool]]:
    """Some of the suggestions in a scan as outlines, see :func:`foci`.

    Parameters
    ----------
    there : where foci are, bool ``(row, column)``.
    """
    if not guesses:
        return []
    chance = np.array([region.score + UNLIKELY for region in guesses])
    number = min(SUGGESTED, len(guesses))
    found = []
    for k in rng.choice(len(guesses), number, replace=False, p=chance / chance.sum()):
        outline = guesses[k].plane(0, there.shape)
        said = guesses[k].kind if rng.random() < SAID else "roi"
        found.append((torch.from_numpy(outline), said, bool(there[outline > 0.5].mean() > 0.2)))
    return found


def present_image(
    model: AllPET, seen: Seen, pitch: torch.Tensor, prompt: dict[str, str], plain: Sequence[bool]
) -> torch.Tensor:
    """The estimate before the second look: the translator's; the restored image where `plain`."""
    words = ask(len(pitch), "low-dose", prompt.get("tracer"), prompt.get("region"), seen.level, pitch)
    with torch.no_grad():
        mean, _ = model.need("translator")(seen.views, words)
    return torch.where(torch.tensor(plain)[:, None, None], seen.views.image, mean[:, 0])


def foci(
    rng: np.random.Generator, image: np.ndarray, labels: np.ndarray, grid: ImageGrid
) -> tuple[np.ndarray, list[tuple[torch.Tensor, str, bool]]]:
    """An image with foci drawn into it, and the outlines that a person would draw: ``(rows, columns)`` each, what
    they are said to be (hot, cold or roi: nothing), and whether there is a focus.

    Parameters
    ----------
    image : kBq/mL. labels : of :data:`allpet.scan.phantom.LABELS`; lesions that are there already may be marked, too.
    """
    out, outlines = image.astype(np.float32).copy(), []
    body = np.argwhere(labels > 0)
    if not len(body):
        return out, []
    level = float(image[labels > 0].mean())
    lesion = np.isin(labels, LESIONS)
    for _ in range(int(rng.integers(1, 4))):
        kind = float(rng.random())
        where = lesion if lesion.any() and rng.random() < 0.4 else None
        if where is not None:
            row, column = np.argwhere(lesion)[int(rng.integers(int(lesion.sum())))]
            radius = max(math.sqrt(part_at(lesion, row, column).sum() / math.pi) * grid.pixel_mm, RADII_MM[0])
        else:
            row, column = body[int(rng.integers(len(body)))]
            radius = math.exp(rng.uniform(*np.log(RADII_MM)))
        centre = np.array([grid.x[column], grid.y[row]])
        shape = ellipse(rng, centre, radius)
        if where is None and kind >= NOTHING:
            focus = draw(shape, grid)
            if rng.random() < 0.4:  # not quite an ellipse
                off = centre + rng.normal(0, 0.5 * radius, 2)
                focus = np.maximum(focus, draw(ellipse(rng, off, 0.7 * radius), grid))
            focus = focus * (labels > 0)
            if focus.sum() < 1:
                continue
            around = max(float((out * focus).sum() / focus.sum()), 0.3 * level)
            hot = around * math.exp(rng.uniform(*np.log(HOT)))
            value: float | np.ndarray = around * rng.uniform(*COOL) if kind < NOTHING + COLD else hot
            if kind > 1 - RING:
                centre_of = draw(shape | {"axes_mm": [a * rng.uniform(0.4, 0.7) for a in shape["axes_mm"]]}, grid)
                value = hot * (1 - centre_of) + around * rng.uniform(0.1, 0.8) * centre_of
            out = out * (1 - focus) + np.asarray(value, np.float32) * focus
        drawn = shape | {
            "centre_mm": (centre + rng.normal(0, 0.15 * radius, 2)).tolist(),
            "axes_mm": [a * math.exp(rng.normal(0.15, 0.2)) for a in shape["axes_mm"]],
        }
        outline = torch.from_numpy(draw(drawn, grid))
        if float(outline.sum()) < 1:
            continue
        focus_there = where is not None or kind >= NOTHING
        if where is not None:
            hot_there = hotter(image, lesion, labels > 0, row, column)
        else:
            hot_there = kind >= NOTHING + COLD if focus_there else bool(rng.random() < 0.5)
        said = ("hot" if hot_there else "cold") if rng.random() < SAID else "roi"
        outlines.append((outline, said, focus_there))
    return out, outlines


def ellipse(rng: np.random.Generator, centre: np.ndarray, radius: float) -> dict[str, Any]:
    """A random ellipse about a centre in mm."""
    aspect = math.exp(rng.normal(0, 0.25))
    axes = [float(radius * aspect), float(radius / aspect)]
    return dict(type="ellipse", centre_mm=centre.tolist(), axes_mm=axes, angle_deg=float(rng.uniform(0, 180)))


def part_at(lesion: np.ndarray, row: int, column: int) -> np.ndarray:
    """The lesion that a pixel belongs to, bool."""
    from scipy import ndimage

    parts, _ = ndimage.label(lesion)
    return np.asarray(parts == parts[row, column])


def hotter(image: np.ndarray, lesion: np.ndarray, body: np.ndarray, row: int, column: int) -> bool:
    """Whether the lesion at a pixel is hotter than its surroundings, two to three pixels away."""
    from scipy import ndimage

    part = part_at(lesion, row, column)
    around = ndimage.binary_dilation(part, iterations=3) & ~ndimage.binary_dilation(part) & body & ~lesion
    return bool(image[part].mean() >= image[around].mean()) if around.any() else True


def _half(sight: Sight) -> Sight:
    return Sight(sight.stack.half(), sight.alpha, sight.error, sight.told)
