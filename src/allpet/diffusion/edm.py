"""Noise levels and solvers of Karras et al. (EDM, arXiv 2206.00364): dpm, euler, heun.

All three follow the probability flow ``dz/dsigma = (z - denoise(z, sigma)) / sigma`` from pure noise to no noise.
The first two are `diffusers` schedulers; Heun's method is written here, since `diffusers` has it for other
noise levels only.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from allpet.diffusion.noise import START, Denoise, Noise

SIGMA_MIN, SIGMA_MAX, RHO = 0.02, 40.0, 20.0
"""In units of sigma_data. The highest must hide the largest latents (a full bladder in a sinogram of mean 1 is 13 times
sigma_data); the last step loses a share of all detail smaller than the lowest."""


def levels(steps: int, low: float = SIGMA_MIN, high: float = SIGMA_MAX, rho: float = RHO) -> list[float]:
    """Noise levels of equation 5 of the paper, `high` down to `low`, without the final 0; one level is `high`."""
    if steps == 1:
        return [high]
    a, b = high ** (1 / rho), low ** (1 / rho)
    inner = [(a + k / (steps - 1) * (b - a)) ** rho for k in range(1, steps - 1)]
    return [high, *inner, low]


def clean_at(denoise: Denoise, z: torch.Tensor, sigma: float) -> torch.Tensor:
    """The denoiser with one noise level for all n."""
    return denoise(z, torch.full((len(z),), sigma, dtype=z.dtype, device=z.device))


def dpm(denoise: Denoise, noise: Noise, mean: torch.Tensor, sigma_data: float, steps: int) -> torch.Tensor:
    """DPM-Solver++ (2M), second order from the last two evaluations (Lu et al., arXiv 2211.01095)."""
    from diffusers.schedulers.scheduling_edm_dpmsolver_multistep import EDMDPMSolverMultistepScheduler

    solver = EDMDPMSolverMultistepScheduler(**_range(sigma_data), solver_order=2, final_sigmas_type="zero")
    return _solve(solver, denoise, noise, mean, sigma_data, steps)


def euler(denoise: Denoise, noise: Noise, mean: torch.Tensor, sigma_data: float, steps: int) -> torch.Tensor:
    """Euler's method, first order."""
    from diffusers.schedulers.scheduling_edm_euler import EDMEulerScheduler

    return _solve(EDMEulerScheduler(**_range(sigma_data)), denoise, noise, mean, sigma_data, steps)


def heun(denoise: Denoise, noise: Noise, mean: torch.Tensor, sigma_data: float, steps: int) -> torch.Tensor:
    """Heun's method, algorithm 1 of the paper: two evaluations a step, one in the last, which ends at sigma = 0."""
    sigmas = [sigma_data * s for s in levels(steps)] + [0.0]
    z = mean + sigmas[0] * noise(START)
    for here, there in pairwise(sigmas):
        slope = (z - clean_at(denoise, z, here)) / here
        ahead = z + (there - here) * slope
        if there > 0:
            slope = (slope + (ahead - clean_at(denoise, ahead, there)) / there) / 2
            ahead = z + (there - here) * slope
        z = ahead
    return z


def _range(sigma_data: float) -> dict[str, Any]:
    low, high = SIGMA_MIN * sigma_data, SIGMA_MAX * sigma_data
    return dict(sigma_min=low, sigma_max=high, sigma_data=sigma_data, rho=RHO)


def _solve(
    solver: Any, denoise: Denoise, noise: Noise, mean: torch.Tensor, sigma_data: float, steps: int
) -> torch.Tensor:
    """Run a `diffusers` scheduler of the EDM family."""
    solver.set_timesteps(steps, device=mean.device)
    sigmas = solver.sigmas.tolist()
    z = mean + sigmas[0] * noise(START)
    for sigma, t in zip(sigmas[:-1], solver.timesteps, strict=True):
        clean = clean_at(denoise, z, sigma)
        # The solver wants the raw output of a network with one number for sigma_data: the one that gives `clean`.
        total = sigma**2 + sigma_data**2
        raw = (clean - sigma_data**2 / total * z) / (sigma * sigma_data / total**0.5)
        solver.scale_model_input(z, t)
        z = solver.step(raw, t, z).prev_sample
    return z
