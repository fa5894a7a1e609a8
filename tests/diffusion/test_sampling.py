"""Every sampler on data whose denoiser is in closed form: Gaussian components and two points."""

import math
from itertools import pairwise

import pytest
import torch

from allpet.diffusion import SAMPLERS, SIGMA_MAX, sample, sampler_of, seeded_noise
from allpet.errors import AllpetError

SD = 1.7
SPREADS = SD * torch.logspace(-1, math.log10(3), 12)
MEAN = torch.linspace(-4, 4, 12)
LIMIT = {"sde": 0.08, "dpm": 0.065, "euler": 0.06, "heun": 0.035, "ddpm": 0.045, "ddim": 0.06, "ddbm": 0.045}
"""Largest relative error of a spread at the default number of steps. SIGMA_MAX is set for latents far larger than
these; from 15 up to 40 it cost dpm 0.01 and heun 0.005."""


def gaussian(z, sigma):
    """Expected clean state of independent Gaussian components."""
    gain = SPREADS**2 / (SPREADS**2 + sigma[:, None] ** 2)
    return MEAN + gain * (z - MEAN)


def two_points(share):
    """Expected clean state of data at +1 (that share of them) and -1."""
    bias = 0.5 * math.log(share / (1 - share))
    return lambda z, sigma: torch.tanh(z / sigma.reshape(-1, *[1] * (z.ndim - 1)) ** 2 + bias)


def gains(sampler, steps=None):
    """What each component's start was multiplied by, over what it should have been; all is linear here."""
    z = sample(gaussian, (12,), 3, range(5), sampler, steps, SD, MEAN[None])
    gain = (z - MEAN) / (seeded_noise((12,), 3, range(5)) * SPREADS)
    return gain.mean(0)


@pytest.mark.parametrize("sampler", ["dpm", "euler", "heun", "ddim", "ddbm"])
def test_a_deterministic_sampler_keeps_mean_and_spread(sampler):
    """Without sampling error: the state is a multiple of its start, and the multiple is the spread."""
    gain = gains(sampler)
    assert torch.allclose(gain, torch.ones(12), atol=LIMIT[sampler], rtol=0)
    assert torch.allclose(gain, gain.median(), atol=2 * LIMIT[sampler])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_gaussian_data_come_out_with_mean_and_spread(sampler):
    n = 1500
    z = sample(gaussian, (12,), 11, range(n), sampler, None, SD, MEAN[None])
    error = (z.mean(0) - MEAN) / (SPREADS / math.sqrt(n))
    assert float(error.abs().max()) < 4
    spread = z.std(0) / SPREADS - 1
    assert float(spread.abs().max()) < LIMIT[sampler] + 4 / math.sqrt(2 * n)
    across = torch.corrcoef(z.T) - torch.eye(12)
    assert float(across.abs().max()) < 4.5 / math.sqrt(n)


@pytest.mark.parametrize("sampler", ["dpm", "euler", "heun", "ddim", "ddbm"])
def test_more_steps_come_closer(sampler):
    coarse, middle, fine = (float((gains(sampler, n) - 1).abs().max()) for n in (6, 12, 24))
    assert fine < middle < coarse and fine < 0.5 * coarse


