"""Is a scan like anything that was trained on, and does it look like the tracer that it is said to be of?

Closed form, nothing learned by gradient: in each region the directions of log images that tell the tracers apart
(linear discriminant analysis with a ridge) and the principal components of what is left, one covariance about the
tracers' own means. What lies outside of the components, or far from the mean of the
tracer that is said, is unfamiliar; so is a restored sinogram that no image explains, and so are counts that lie further
from the restored sinogram than Poisson statistics allow, as those of a scan that is cut off or of a phantom of rods.
What is usual depends on the counts. An image nearer to another tracer's mean contradicts the word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.model.prompt import REGIONS, TRACERS
from allpet.model.regrid import regrid
from allpet.model.words import WordTables

SIZE = 32
LEVELS = 64
FEATURES = SIZE**2 + LEVELS + 2
RIDGE = 1.0
"""Added to the covariance's diagonal, in units of its mean, where the directions are sought that tell tracers apart."""
SHRINK = 0.1
"""Weight of the covariance's diagonal that is added to it."""
LIMIT = 3.0
"""Standard deviations above the usual at which a scan is called unfamiliar."""
DOUBT = 6.0
"""By how much nearer (squared Mahalanobis distance) another tracer must be for the word to be doubted."""


def features(image: torch.Tensor, grid: ImageGrid, fov_mm: float) -> torch.Tensor:
    """What is looked at, ``(n, 1090)``: log image of 32 x 32 over a field of view, and log quantiles of the body's.

    Parameters
    ----------
    image : ``(n, size, size)``, >= 0, in any unit, on `grid`. fov_mm : side that is looked at.
    """
    fine = 2 * SIZE
    x = regrid(image.clamp_min(0), grid, ImageGrid(fine, fov_mm / fine)).clamp_min(0)
    x = x / x.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    flat = x.flatten(1)
    area = (flat > 0.15).sum(dim=1, keepdim=True).clamp_min(1)
    ordered = flat.clamp_min(1e-3).sort(dim=1).values
    level = (torch.arange(LEVELS, device=x.device) + 0.5) / LEVELS
    quantiles = ordered.gather(1, flat.shape[1] - area + (level * area).long().clamp_max(area - 1))
    median = quantiles[:, LEVELS // 2, None]
    coarse = F.avg_pool2d(x[:, None], 2).flatten(1)
    return torch.cat([(coarse + 0.05).log(), (quantiles / median).log(), median.log(), area / flat.shape[1]], dim=1)


@dataclass(frozen=True)
class Look:
    """What is looked at in n planes.

    Parameters
    ----------
    features : see :func:`features`. misfit : log of the relative difference between the restored sinogram and the
        projection of its image ``(n,)``. level : log of the mean trues in a bin ``(n,)``. surprise : by how many
        standard deviations the counts differ more from the restored sinogram than Poisson's ``(n,)``.
    """

    features: torch.Tensor
    misfit: torch.Tensor
    level: torch.Tensor
    surprise: torch.Tensor

    def __len__(self) -> int:
        return len(self.level)


@dataclass(frozen=True)
class Verdict:
    """How familiar planes are.

    Parameters
    ----------
    strangeness : standard deviations above what is usual for people of the region and tracer ``(n,)``.
    contradiction : by how much nearer another tracer's mean is than the said one's ``(n,)``; None if none was said.
    region : the one that was said, else the most familiar. nearest : word of the nearest tracer, of each plane.
    """

    strangeness: torch.Tensor
    contradiction: torch.Tensor | None
    region: str
    nearest: tuple[str, ...]


class Familiar(WordTables):
    """The reference: for every region a centre, a scale, axes, the tracers' means and a whitening.

    Parameters
    ----------
    components : axes kept in each region.
    """

    tables = ("means", "outside", "usual")
    centre: torch.Tensor
    scale: torch.Tensor
    axes: torch.Tensor
    means: torch.Tensor
    whiten: torch.Tensor
    outside: torch.Tensor
    usual: torch.Tensor
    fov_mm: torch.Tensor

    def __init__(self, components: int = 64) -> None:
        super().__init__()
        self.config = dict(components=components)
        k, regions, tracers = components, len(REGIONS), len(TRACERS)
        self.register_buffer("centre", torch.zeros(regions, FEATURES))
        self.register_buffer("scale", torch.ones(regions, FEATURES))
        self.register_buffer("axes", torch.zeros(regions, k, FEATURES))
        self.register_buffer("means", torch.zeros(regions, tracers, k))
        self.register_buffer("whiten", torch.eye(k).expand(regions, k, k).clone())
        self.register_buffer("outside", torch.ones(regions, tracers))
        self.register_buffer("usual", torch.tensor([0.0, 0.0, 1.0]).expand(2, regions, tracers, 3).clone())
        self.register_buffer("fov_mm", torch.zeros(regions))

    def fit(self, region: str, by_tracer: Mapping[str, torch.Tensor], fov_mm: float) -> None:
        """Learn a region from features of people, ``(n, 1090)`` of each tracer.

        Raises
        ------
        AllpetError : a tracer is missing, or there are fewer people than components.
        """
        r, k = REGIONS.index(region), int(self.config["components"])
        if set(by_tracer) != set(TRACERS) or min(map(len, by_tracer.values())) * len(TRACERS) <= k:
            raise AllpetError(f"{region}: each of {', '.join(TRACERS)} needs more than {k // len(TRACERS)} people")
        together = torch.cat([by_tracer[t] for t in TRACERS]).double()
        centre, scale = together.mean(dim=0), together.std(dim=0).clamp_min(0.05)
        axes = _axes([(by_tracer[t].double() - centre) / scale for t in TRACERS], k)
        self.centre[r], self.scale[r], self.axes[r], self.fov_mm[r] = centre, scale, axes, fov_mm
        along = [((by_tracer[t].double() - centre) / scale) @ axes.T for t in TRACERS]
        means = torch.stack([x.mean(dim=0) for x in along])
        left = torch.cat([x - m for x, m in zip(along, means, strict=True)])
        spread = left.T @ left / len(left)
        diagonal = spread.diagonal()
        spread = spread + SHRINK * torch.diag(diagonal) + 1e-3 * diagonal.mean() * torch.eye(k)
        self.means[r] = means
        self.whiten[r] = torch.linalg.inv(torch.linalg.cholesky(spread))

    def calibrate(self, region: str, by_tracer: Mapping[str, Look]) -> None:
        """Learn what is usual from other people, each tracer's: a straight line in the log of the counts."""
        r = REGIONS.index(region)
        for t, tracer in enumerate(TRACERS):
            look = by_tracer[tracer]
            outside, distance = self._distances(look.features, r)
            self.outside[r, t] = outside.mean()
            score = self._score(outside, distance, r)[:, t]
            for k, values in enumerate((score, look.misfit)):
                line = torch.stack([torch.ones_like(look.level), look.level], dim=1)
                found = torch.linalg.lstsq(line, values[:, None]).solution[:, 0]
                spread = (values - line @ found).std().clamp_min(0.05)
                self.usual[k, r, t] = torch.cat([found, spread[None]])

    def _score(self, outside: torch.Tensor, distance: torch.Tensor, r: int) -> torch.Tensor:
        """Log of how far off planes are from each tracer's people, ``(n, tracers)``."""
        return (outside[:, None] / self.outside[r] + distance / self.config["components"]).clamp_min(1e-9).log()

    def _distances(self, x: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Square left outside of the axes ``(n,)``, and squared Mahalanobis distances to the tracers' means."""
        centred = (x - self.centre[r]) / self.scale[r]
        along = centred @ self.axes[r].T
        outside = (centred - along @ self.axes[r]).square().sum(dim=1)
        white = (along[:, None] - self.means[r]) @ self.whiten[r].T
        return outside, white.square().sum(dim=2)

    @torch.no_grad()
    def forward(self, look: Callable[[float], Look], tracer: str | None, region: str | None) -> Verdict:
        """Judge planes; without a region, or with an unknown one, the most familiar region counts.

        Parameters
        ----------
        look : what is looked at, given the side of the field of view in mm.
        """
        known = [r for r in range(len(REGIONS)) if float(self.fov_mm[r]) > 0]
        if not known:
            raise AllpetError("the model does not know yet what is usual; run: python -m allpet.train.calibrate RUN")
        if region in REGIONS and REGIONS.index(region) in known:
            known = [REGIONS.index(region)]
        verdicts = [self._judge(look(float(self.fov_mm[r])), r, tracer) for r in known]
        return min(verdicts, key=lambda v: float(v.strangeness.median()))

    def _judge(self, look: Look, r: int, tracer: str | None) -> Verdict:
        outside, distance = self._distances(look.features, r)
        values = torch.stack([self._score(outside, distance, r), look.misfit[:, None].expand_as(distance)])
        start, slope, spread = self.usual[:, r].unsqueeze(1).unbind(dim=-1)
        strange = ((values - start - slope * look.level[:, None]) / spread).amax(dim=0)
        strange = torch.maximum(strange, look.surprise[:, None])
        nearest = tuple(TRACERS[k] for k in distance.argmin(dim=1).tolist())
        if tracer not in TRACERS[: self.means.shape[1]]:
            return Verdict(strange.amin(dim=1), None, REGIONS[r], nearest)
        t = TRACERS.index(tracer)
        others = distance.clone()
        others[:, t] = torch.inf
        return Verdict(strange[:, t], distance[:, t] - others.amin(dim=1), REGIONS[r], nearest)


def _axes(groups: list[torch.Tensor], k: int) -> torch.Tensor:
    """k orthonormal axes: those that tell the groups' means apart best, then principal components of what is left.

    Principal components alone leave out fine texture, which tells tracers apart where organs look alike.
    """
    means = torch.stack([x.mean(dim=0) for x in groups])
    together = torch.cat(groups)
    within = torch.cat([x - m for x, m in zip(groups, means, strict=True)])
    spread = within.T @ within / len(within)
    spread = spread + RIDGE * spread.diagonal().mean() * torch.eye(len(spread))
    apart = torch.linalg.solve(spread, (means - means.mean(dim=0)).T).T
    first = torch.linalg.svd(apart, full_matrices=False).Vh[: min(len(groups) - 1, k)]
    rest = together - (together @ first.T) @ first
    return torch.cat([first, torch.linalg.svd(rest, full_matrices=False).Vh[: k - len(first)]])


def warnings(verdict: Verdict, tracer: str | None) -> list[str]:
    """What a user should know, in words; empty for a scan like those that were trained on."""
    out = []
    strange = torch.nonzero(verdict.strangeness > LIMIT).flatten().tolist()
    if strange:
        worst = float(verdict.strangeness.max())
        out.append(
            f"WARNING: {len(strange)} of {len(verdict.strangeness)} planes are unlike what the model was trained on "
            f"({verdict.region}; up to {worst:.1f} standard deviations from the usual, {LIMIT:g} is the limit): "
            "do not rely on the result there"
        )
    if verdict.contradiction is not None:
        doubted = [k for k, value in enumerate(verdict.contradiction.tolist()) if value > DOUBT]
        if 2 * len(doubted) > len(verdict.contradiction):
            likely = max(set(verdict.nearest), key=verdict.nearest.count)
            out.append(
                f"WARNING: {len(doubted)} of {len(verdict.contradiction)} planes look more like {likely} than like "
                f"{tracer}: check the tracer"
            )
    return out
