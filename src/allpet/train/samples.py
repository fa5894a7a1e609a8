"""Training samples: a few hundred sinograms, endlessly turned, moved, masked, attenuated and counted.

Every draw takes a generator, so a step's samples depend on the seed and the step alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.io.samples import Samples
from allpet.mask import MaskFamily, draw_masks, project_mask
from allpet.model.condition import TOLD
from allpet.model.prompt import REGIONS, TASKS, TRACERS
from allpet.project import Projector
from allpet.recon.fbp import fbp
from allpet.scan.dataset import Dataset
from allpet.scan.units import ACTIVITY_MM
from allpet.train.augment import elastic, mirror, place, turn

CROPS = MaskFamily(counts=(1, 2), sizes=(0.25, 0.9), weights=(1.0, 1.0), hollow=0.0, layouts=("uniform", "central"))
SPOTS = MaskFamily(counts=(1, 8), sizes=(0.02, 0.3), weights=(0.1, 1.0))


@dataclass(frozen=True)
class TrainingSet:
    """Sinograms to learn from, in units of their own mean; lengths in bins.

    Parameters
    ----------
    sinogram : ``(n, view, radial)``, mean 1. depth : ``-log`` of the attenuation factors, same shape.
    image : ``(n, bins, bins)``, such that projecting it (pixel 1, bin 1) gives `sinogram`.
    mean : mean of each sinogram before, kBq/mL*mm ``(n,)``. bin_mm : pitch ``(n,)``.
    tracer, region : index into the vocabulary + 1 ``(n,)``. subject : unique number ``(n,)``.
    """

    sinogram: torch.Tensor
    depth: torch.Tensor
    image: torch.Tensor
    mean: torch.Tensor
    bin_mm: torch.Tensor
    tracer: torch.Tensor
    region: torch.Tensor
    subject: torch.Tensor

    def __len__(self) -> int:
        return len(self.sinogram)

    def __getitem__(self, index: torch.Tensor) -> TrainingSet:
        return TrainingSet(**{name: value[index] for name, value in vars(self).items()})

    @classmethod
    def load(cls, paths: Sequence[str | Path]) -> TrainingSet:
        """Read dataset stores of ideal sinograms (``allpet simulate`` without ``--task``), all of one size.

        Raises
        ------
        AllpetError : a store that holds counts, lacks an array, or has another size than the first.
        """
        from allpet.io.store import open_store

        sets, stores = [], [open_store(path) for path in paths]
        for path, store, number in zip(paths, stores, groups_of_people(stores), strict=True):
            if store.unit != ACTIVITY_MM:
                raise AllpetError(f"{path}: sinograms are in {store.unit}; train on ideal projections in {ACTIVITY_MM}")
            missing = [name for name in ("sinogram", "image", "attenuation", "subject") if name not in store]
            if missing:
                raise AllpetError(f"{path}: has no array {missing[0]}; training needs it (see allpet simulate)")
            sets.append(cls.from_dataset(store.load(), number))
            if sets[-1].sinogram.shape[1:] != sets[0].sinogram.shape[1:]:
                size, first = tuple(sets[-1].sinogram.shape[1:]), tuple(sets[0].sinogram.shape[1:])
                raise AllpetError(f"{path}: sinograms are {size}, those of {paths[0]} are {first}; they must be alike")
        return cls.join(sets)

    @classmethod
    def join(cls, sets: Sequence[TrainingSet]) -> TrainingSet:
        """Several sets of one size as one."""
        return cls(**{name: torch.cat([getattr(s, name) for s in sets]) for name in vars(sets[0])})

    @classmethod
    def from_dataset(cls, data: Dataset, number: int = 0) -> TrainingSet:
        """Samples of one tracer and region; `number` keeps subjects of several sets apart."""
        sinogram = torch.from_numpy(np.asarray(data["sinogram"], np.float32))
        mean = sinogram.mean(dim=(-2, -1))
        if bool((mean <= 0).any()):
            raise AllpetError("a training sinogram is empty; every one must hold activity")
        n, unit = len(sinogram), mean[:, None, None]
        prompt = data.prompt
        return cls(
            sinogram / unit,
            -torch.from_numpy(np.asarray(data["attenuation"], np.float32)).clamp_min(1e-6).log(),
            torch.from_numpy(np.asarray(data["image"], np.float32)) * data.beam.bin_mm / unit,
            mean,
            torch.full((n,), float(data.beam.bin_mm)),
            torch.full((n,), TRACERS.index(prompt["tracer"]) + 1),
            torch.full((n,), REGIONS.index(prompt["region"]) + 1),
            torch.from_numpy(np.asarray(data["subject"])).long() + 1_000_000 * number,
        )

    def fingerprint(self) -> str:
        """16 hex digits that change with the data."""
        digest = hashlib.sha256()
        for value in vars(self).values():
            digest.update(value.numpy().tobytes())
        return digest.hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """What a model trained on these samples must remember: words, fields of view, amplitudes."""
        tracers = [TRACERS[k - 1] for k in sorted(set(self.tracer.tolist()))]
        regions = [REGIONS[k - 1] for k in sorted(set(self.region.tolist()))]
        fov, log_mean = {}, {}
        for region in regions:
            here = self.region == REGIONS.index(region) + 1
            fov[region] = float(self.bin_mm[here].median()) * self.sinogram.shape[-1]
            for tracer in tracers:
                mine = self.mean[here & (self.tracer == TRACERS.index(tracer) + 1)].log()
                if len(mine):
                    log_mean[f"{tracer} {region}"] = [float(mine.mean()), float(mine.std(correction=0))]
        samples = dict(sinograms=len(self), subjects=len(set(self.subject.tolist())), fingerprint=self.fingerprint())
        return dict(tracers=tracers, regions=regions, field_of_view_mm=fov, log_mean=log_mean, data=samples)

    @property
    def projector(self) -> Projector:
        """The operator in units of bins."""
        views, bins = self.sinogram.shape[-2:]
        return Projector(ParallelBeam(views, bins, 1.0), ImageGrid(bins, 1.0))


@dataclass(frozen=True)
class Counted:
    """Noisy scans ``(n, view, radial)`` and their truth: ``counts ~ Poisson(efficiency * emission + background)``."""

    counts: torch.Tensor
    efficiency: torch.Tensor
    background: torch.Tensor
    emission: torch.Tensor
    bin_mm: torch.Tensor


def groups_of_people(stores: Sequence[Samples]) -> list[int]:
    """A number for each store, the same where the same people are simulated with several tracers or tasks: those of one
    region, seed and split. They must not be trained on in one store and kept apart in another."""
    keys = []
    for number, store in enumerate(stores):
        facts = store.attributes
        region, seed, split = facts.get("prompt", {}).get("region"), facts.get("seed"), facts.get("split")
        keys.append(f"store {number}" if None in (region, seed, split) else f"{region} {seed} {split}")
    return [keys.index(key) for key in keys]


def apart(subject: torch.Tensor, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows without, and with only, a few subjects; none of these where there are fewer than 1 / share."""
    subjects = subject.unique()
    rng = torch.Generator().manual_seed(seed + 1)
    few = subjects[torch.randperm(len(subjects), generator=rng)][: int(len(subjects) * share)]
    kept = torch.isin(subject, few)
    return torch.nonzero(~kept).flatten(), torch.nonzero(kept).flatten()