def test_more_steps_of_ancestral_sampling_come_closer():
    n = 1500
    few, many = (sample(gaussian, (12,), 5, range(n), "ddpm", k, SD, MEAN[None]).std(0) / SPREADS - 1 for k in (10, 60))
    assert float(few.mean()) < -0.2 and -0.12 < float(many.mean()) < -0.03


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_two_points_are_hit_as_often_as_they_occur(sampler, share):
    n, mean = 300, torch.full((1, 8), 2 * share - 1)
    z = sample(two_points(share), (8,), 2, range(n), sampler, None, 1.0, mean)
    assert torch.allclose(z.abs(), torch.ones_like(z), atol=1e-3)
    error = math.sqrt(share * (1 - share) / z.numel())
    assert float((z > 0).float().mean()) == pytest.approx(share, abs=4 * error)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_without_a_mean_the_start_is_about_zero(sampler):
    """The error is at most the mean over SIGMA_MAX (in spreads), which the noise there hides."""
    z = sample(lambda z, s: 1 + (z - 1) / (1 + s[:, None] ** 2), (4,), 4, range(800), sampler)
    assert float(z.mean()) == pytest.approx(1 - 1 / SIGMA_MAX, abs=4 / math.sqrt(3200) + 0.02)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_is_the_same_to_the_bit_in_any_batch(sampler):
    def curved(z, sigma):
        return z / (1 + z * z + sigma[:, None, None])

    batch = sample(curved, (3, 5), 9, range(7), sampler, 7)
    assert torch.equal(sample(curved, (3, 5), 9, [4], sampler, 7)[0], batch[4])
    assert torch.equal(sample(curved, (3, 5), 9, [6, 1, 4], sampler, 7), batch[[6, 1, 4]])
    assert not torch.isclose(batch[0], batch[1]).all()
    assert not torch.isclose(sample(curved, (3, 5), 10, [4], sampler, 7)[0], batch[4]).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_row_has_its_own_mean(sampler):
    means = torch.tensor([[-5.0, 2.0], [3.0, 0.0]])
    z = sample(lambda z, s: means + 0 * z, (2,), 0, [0, 1], sampler, 3, mean=means)
    assert torch.allclose(z, means, atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 5, 13])
def test_it_costs_what_it_says_and_ends_at_the_last_estimate(sampler, steps):
    """The last step goes to no noise at all, so to the denoiser's last answer; the first is asked at SIGMA_MAX."""
    seen = []

    def denoise(z, sigma):
        assert z.shape == (2, 3) and sigma.shape == (2,) and sigma.dtype == z.dtype
        seen.append(float(sigma[0]))
        return torch.full_like(z, 0.25 * len(seen))

    z = sample(denoise, (3,), 0, [0, 1], sampler, steps, SD)
    assert len(seen) == SAMPLERS[sampler].evaluations(steps)
    assert torch.allclose(z, torch.full_like(z, 0.25 * len(seen)), atol=1e-4)
    if sampler != "ddbm":
        assert seen[0] == pytest.approx(SIGMA_MAX * SD, rel=1e-4)
    assert all(b <= a for a, b in pairwise(seen))


def test_the_default_takes_ten_evaluations():
    calls = []
    sample(lambda z, s: calls.append(1) or z * 0, (2,), 0, [0])
    assert len(calls) == 10 == sampler_of("dpm").evaluations(sampler_of("dpm").steps)


def test_unknown_sampler_lists_the_known():
    with pytest.raises(AllpetError, match="'ddpm9' is unknown; known: sde, dpm, euler, heun, ddpm, ddim, ddbm"):
        sample(gaussian, (12,), 0, [0], "ddpm9")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(steps=0), "steps is 0; it must be at least 1"),
        (dict(sigma_data=0.0), "sigma_data is 0.0"),
        (dict(sigma_data=float("nan")), "sigma_data is nan"),
        (dict(mean=torch.zeros(12)), r"mean has shape \(12,\)"),
        (dict(mean=torch.zeros(3, 12)), r"mean has shape \(3, 12\)"),
    ],
)
@pytest.mark.parametrize("sampler", ["dpm", "ddpm", "ddbm"])
def test_bad_numbers_and_shapes_are_said(sampler, options, says):
    with pytest.raises(AllpetError, match=says):
        sample(gaussian, (12,), 0, [0, 1], sampler, **options)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_broken_denoiser_is_said(sampler):
    with pytest.raises(AllpetError, match="must keep the shape"):
        sample(lambda z, s: z[:, :1], (2,), 0, [0], sampler, 3)
    with pytest.raises(AllpetError, match="not finite"):
        sample(lambda z, s: z * float("nan"), (2,), 0, [0], sampler, 3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_global_generator_is_left_alone(sampler):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sample(gaussian, (12,), 0, [0], sampler, 4)
    assert torch.equal(torch.get_rng_state(), before)
