"""Ancestral sampling against the scheduler of `diffusers` and against its own recursion on Gaussian data."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from allpet.diffusion import sample
from allpet.diffusion.ddpm import ancestor, vp_clean, vp_options
from allpet.diffusion.edm import levels


@pytest.mark.parametrize("steps", [1, 10, 200, 1000])
def test_the_betas_give_the_levels(steps):
    solver = DDPMScheduler(**vp_options(steps), variance_type="fixed_small")
    a = solver.alphas_cumprod.double()
    sigmas = torch.tensor(levels(steps)[::-1], dtype=torch.float64)
    assert torch.allclose(((1 - a) / a).sqrt(), sigmas, rtol=1e-3)


def test_a_step_is_the_step_of_diffusers():
    solver = DDPMScheduler(**vp_options(20), variance_type="fixed_small")
    solver.set_timesteps(20)
    x, clean = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((3, 4, 4), 0.3)
    clean = clean.expand(2, -1, -1, -1)
    products = [1.0, *solver.alphas_cumprod.tolist()]
    for t in (19, 11, 1):
        theirs = solver.step(clean, t, x, generator=torch.Generator().manual_seed(t)).prev_sample
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(t))
        assert torch.allclose(ancestor(clean, x, products[t + 1], products[t], noise), theirs, atol=1e-5)


def test_the_denoiser_is_asked_in_its_own_terms():
    """x of unit variance is the state z = clean + sigma * noise, shifted by the mean and divided."""
    mean, sd, a = torch.tensor([[2.0, -1.0]]), 3.0, 0.36
    clean, noise = torch.tensor([[5.0, 2.0]]), torch.tensor([[0.5, -1.5]])
    x = a**0.5 * (clean - mean) / sd + (1 - a) ** 0.5 * noise

    def denoise(z, sigma):
        assert float(sigma) == pytest.approx(sd * 0.8 / 0.6)
        return z - sigma[:, None] * noise

    assert torch.allclose(vp_clean(denoise, x, a, mean, sd), (clean - mean) / sd, atol=1e-5)


@pytest.mark.parametrize("steps", [10, 60])
def test_the_spread_is_what_the_recursion_says(steps):
    """With a linear denoiser every step is linear with known noise, so the variance follows a recursion."""
    spread = 0.7
    sigmas = [*levels(steps), 0.0]
    variance = sigmas[0] ** 2 + 1  # a start of unit variance, in the state's own terms
    for s, t in pairwise(sigmas):
        kept = t**2 / s**2
        gain = kept + (1 - kept) * spread**2 / (spread**2 + s**2)
        variance = gain**2 * variance + t**2 * (1 - kept)
    n = 4000
    z = sample(lambda z, s: z * spread**2 / (spread**2 + s[:, None] ** 2), (2,), 0, range(n), "ddpm", steps)
    assert float(z.std()) == pytest.approx(math.sqrt(variance), rel=4 / math.sqrt(4 * n))
    assert math.sqrt(variance) < spread * (1 - 2 / steps)
