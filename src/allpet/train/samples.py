"""Training samples: a few hundred sinograms, endlessly turned, moved, masked, attenuated and counted.

Every draw takes a generator, so a step's samples depend on the seed and the step alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool2d

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.mask import MaskFamily, draw_masks, project_mask
from allpet.project import Projector
from allpet.train.augment import mirror, place, turn

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

    @property
    def projector(self) -> Projector:
        """The operator in units of bins."""
        views, bins = self.sinogram.shape[-2:]
        return Projector(ParallelBeam(views, bins, 1.0), ImageGrid(bins, 1.0))


@dataclass(frozen=True)
class Counted:
    """Noisy scans and their truth, all ``(n, view, radial)``: ``counts ~ Poisson(efficiency * emission + background)``."""

    counts: torch.Tensor
    efficiency: torch.Tensor
    background: torch.Tensor
    emission: torch.Tensor
    bin_mm: torch.Tensor


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _chance(n: int, p: float, rng: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=rng) < p


def _masks(n: int, size: int, family: MaskFamily, rng: torch.Generator) -> torch.Tensor:
    first = int(torch.randint(2**40, (1,), generator=rng))
    return draw_masks(range(first, first + n), size, seed=1, family=family)


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
    crop, spots = _masks(half, bins, CROPS, rng), _masks(half, bins, SPOTS, rng)
    contrast = torch.exp(_uniform(half, -1.5, 2.0, rng)) - 1
    cropped = _chance(half, 0.6, rng)[:, None, None]
    image = pick.image[:half] * (1 + contrast[:, None, None] * spots)
    image = torch.where(cropped, image * (crop > 0.5), image)
    composed = data.projector(image)
    usable = (composed.mean(dim=(-2, -1)) > 0.05)[:, None, None]
    emission = torch.cat([torch.where(usable, composed, pick.sinogram[:half]), pick.sinogram[half:]])

    both = torch.stack([emission, pick.depth], dim=1)
    turns = torch.randint(2 * both.shape[-2], (n,), generator=rng)
    both = torch.stack([turn(x, int(k)) for x, k in zip(both, turns, strict=True)])
    both = torch.where(_chance(n, 0.5, rng)[:, None, None, None], mirror(both), both)
    shift = torch.randn(n, 2, generator=rng) * (0.03 * bins)
    scale = torch.exp(_uniform(n, -0.25, 0.25, rng))
    both = place(both, shift, scale).clamp_min(0)
    emission, depth = both.unbind(1)
    masked = _chance(n, 0.15, rng)
    if bool(masked.any()):
        masks = project_mask(_masks(int(masked.sum()), bins, MaskFamily(), rng), data.projector)
        part = emission[masked] * masks
        emission = emission.clone()
        emission[masked] = torch.where((part.mean(dim=(-2, -1)) > 0.02)[:, None, None], part, emission[masked])
    return emission / emission.mean(dim=(-2, -1), keepdim=True), depth / scale[:, None, None], pick.bin_mm * scale


def count(emission: torch.Tensor, depth: torch.Tensor, bin_mm: torch.Tensor, rng: torch.Generator) -> Counted:
    """Scan varied objects: total counts from 1,000 to 1,000,000, with and without attenuation, background and gaps."""
    n, views, bins = emission.shape
    column = (slice(None), None, None)
    attenuated = _chance(n, 0.6, rng)[column] * _uniform(n, 0.6, 1.2, rng)[column]
    efficiency = torch.exp(-depth.clamp_min(0) * attenuated)
    for k in torch.nonzero(_chance(n, 0.15, rng)).flatten():
        period, slope = int(torch.randint(6, 14, (1,), generator=rng)), int(torch.randint(0, 2, (1,), generator=rng))
        v, r = torch.arange(views)[:, None], torch.arange(bins)[None, :]
        gap = ((v + r) % period == 0) | ((v - r) % period == 0) if slope else ((v + r) % period == 0)
        efficiency[k] = efficiency[k] * torch.where(gap, float(torch.rand(1, generator=rng).round()) * 0.5, 1.0)
    detected = efficiency * emission
    trues = torch.exp(_uniform(n, math.log(1e3), math.log(1e6), rng))
    unit = trues / detected.sum(dim=(-2, -1)).clamp_min(1e-6)
    share = _uniform(n, 0.05, 1.0, rng) * _chance(n, 0.6, rng)
    smooth = avg_pool2d(avg_pool2d(detected, (1, 31), 1, (0, 15)), (31, 1), 1, (15, 0))
    mix = _uniform(n, 0, 1, rng)[column]
    shape = mix * smooth / smooth.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-6) + (1 - mix)
    background = shape * (share * trues / (views * bins))[column]
    emission = emission * unit[column]
    counts = torch.poisson(efficiency * emission + background, generator=rng)
    return Counted(counts, efficiency, background, emission, bin_mm)
