"""DDPM: ancestral sampling (Ho et al., arXiv 2006.11239), with the tables of `diffusers`' scheduler.

DDPM keeps the variance: ``x = sqrt(a) * u + sqrt(1 - a) * noise`` with ``u = (clean - mean) / sigma_data``. Over
``sqrt(a)`` this is the state that the denoiser knows, at ``sigma = sigma_data * sqrt((1 - a) / a)``. The betas are
those whose levels are the levels of :mod:`allpet.diffusion.edm`, one timestep a step: respacing a schedule of 1000
to any number of steps is then exact, and samplers differ in nothing but their rule.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from allpet.diffusion.edm import clean_at, levels
from allpet.diffusion.noise import START, STEPS, Denoise, Noise


def vp_options(steps: int) -> dict[str, Any]:
    """Options of a variance-preserving `diffusers` scheduler: betas of the levels, the network gives the sample."""
    sigmas = [0.0, *reversed(levels(steps))]
    betas = [(b**2 - a**2) / (1 + b**2) for a, b in pairwise(sigmas)]
    return dict(num_train_timesteps=steps, trained_betas=betas, prediction_type="sample", clip_sample=False)


def vp_clean(denoise: Denoise, x: torch.Tensor, a: float, mean: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """Expected u of the module's docstring, given x at ``a = alphas_cumprod[t]``."""
    z = mean + (sigma_data / a**0.5) * x
    return (clean_at(denoise, z, sigma_data * ((1 - a) / a) ** 0.5) - mean) / sigma_data


def ancestor(clean: torch.Tensor, x: torch.Tensor, a: float, before: float, noise: torch.Tensor) -> torch.Tensor:
    """A draw of the state at `before` given the state x at `a` and its clean state (equations 6 and 7 of the paper).

    `diffusers`' own step takes its noise from a generator, which would make a sample depend on its batch.

    Parameters
    ----------
    a, before : cumulative products of alpha at this timestep and at the next less noisy one (1 at the end).
    """
    alpha = a / before
    from_clean = before**0.5 * (1 - alpha) / (1 - a)
    from_state = alpha**0.5 * (1 - before) / (1 - a)
    variance = (1 - before) / (1 - a) * (1 - alpha)
    return from_clean * clean + from_state * x + variance**0.5 * noise


def ddpm(denoise: Denoise, noise: Noise, mean: torch.Tensor, sigma_data: float, steps: int) -> torch.Tensor:
    """Ancestral sampling; the noise of step k is stream ``STEPS + k``."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    solver = DDPMScheduler(**vp_options(steps), variance_type="fixed_small")
    products = [*solver.alphas_cumprod.tolist()[::-1], 1.0]
    x = noise(START)
    for k in range(steps):
        u = vp_clean(denoise, x, products[k], mean, sigma_data)
        x = ancestor(u, x, products[k], products[k + 1], noise(STEPS + k)) if k < steps - 1 else u
    return mean + sigma_data * x
