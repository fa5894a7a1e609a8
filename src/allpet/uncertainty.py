"""Whether stated standard deviations are right: the factor that makes intervals cover, and how to see that they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from allpet.model.translator import Translator
    from allpet.train.pairs import PairSet

LEVEL = 0.9
"""Share of truths that an interval shall cover."""
NORMAL = 1.6448536
"""Half the width of that interval in standard deviations of a normal distribution."""
BODY = 0.1
"""Truth above this share of its 99th percentile is body."""
ATTENUATING = 0.3
"""For attenuation: truth above this, in units of water's, is body."""


def body_of(target: torch.Tensor, attenuation: torch.Tensor) -> torch.Tensor:
    """Pixels of the body in images ``(n, bins, bins)``; `attenuation` (n,) says which of them are mu maps."""
    level = BODY * target.flatten(1).quantile(0.99, dim=1)
    level = torch.where(attenuation, torch.full_like(level, ATTENUATING), level)
    return target > level[:, None, None]


def ratios(network: Translator, pairs: PairSet) -> torch.Tensor:
    """Error over stated standard deviation of the first result, in all pixels of the bodies."""
    found = []
    for k in range(0, len(pairs), 16):
        part = pairs[slice(k, k + 16)]
        with torch.no_grad():
            mean, spread = network(part.views, part.question)
        truth = part.target[:, 0].float()
        body = body_of(truth, part.attenuation)
        found.append(((mean[:, 0] - truth) / spread[:, 0].clamp_min(1e-6))[body])
    return torch.cat(found)


def image_factor(network: Translator, pairs: PairSet) -> float:
    """Factor on standard deviations with which 90 % intervals cover 90 % of the pixels of these bodies."""
    size = ratios(network, pairs).abs()
    return float(size.kthvalue(max(1, round(LEVEL * len(size)))).values) / NORMAL
