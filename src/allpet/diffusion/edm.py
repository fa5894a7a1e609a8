"""Sampling of the latent denoiser with Karras (EDM) noise levels; the solvers come from `diffusers`.

Noise is seeded sample by sample: sample i of a seed depends neither on how many are drawn
nor on the batch it is drawn in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from allpet.errors import AllpetError

if TYPE_CHECKING:
    from allpet.model.denoiser import Condition, Denoiser

SAMPLERS = {"dpm": "second-order multistep DPM-Solver++ (the default)", "euler": "Euler's method"}
SIGMA_MIN, SIGMA_MAX, RHO = 0.08, 20.0, 7.0  # in units of sigma_data; 10 steps keep the spread of Gaussian data to 5 %


def scheduler(name: str, sigma_data: float) -> Any:
    """The `diffusers` scheduler of that name, with this project's noise levels.

    Raises
    ------
    AllpetError : unknown name; the message lists the known.
    """
    if name not in SAMPLERS:
        raise AllpetError(f"sampler '{name}' is unknown; known: {', '.join(SAMPLERS)}")
    levels: dict[str, Any] = dict(
        sigma_min=SIGMA_MIN * sigma_data, sigma_max=SIGMA_MAX * sigma_data, sigma_data=sigma_data, rho=RHO
    )
    if name == "euler":
        from diffusers.schedulers.scheduling_edm_euler import EDMEulerScheduler

        return EDMEulerScheduler(**levels)
    from diffusers.schedulers.scheduling_edm_dpmsolver_multistep import EDMDPMSolverMultistepScheduler

    return EDMDPMSolverMultistepScheduler(**levels, solver_order=2, final_sigmas_type="zero")


def seeded_noise(shape: Sequence[int], seed: int, indices: Sequence[int], stream: int = 0) -> torch.Tensor:
    """Standard normal noise ``(len(indices), *shape)``; row k depends on (seed, stream, indices[k]) alone."""
    import numpy as np

    rows = []
    for i in indices:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, int(i)])))
        rows.append(torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32)))
    return torch.stack(rows)


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    noise: torch.Tensor,
    condition: Condition,
    sampler: str = "dpm",
    steps: int = 10,
    guidance: float = 1.0,
    project: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Clean latents from noise.

    Parameters
    ----------
    noise : standard normal ``(n, 2 * channels, h, w)``. steps : network evaluations (twice that with guidance).
    guidance : 1 follows the condition as learned; above 1 exaggerates the prompt (classifier-free guidance).
    project : applied to every estimate of the clean latents: what is known of them for certain. The truth
        being in a convex set, its nearest point there is closer to the truth than the estimate was.
    """
    if steps < 1:
        raise AllpetError(f"steps is {steps}; it must be at least 1")
    solver = scheduler(sampler, denoiser.sigma_data)
    solver.set_timesteps(steps, device=noise.device)
    z = noise * solver.sigmas[0]
    unsaid = condition.without_prompt()
    sd = denoiser.sigma_data
    for t in solver.timesteps:
        sigma = torch.exp(4 * t.to(z.dtype))
        levels = sigma.expand(len(z))
        clean = denoiser(z, levels, condition)
        if guidance != 1.0:
            blind = denoiser(z, levels, unsaid)
            clean = blind + guidance * (clean - blind)
        if project is not None:
            clean = project(clean)
        # The solver wants the raw output of a network with one number for sigma_data: the one that gives `clean`.
        keep, gain = sd**2 / (sigma**2 + sd**2), sigma * sd / (sigma**2 + sd**2).sqrt()
        solver.scale_model_input(z, t)
        z = solver.step((clean - keep * z) / gain, t, z).prev_sample
    return z
