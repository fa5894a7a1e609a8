"""Recipe ``tasks``: the translator, on pairs of all tasks, in the images that the restorer gives of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from allpet.model.allpet import CONFIG, AllPET
from allpet.model.translator import Translator
from allpet.train.muon import muon
from allpet.train.pairs import PairSet, forgotten, moved
from allpet.train.samples import apart

FLOOR = 1e-4
"""Relative square error below which a pair counts as right."""
COLD = 0.3
"""Added to the truth in the relative error of a pixel, in units of the scan."""
ORGAN = 8
"""Side in pixels of the fields over which the mean shall be right, too."""
HOTTER, COLDER, AROUND = 1.8, 0.5, 21
"""Uptake over that of the surroundings from which on a pixel is hot, or cold; side of the surroundings in pixels."""
DOUBT = 0.2
"""Weight of the standard deviation's likelihood in the loss."""


def base_model(folder: Path) -> AllPET:
    """The run folder's model so far if it has a restorer, else the shipped weights."""
    if (folder / CONFIG).is_file():
        model = AllPET.from_pretrained(folder)
        if model.restorer is not None:
            return model
    return AllPET.from_pretrained()


def hot_and_cold(target: torch.Tensor) -> torch.Tensor:
    """1 where images ``(n, rows, columns)`` are :data:`HOTTER` times as hot or :data:`COLDER` times as cold as their
    surroundings (the mean of the body over :data:`AROUND` pixels), else 0: a coarse segmentation without a parameter
    that is learned."""
    image = F.avg_pool2d(target[:, None], 3, 1, 1)
    body = (image > 0.1 * image.flatten(1).quantile(0.99, dim=1)[:, None, None, None]).float()
    body = -F.max_pool2d(-F.max_pool2d(body, 9, 1, 4), 9, 1, 4)  # holes, such as a necrotic centre, belong to it
    size = (AROUND, 1, AROUND // 2)
    around = F.avg_pool2d(image * body, *size) / F.avg_pool2d(body, *size).clamp_min(1e-3)
    found = ((image > HOTTER * around) | (image < COLDER * around)).float() * body
    return found[:, 0]


def translation_loss(network: Translator, pairs: PairSet, attention: float = 0.0) -> torch.Tensor:
    """Mean over pairs of log relative square error, relative absolute error of pixels and of fields, and misfit of the
    stated deviation.

    The deviation's term is the negative log-likelihood of a Laplace distribution about the (fixed) mean.

    Parameters
    ----------
    attention : strength with which hot and cold regions of the target weigh more: 1 + attention, before all weights
        are divided by their mean.
    """
    mean, spread = network(pairs.views, pairs.question)
    target = pairs.target.float()
    asked = target.amax(dim=(-2, -1)) > 0
    error = mean - target
    if attention:
        weight = 1 + attention * torch.stack([hot_and_cold(image) for image in target.unbind(1)], dim=1)
        error = error * (weight / weight.mean(dim=(-2, -1), keepdim=True)).sqrt()
    square = error.square().mean(dim=(-2, -1)) / target.square().mean(dim=(-2, -1)).clamp_min(1e-6)
    relative = (error.abs() / (target + COLD)).mean(dim=(-2, -1))
    wide, around = F.avg_pool2d(error, ORGAN).abs(), F.avg_pool2d(target, ORGAN)
    relative = relative + (wide / (around + COLD)).mean(dim=(-2, -1))
    doubt = spread.clamp_min(1e-4)
    misfit = ((mean - target).detach().abs() / doubt + doubt.log()).mean(dim=(-2, -1))
    each = (square + FLOOR).log() + relative + DOUBT * misfit
    return each[asked].mean()


class Tasks:
    """Train the translator.

    Parameters
    ----------
    data : pairs, restored. start : translator to go on from; default a new one.
    """

    rate, ema, batch = 2e-3, 0.998, 16
    precision = "fp32"
    progress = 0.0
    held = 1 / 20
    attention = 0.0

    def __init__(self, data: PairSet, folder: Path, seed: int, start: Translator | None = None) -> None:
        self.folder, self.seed, self.data = folder, seed, data
        self.rows, kept = apart(data.subject, self.held, seed)  # rows, so that the data stand in memory once
        self.kept = data[kept]
        torch.manual_seed(seed)
        self.network = start or Translator()

    @staticmethod
    def load(paths: Sequence[str | Path], folder: Path) -> PairSet:
        """Pairs in stores, restored by the model that they are trained for."""
        return PairSet.load(paths, base_model(folder).need("restorer"))

    def optimizer(self, network: Translator) -> torch.optim.Optimizer:
        """Muon inside of the U-Net."""
        return muon(network, network.unet, self.rate)

    def loss(self, network: Translator, rng: torch.Generator) -> torch.Tensor:
        """See :func:`translation_loss`."""
        network.precision = self.precision
        pick = self.rows[torch.randint(len(self.rows), (self.batch,), generator=rng)]
        return translation_loss(network, forgotten(moved(self.data[pick], rng), rng), self.attention)

    def held_out(self, network: Translator, rng: torch.Generator) -> float | None:
        """The same on the first 256 pairs of subjects kept apart, as they are."""
        if not len(self.kept):
            return None
        parts = [self.kept[slice(k, k + 32)] for k in range(0, min(len(self.kept), 256), 32)]
        return sum(float(translation_loss(network, part)) * len(part) for part in parts) / sum(map(len, parts))

    def export(self, network: Translator, record: dict[str, Any]) -> None:
        model = base_model(self.folder)
        model.translator = network
        facts = dict(pairs=len(self.data), subjects=len(set(self.data.subject.tolist())))
        record = record | {"data": facts | {"fingerprint": self.data.fingerprint()}}
        model.config["trained"][record["recipe"]] = record
        model.save_pretrained(self.folder)