def uniform(n: int, low: float, high: float, rng: torch.Generator) -> torch.Tensor:
    """n numbers in [low, high)."""
    return low + (high - low) * torch.rand(n, generator=rng)


def chance(n: int, p: float, rng: torch.Generator) -> torch.Tensor:
    """n coins, true with probability p."""
    return torch.rand(n, generator=rng) < p


def random_masks(n: int, size: int, family: MaskFamily, rng: torch.Generator, seed: int = 1) -> torch.Tensor:
    """n image-domain masks of a family, ``(n, size, size)``."""
    first = int(torch.randint(2**40, (1,), generator=rng))
    return draw_masks(range(first, first + n), size, seed=seed, family=family)


def draw_emission(data: TrainingSet, n: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Emission and attenuation depth of n varied objects, and their pitch.

    Half are the sinograms as they are; half are made from the image, cropped by a random mask
    and with random spots made hotter or colder (RMAS in the image domain, which keeps a
    sinogram a sinogram). All are then turned, mirrored, moved and scaled; some become a part
    ``M*s``, which no image explains.
    """
    pick = data[torch.randint(len(data), (n,), generator=rng)]
    bins = pick.sinogram.shape[-1]
    half = n // 2
    crop, spots = random_masks(half, bins, CROPS, rng), random_masks(half, bins, SPOTS, rng)
    contrast = torch.exp(uniform(half, -1.5, 2.0, rng)) - 1
    cropped = chance(half, 0.6, rng)[:, None, None]
    image = pick.image[:half] * (1 + contrast[:, None, None] * spots)
    image = torch.where(cropped, image * (crop > 0.5), image)
    composed = data.projector(image)
    usable = (composed.mean(dim=(-2, -1)) > 0.05)[:, None, None]
    emission = torch.cat([torch.where(usable, composed, pick.sinogram[:half]), pick.sinogram[half:]])

    both = torch.stack([emission, pick.depth], dim=1)
    views = both.shape[-2]
    turns = torch.randint(2 * views, (n,), generator=rng)  # half any way round, half nearly upright
    turns = torch.where(chance(n, 0.5, rng), turns, turns % (views // 6) - views // 12)
    both = torch.stack([turn(x, int(k)) for x, k in zip(both, turns, strict=True)])
    both = torch.where(chance(n, 0.5, rng)[:, None, None, None], mirror(both), both)
    shift = torch.randn(n, 2, generator=rng) * (0.03 * bins)
    scale = torch.exp(uniform(n, -0.25, 0.25, rng))
    both = place(both, shift, scale).clamp_min(0)
    emission, depth = both.unbind(1)
    masked = chance(n, 0.15, rng)
    if bool(masked.any()):
        masks = project_mask(random_masks(int(masked.sum()), bins, MaskFamily(), rng), data.projector)
        part = emission[masked] * masks
        emission = emission.clone()
        emission[masked] = torch.where((part.mean(dim=(-2, -1)) > 0.02)[:, None, None], part, emission[masked])
    return emission / emission.mean(dim=(-2, -1), keepdim=True), depth / scale[:, None, None], pick.bin_mm * scale


def vary(
    data: TrainingSet, n: int, rng: torch.Generator, geometry: bool = True, warp: float = 0.0
) -> tuple[TrainingSet, torch.Tensor, dict[str, torch.Tensor]]:
    """n sinograms of mean 1 drawn from the set, and what the network is told of them.

    Parameters
    ----------
    geometry : turn them a little, mirror some, move and scale them: exact on the sinogram. warp : share whose
        reconstruction is warped by a smooth random field, 1 to 3 pixels of 128, and projected again.

    Returns
    -------
    the rows drawn as they were; sinograms ``(n, view, radial)``; words, `turn` and :data:`allpet.model.condition.TOLD`.
    """
    views, bins = data.sinogram.shape[-2:]
    pick = data[torch.randint(len(data), (n,), generator=rng)]
    s = pick.sinogram
    told = torch.zeros(n, len(TOLD))
    column = {name: k for k, name in enumerate(TOLD)}
    angle, scale = torch.zeros(n), torch.ones(n)
    if geometry:
        most = max(1, views // 20)
        steps = torch.randint(-most, most + 1, (n,), generator=rng)
        s = torch.stack([turn(x, int(k)) for x, k in zip(s, steps, strict=True)])
        mirrored = chance(n, 0.3, rng)
        s = torch.where(mirrored[:, None, None], mirror(s), s)
        angle = torch.where(mirrored, -steps, steps) * (math.pi / views)
        scale = torch.exp(uniform(n, -0.1, 0.1, rng))
        shift = (0.024 * bins) * torch.randn(n, 2, generator=rng)
        s = place(s[:, None], shift, scale)[:, 0].clamp_min(0)
        told[:, column["mirrored"]] = mirrored.float()
        told[:, column["shift_x"]], told[:, column["shift_y"]] = (shift / (0.04 * bins)).unbind(1)
        told[:, column["log_scale"]] = scale.log() * 8
    if warp > 0:
        size = torch.where(chance(n, warp, rng), uniform(n, 0.3, 1.0, rng), 0.0)
        told[:, column["warp"]] = size
        mine = torch.nonzero(size > 0).flatten()
        if len(mine):
            image = elastic(fbp(s[mine], data.projector), 0.024 * bins * size[mine], rng)
            s = s.clone()
            s[mine] = data.projector(image).clamp_min(0)
    told[:, column["log_pitch"]] = torch.log(pick.bin_mm * scale / 4)
    words = dict(tracer=pick.tracer, region=pick.region, task=torch.full((n,), TASKS.index("generate") + 1))
    return pick, s / s.mean(dim=(-2, -1), keepdim=True), {**words, "turn": angle, "told": told}


def count(emission: torch.Tensor, depth: torch.Tensor, bin_mm: torch.Tensor, rng: torch.Generator) -> Counted:
    """Scan varied objects: total counts from 1,000 to 1,000,000, with and without attenuation, background and gaps."""
    n, views, bins = emission.shape
    column = (slice(None), None, None)
    attenuated = chance(n, 0.6, rng)[column] * uniform(n, 0.6, 1.2, rng)[column]
    efficiency = torch.exp(-depth.clamp_min(0) * attenuated)
    for k in torch.nonzero(chance(n, 0.15, rng)).flatten():
        period, slope = int(torch.randint(6, 14, (1,), generator=rng)), int(torch.randint(0, 2, (1,), generator=rng))
        v, r = torch.arange(views)[:, None], torch.arange(bins)[None, :]
        gap = ((v + r) % period == 0) | ((v - r) % period == 0) if slope else ((v + r) % period == 0)
        efficiency[k] = efficiency[k] * torch.where(gap, float(torch.rand(1, generator=rng).round()) * 0.5, 1.0)
    detected = efficiency * emission
    trues = torch.exp(uniform(n, math.log(1e3), math.log(1e6), rng))
    unit = trues / detected.sum(dim=(-2, -1)).clamp_min(1e-6)
    share = uniform(n, 0.05, 1.0, rng) * chance(n, 0.6, rng)
    smooth = avg_pool2d(avg_pool2d(detected, (1, 31), 1, (0, 15)), (31, 1), 1, (15, 0))
    mix = uniform(n, 0, 1, rng)[column]
    shape = mix * smooth / smooth.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-6) + (1 - mix)
    background = shape * (share * trues / (views * bins))[column]
    emission = emission * unit[column]
    counts = torch.poisson(efficiency * emission + background, generator=rng)
    return Counted(counts, efficiency, background, emission, bin_mm)
