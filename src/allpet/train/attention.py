"""Recipe ``attention``: the second look at regions, with the region as condition and as weight of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from allpet.model.allpet import AllPET
from allpet.model.focus import Focus
from allpet.train.marked import Marked
from allpet.train.muon import muon
from allpet.train.samples import apart
from allpet.train.tasks import COLD, DOUBT, base_model

MEAN = 1.0
"""Weight of the error of a region's mean in the loss."""
FLOOR = 1e-4
"""Relative square error below which a region counts as right."""


def attention_loss(network: Focus, regions: Marked) -> torch.Tensor:
    """Mean over regions of the relative root mean square error in the region, the relative error of its mean, and the
    misfit of the stated deviation (negative log-likelihood of a Laplace distribution about the fixed mean)."""
    image, spread = network(regions.sight)
    target, weight = regions.target.float(), regions.sight.stack[:, 4]
    error, total = image - target, weight.sum(dim=(-2, -1)).clamp_min(1e-3)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (values * weight).sum(dim=(-2, -1)) / total

    size = (mean(target.square()) + COLD**2).sqrt()
    square = (mean(error.square()) / size.square() + FLOOR).sqrt()
    off = mean(error).abs() / size
    doubt = spread.clamp_min(1e-4)
    misfit = mean(error.detach().abs() / doubt + doubt.log())
    return (square + MEAN * off + DOUBT * misfit).mean()


def turned(regions: Marked, rng: torch.Generator) -> Marked:
    """All regions of a batch mirrored and turned by right angles, the same way."""
    turns, mirror = int(torch.randint(4, (1,), generator=rng)), bool(torch.randint(2, (1,), generator=rng))

    def change(values: torch.Tensor) -> torch.Tensor:
        values = torch.rot90(values, turns, (-2, -1))
        return values.flip(-1) if mirror else values

    moved = replace(regions.sight, stack=change(regions.sight.stack))
    return replace(regions, sight=moved, target=change(regions.target))


def as_float(regions: Marked) -> Marked:
    """The same with the network's input in float32."""
    return replace(regions, sight=replace(regions.sight, stack=regions.sight.stack.float()))


class Attention:
    """Train the second look.

    Parameters
    ----------
    data : regions marked in scans, see :mod:`allpet.train.marked`.
    """

    rate, ema, batch = 2e-3, 0.998, 32
    precision = "fp32"
    progress = 0.0
    held = 1 / 20

    def __init__(self, data: Marked, folder: Path, seed: int, start: Focus | None = None) -> None:
        self.folder, self.seed, self.data = folder, seed, data
        self.rows, kept = apart(data.subject, self.held, seed)
        self.kept = data[kept]
        torch.manual_seed(seed)
        self.network = start or Focus()

    @staticmethod
    def load(paths: Sequence[str | Path], folder: Path) -> Marked:
        """Regions marked in the scans of stores of pairs, seen by the model that they are trained for."""
        return Marked.load(paths, base_model(folder))

    def optimizer(self, network: Focus) -> torch.optim.Optimizer:
        """Muon inside of the U-Net."""
        return muon(network, network.unet, self.rate)

    def loss(self, network: Focus, rng: torch.Generator) -> torch.Tensor:
        """See :func:`attention_loss`."""
        network.precision = self.precision
        pick = self.rows[torch.randint(len(self.rows), (self.batch,), generator=rng)]
        return attention_loss(network, turned(as_float(self.data[pick]), rng))

    def held_out(self, network: Focus, rng: torch.Generator) -> float | None:
        """The same on subjects kept apart, as they are."""
        if not len(self.kept):
            return None
        parts = [self.kept[slice(k, k + 64)] for k in range(0, len(self.kept), 64)]
        return sum(float(attention_loss(network, as_float(part))) * len(part) for part in parts) / len(self.kept)

    def export(self, network: Focus, record: dict[str, Any]) -> None:
        model: AllPET = base_model(self.folder)
        model.focus = network
        facts = dict(regions=len(self.data), subjects=len(set(self.data.subject.tolist())))
        record = record | {"data": facts | {"fingerprint": self.data.fingerprint()}}
        model.config["trained"][record["recipe"]] = record
        model.save_pretrained(self.folder)
