"""DDIM: the deterministic sampler of Song et al. (arXiv 2010.02502), from `diffusers`.

On the levels of :mod:`allpet.diffusion.ddpm`, where its rule is Euler's method in sigma.
"""

from __future__ import annotations

import torch

from allpet.diffusion.ddpm import vp_clean, vp_options
from allpet.diffusion.noise import START, Denoise, Noise


def ddim(denoise: Denoise, noise: Noise, mean: torch.Tensor, sigma_data: float, steps: int) -> torch.Tensor:
    """Deterministic after its start; one evaluation a step."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    solver = DDIMScheduler(**vp_options(steps), set_alpha_to_one=True)
    solver.set_timesteps(steps)
    x = noise(START)
    for t in solver.timesteps.tolist():
        u = vp_clean(denoise, x, float(solver.alphas_cumprod[t]), mean, sigma_data)
        x = solver.step(u, t, x, eta=0.0).prev_sample
    return mean + sigma_data * x
