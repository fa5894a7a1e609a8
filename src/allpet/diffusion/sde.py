"""The stochastic sibling of `dpm`: fresh noise at every step lets later steps mend what earlier ones got wrong."""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from allpet.diffusion.edm import SIGMA_MAX, SIGMA_MIN, clean_at, levels
from allpet.diffusion.noise import START, STEPS, Denoise, Noise

ETA = 0.5
"""Share of the reverse diffusion's noise: 0 is the probability flow, 1 all of it."""

STRIDE = 2.6
"""Largest mean factor between noise levels. With few evaluations the last level is so high that this holds: what they
leave open is better answered by its mean than by larger steps."""


def sde(denoise: Denoise, noise: Noise, mean: torch.Tensor, sigma_data: float, steps: int) -> torch.Tensor:
    """SDE-DPM-Solver++ (2M) (Lu et al., arXiv 2211.01095), with a share of the noise, second order.

    With ``h = log(sigma / sigma')``, ``e = eta h``, ``D' = D + h / (2 h_before) (D - D_before)`` of the two last
    evaluations and noise n a step is
    ``z' = sigma'/sigma exp(-e) z + (1 - exp(-h - e)) D' + sigma' sqrt(1 - exp(-2e)) n``.
    """
    low = max(SIGMA_MIN, SIGMA_MAX / STRIDE ** (steps - 1))
    sigmas = [sigma_data * s for s in levels(steps, low)]
    z = mean + sigmas[0] * noise(START)
    before: torch.Tensor | None = None
    h_before = 0.0
    for k, (here, there) in enumerate(pairwise(sigmas)):
        clean = clean_at(denoise, z, here)
        h = math.log(here / there)
        ahead = clean if before is None else clean + (h / (2 * h_before)) * (clean - before)
        z = there / here * math.exp(-ETA * h) * z - math.expm1(-(1 + ETA) * h) * ahead
        z = z + there * math.sqrt(-math.expm1(-2 * ETA * h)) * noise(STEPS + k)
        before, h_before = clean, h
    return clean_at(denoise, z, sigmas[-1])
