"""After training: how coarse the grains of the model's errors are.

``python -m allpet.train.grains RUN`` prints the share of the variance that every width in
:data:`allpet.task.grains.WIDTHS` has in the errors of simulated validation people, over their stated deviations. They
are fitted to the autocorrelation of these errors in the body: a grain of width w has exp(-r^2 / 4 w^2) at a distance r.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from allpet.model import AllPET
from allpet.task import TASKS
from allpet.task.grains import WIDTHS
from allpet.train.calibrate import validation_sets
from allpet.train.pairs import PairSet
from allpet.uncertainty import errors

PEOPLE = 6
"""Of each task, tracer (or two) and region."""
REACH = 40
"""Largest distance that is looked at, in pixels."""


def autocorrelation(off: torch.Tensor, body: torch.Tensor, reach: int = REACH) -> torch.Tensor:
    """Mean product of errors at every distance ``(2 reach + 1, 2 reach + 1)``, over pairs of pixels both in the body.

    Parameters
    ----------
    off : errors ``(n, bins, bins)``. body : pixels that count, of the same shape.
    """
    bins = off.shape[-1]
    room = [2 * bins, 2 * bins]
    products, pairs = (
        torch.fft.irfft2(torch.fft.rfft2(x * body, s=room).abs().square().sum(dim=0), s=room)
        for x in (off.double(), torch.ones_like(off).double())
    )
    at = torch.arange(-reach, reach + 1) % (2 * bins)
    return (products / pairs.clamp_min(1))[at][:, at]


def shares(correlation: torch.Tensor, widths: tuple[float, ...]) -> list[float]:
    """Shares of the variance >= 0, that sum to 1, whose grains are nearest to an autocorrelation (least squares)."""
    reach = len(correlation) // 2
    r = torch.arange(-reach, reach + 1).double()
    distance = r[:, None].square() + r.square()
    grains = np.stack([torch.exp(-distance / (4 * w * w)).flatten().numpy() for w in widths], axis=1)
    found, _ = nnls(grains, correlation.flatten().numpy())
    return [float(x) for x in found / found.sum()]


def measure(model: AllPET, people: int = PEOPLE, seed: int = 24) -> dict[str, list[float]]:
    """Shares of every width by task."""
    found = {}
    for task in TASKS:
        sets = []
        for data in validation_sets(model, task, people, seed):
            off, body = errors(model.translator_of(task), PairSet.from_dataset(data, model.need("restorer")))
            sets.append(autocorrelation(off, body))
        found[task] = shares(torch.stack([one / one.max() for one in sets]).mean(dim=0), WIDTHS)
    return found


if __name__ == "__main__":
    for task, found in measure(AllPET.from_pretrained(Path(sys.argv[1]))).items():
        print(task, " ".join(f"{width:g} px: {share:.2f}" for width, share in zip(WIDTHS, found, strict=True)))
