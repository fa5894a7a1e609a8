"""Whether stated standard deviations are right: the factor that makes intervals cover, and how to see that they do."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from allpet.model import AllPET
    from allpet.model.translator import Translator
    from allpet.scan.dataset import Dataset
    from allpet.train.pairs import PairSet

LEVEL = 0.9
"""Share of truths that an interval shall cover."""
NORMAL = 1.6448536
"""Half the width of that interval in standard deviations of a normal distribution."""
FITTED = 8
"""Draws behind the deviations that factors are fitted to."""
BODY = 0.1
"""Truth above this share of its 99th percentile is body."""
SEEING = 0.05
"""Bins with at least this share of the plane's peak of trues see the body."""
ATTENUATING = 0.3
"""For attenuation: truth above this, in units of water's, is body."""


@cache
def few_draws(samples: int) -> float:
    """By how much the deviation of fewer than :data:`FITTED` draws must be larger for the same factor to cover: the
    ratio of Student's quantiles; 1 for as many or more."""
    from scipy.stats import t

    level = (1 + LEVEL) / 2
    return max(1.0, float(t.ppf(level, samples - 1) / t.ppf(level, FITTED - 1)))


def body_of(target: torch.Tensor, attenuation: torch.Tensor) -> torch.Tensor:
    """Pixels of the body in images ``(n, bins, bins)``; `attenuation` (n,) says which of them are mu maps."""
    level = BODY * target.flatten(1).quantile(0.99, dim=1)
    level = torch.where(attenuation, torch.full_like(level, ATTENUATING), level)
    return target > level[:, None, None]


def errors(network: Translator, pairs: PairSet, restored: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Error over stated standard deviation of the first result, and the pixels of each body, ``(n, bins, bins)`` both;
    `restored`: error of the image that the network was given, which is kept where it is not trusted."""
    found = []
    for k in range(0, len(pairs), 16):
        part = pairs[slice(k, k + 16)]
        with torch.no_grad():
            mean, spread = network(part.views, part.question)
        truth = part.target[:, 0].float()
        image = part.views.image if restored else mean[:, 0]
        found.append(((image - truth) / spread[:, 0].clamp_min(1e-6), body_of(truth, part.attenuation)))
    off, body = (torch.cat(x) for x in zip(*found, strict=True))
    return off, body


def ratios(network: Translator, pairs: PairSet, restored: bool = False) -> list[torch.Tensor]:
    """The same errors, of all pixels of each body; none of no pairs."""
    if not len(pairs):
        return []
    return [one[inside] for one, inside in zip(*errors(network, pairs, restored), strict=True)]


def sinogram_ratios(model: AllPET, data: Dataset, k: int, samples: int) -> torch.Tensor:
    """Error over stated standard deviation in the bins that see the body, of what `apply` gives for scan k of pairs.

    Draws go by seed and plane: every person of every set has some of their own, lest all lean on the luck of a few.
    """
    from allpet.task.rivals import asked_for, truth

    seed = zlib.crc32(json.dumps(data.prompt, sort_keys=True).encode())
    options = dict(samples=samples, seed=seed, first_plane=k, **asked_for(data))
    result = model.apply(str(data.prompt["task"]), data.scan([k]), **options)
    assert result.std is not None
    off = result.expected.sinogram[0] - torch.from_numpy(data["sinogram"][k])
    trues = truth(data)[k, 0]
    return (off / result.std.sinogram[0].clamp_min(1e-9))[trues > SEEING * trues.max()]


def image_factor(network: Translator, pairs: PairSet) -> float:
    """Factor on standard deviations with which 90 % intervals cover 90 % of the pixels of these bodies."""
    return factor_of(ratios(network, pairs))


def factor_of(found: Sequence[torch.Tensor]) -> float:
    """The same of errors over their stated standard deviations; 1 where there are none."""
    size = torch.cat([one.abs() for one in found]) if found else torch.zeros(0)
    return float(size.kthvalue(max(1, round(LEVEL * len(size)))).values) / NORMAL if len(size) else 1.0
