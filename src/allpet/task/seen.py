"""From counts on the model's grid to what the translator sees of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from allpet.geometry import ImageGrid
from allpet.model.familiar import Look, features
from allpet.model.restorer import gaussian_blur
from allpet.model.translator import FRAMES, Views
from allpet.project import Projector
from allpet.recon.fbp import fbp
from allpet.scan.mumap import WATER
from allpet.task.later_frames import borrowed

if TYPE_CHECKING:
    from allpet.model.restorer import Restorer


EDGE = 0.05
"""Share of a profile's peak above which trues in its last bins mean that the body goes on."""
FRAME_BLUR = 1.5
"""Standard deviation in pixels of the smoothing of dynamic frames."""


@dataclass(frozen=True)
class Counts:
    """Planes on the model's grid, ``(n, views, bins)``; pitch in mm ``(n,)``.

    Parameters
    ----------
    counts ~ Poisson(efficiency * emission + background). depth : line integrals of attenuation (a part of the
    efficiency), or None where it is not known.
    """

    counts: torch.Tensor
    efficiency: torch.Tensor
    background: torch.Tensor
    bin_mm: torch.Tensor
    depth: torch.Tensor | None = None

    def __getitem__(self, some: slice) -> Counts:
        depth = None if self.depth is None else self.depth[some]
        return Counts(self.counts[some], self.efficiency[some], self.background[some], self.bin_mm[some], depth)


@dataclass(frozen=True)
class Frames:
    """Dynamic frames of the planes: counts and background ``(n, frame, views, bins)``, and each frame's length over
    that of the static one ``(n, frame)``."""

    counts: torch.Tensor
    background: torch.Tensor
    length: torch.Tensor


@dataclass(frozen=True)
class Seen:
    """Planes as the translator takes them.

    Parameters
    ----------
    views : its input. emission : restored counts at efficiency 1, ``(n, views, bins)``. unit : counts that an image
        value of 1 stands for, in counts a bin per pixel side ``(n,)``. level : mean trues in a bin ``(n,)``.
    surprise : see :func:`surprise` and :func:`cut_off`, whichever is larger.
    """

    views: Views
    emission: torch.Tensor
    unit: torch.Tensor
    level: torch.Tensor
    surprise: torch.Tensor

    def __getitem__(self, some: slice) -> Seen:
        rest = (getattr(self, name)[some] for name in ("emission", "unit", "level", "surprise"))
        return Seen(self.views[some], *rest)

    def corrected(self, image: torch.Tensor, projector: Projector) -> torch.Tensor:
        """The restored emission, changed by what another image has more or less than the present one."""
        return (self.emission + projector(image - self.views.image) * self.unit[:, None, None]).clamp_min(0)

    def look(self, grid: ImageGrid, projector: Projector, fov_mm: float) -> Look:
        """What is judged for familiarity, over a field of view; `grid` is the image's in mm."""
        explained = projector(self.views.image) * self.unit[:, None, None]
        size = self.emission.square().mean(dim=(-2, -1)).clamp_min(1e-12)
        misfit = ((explained - self.emission).square().mean(dim=(-2, -1)) / size).clamp_min(1e-8).log()
        return Look(features(self.views.image, grid, fov_mm), misfit, self.level.clamp_min(1e-3).log(), self.surprise)


@torch.no_grad()
def see(
    restorer: Restorer,
    scan: Counts,
    frames: Frames | None = None,
    emission: torch.Tensor | None = None,
    half: torch.Tensor | None = None,
) -> Seen:
    """Restore the planes, and dynamic frames where there are any, and put them into the network's units.

    Parameters
    ----------
    emission : counts at efficiency 1 ``(n, views, bins)`` where they are restored already. half : half of the scan's
        counts, thinned; with it a scan with frames borrows from them (:mod:`allpet.task.later_frames`).
    """
    scale, first = restorer.start(scan.counts, scan.efficiency, scan.background)
    if emission is None:
        emission = restorer(scan.counts, scan.efficiency, scan.background, scan.bin_mm, (scale, first))
        if frames is not None and half is not None:
            emission = borrowed(restorer, scan, emission, half, frames)
    bins = emission.shape[-1]
    unit = emission.mean(dim=(-2, -1)).clamp_min(1e-6) * (2 / bins)
    column = (slice(None), None, None)
    image = fbp(emission, restorer.projector).clamp_min(0) / unit[column]
    raw = gaussian_blur(first, 1.0) * (scale / unit)[column]
    mu = torch.zeros_like(image)
    if scan.depth is not None:
        mu = fbp(scan.depth, restorer.projector).clamp_min(0) / (WATER * scan.bin_mm[column])
    moving = torch.zeros(len(image), FRAMES, bins, bins)
    if frames is not None:
        for k in range(FRAMES):
            size, one = restorer.start(frames.counts[:, k], scan.efficiency, frames.background[:, k])
            moving[:, k] = gaussian_blur(one, FRAME_BLUR) * (size / (unit * frames.length[:, k]))[column]
    level = (scan.counts - scan.background).mean(dim=(-2, -1))
    shock = surprise(scan.counts, scan.efficiency * emission + scan.background)
    shock = torch.maximum(shock, cut_off(scan.counts, scan.background))
    return Seen(Views(image, raw, mu, moving), emission, unit, level, shock)


def cut_off(counts: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """By how many standard deviations trues go on, above :data:`EDGE` of the profile's peak, up to the last bins that
    are measured, on either side ``(n,)``: a body that reaches beyond the field of view. Below 0 where it ends in it.

    Where a background is expected in some bins, those that neither expect nor count anything are not measured.
    """
    profile, expected = counts.sum(dim=-2), background.sum(dim=-2)
    net, nowhere = profile - expected, (expected <= 0).all(dim=-1, keepdim=True)
    level = EDGE * net.amax(dim=-1)
    found = []
    for every, extra, trues in ((profile, expected, net), (profile.flip(-1), expected.flip(-1), net.flip(-1))):
        first = ((every > 0) | (extra > 0) | nowhere).int().argmax(dim=-1, keepdim=True)
        here = (first + torch.arange(1, 3)).clamp_max(every.shape[-1] - 1)  # the very first may be half measured
        noise = every.gather(-1, here).sum(dim=-1).clamp_min(1).sqrt()
        found.append((trues.gather(-1, here).sum(dim=-1) - 2 * level) / noise)
    return torch.maximum(*found)


def surprise(counts: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """By how many standard deviations counts ``(n, views, bins)`` differ more from their expectation than Poisson's.

    Mean of ``(y - m)^2 / m`` over bins, and over blocks of 2 x 2 and 4 x 4 of them, less 1, over its standard deviation
    under Poisson statistics, ``sqrt(sum(2 + 1/m)) / N``; the largest of the three ``(n,)``.
    """
    found = []
    for side in (1, 2, 4):
        y, m = (F.avg_pool2d(x[:, None], side)[:, 0] * side**2 for x in (counts, expected))
        used = m > 0.02 * m.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
        number = used.sum(dim=(-2, -1)).clamp_min(1)
        m = m.clamp_min(1e-6)
        mean = ((y - m).square() / m * used).sum(dim=(-2, -1)) / number
        spread = ((2 + 1 / m) * used).sum(dim=(-2, -1)).sqrt() / number
        found.append((mean - 1) / spread.clamp_min(1e-6))
    return torch.stack(found).amax(dim=0)
