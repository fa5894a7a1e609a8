"""Sampling along a bridge: an ordinary denoiser serves where the endpoint says nothing, and where it says something
the draws are draws of the posterior. Gaussian data, all in closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.diffusion import SIGMA_MAX, BridgeScheduler, bridge_sample, sample, seeded_noise
from allpet.errors import AllpetError

MEAN, SPREAD, ERROR = 2.0, 0.8, 0.5
GAIN = SPREAD**2 / (SPREAD**2 + ERROR**2)
NARROW = math.sqrt(GAIN) * ERROR
"""Standard deviation of x0 ~ N(MEAN, SPREAD^2) once y = x0 + ERROR * noise is known."""


@settings(max_examples=60)
@given(st.floats(0.02, 0.98), st.floats(0.2, 30), st.floats(0.1, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_an_endpoint_that_says_nothing_leaves_the_ordinary_denoiser(share, high, spread, endpoint, at):
    """x_t = w y + (1 - w) x0 + c e with y independent of x0 ~ N(m, v): linear regression of x0 on x_t at given y,
    against the ordinary denoiser's answer at the effective state and level."""
    t, mean, v = share * high, 0.4, spread**2
    solver = BridgeScheduler(sigma_min=1e-3, sigma_max=high)
    w, c2 = share**2, t**2 * (1 - share**2)
    x = endpoint + at * math.sqrt((1 - w) ** 2 * v + c2)
    regression = mean + (1 - w) * v / ((1 - w) ** 2 * v + c2) * (x - w * endpoint - (1 - w) * mean)
    z, sigma = (x - solver.weight(t) * endpoint) / (1 - solver.weight(t)), solver.effective_sigma(t)
    assert mean + v / (v + sigma**2) * (z - mean) == pytest.approx(regression, rel=1e-6, abs=1e-6)


def ordinary(x, t, y):
    """Posterior mean of N(MEAN, SPREAD^2) along a bridge to its own mean; at T it is that mean."""
    c2, w = float(t[0]) ** 2, (float(t[0]) / SIGMA_MAX) ** 2
    if w >= 1:
        return y
    z, sigma2 = (x - w * y) / (1 - w), c2 / (1 - w)
    return MEAN + SPREAD**2 / (SPREAD**2 + sigma2) * (z - MEAN)


def told(x, t, y):
    """Posterior mean of x0 given the state and what the endpoint y = x0 + ERROR * noise says."""
    prior, w = MEAN + GAIN * (y - MEAN), (float(t[0]) / SIGMA_MAX) ** 2
    if w >= 1:
        return prior
    z, sigma2 = (x - w * y) / (1 - w), float(t[0]) ** 2 / (1 - w)
    return prior + NARROW**2 / (NARROW**2 + sigma2) * (z - prior)


def test_the_registered_sampler_is_this_bridge():
    y = torch.full((5, 3), MEAN)
    bridged = bridge_sample(ordinary, y, 4, range(5), steps=11)
    plain = sample(
        lambda z, s: MEAN + SPREAD**2 / (SPREAD**2 + s[:, None] ** 2) * (z - MEAN),
        (3,),
        4,
        range(5),
        "ddbm",
        10,
        mean=y[:1],
    )
    assert torch.allclose(bridged, plain, atol=3e-3)  # float32 states of size SIGMA_MAX on the way


@pytest.mark.parametrize(
    ("eta", "order", "steps", "limit"), [(0.0, 2, 10, 0.05), (0.0, 1, 60, 0.05), (0.5, 2, 60, 0.05), (1.0, 2, 60, 0.05)]
)
def test_draws_given_an_observation_are_draws_of_the_posterior(eta, order, steps, limit):
    """Their mean follows the observation, their spread about it is what the observation leaves open."""
    n = 1500
    truth = MEAN + SPREAD * seeded_noise((4,), 1, range(n))
    y = truth + ERROR * seeded_noise((4,), 2, range(n))
    z = bridge_sample(told, y, 3, range(n), steps, eta, order)
    off = z - (MEAN + GAIN * (y - MEAN))
    draws = off.numel()
    assert float(off.mean()) == pytest.approx(0, abs=4 * NARROW / math.sqrt(draws))
    assert float(off.std()) == pytest.approx(NARROW, rel=limit + 4 / math.sqrt(2 * draws))
    assert abs(float(torch.corrcoef(torch.stack([off.flatten(), y.flatten()]))[0, 1])) < 4 / math.sqrt(draws)
    assert float((z - truth).std()) == pytest.approx(math.sqrt(2) * NARROW, rel=limit + 4 / math.sqrt(2 * draws))


def spread_error(eta, order, steps, n):
    y = torch.full((n, 4), 1.5)
    z = bridge_sample(told, y, 3, range(n), steps, eta, order)
    start = seeded_noise((4,), 3, range(n))
    gain = (z - (MEAN + GAIN * (y - MEAN))) / NARROW
    return float((gain / start - 1).abs().max()) if eta == 0 else abs(float(gain.std()) - 1)


@pytest.mark.parametrize("order", [1, 2])
def test_more_steps_come_closer_and_second_order_sooner(order):
    coarse, middle, fine = (spread_error(0.0, order, steps, 3) for steps in (8, 16, 32))
    assert fine < middle < coarse
    assert order == 1 or middle < 0.3 * spread_error(0.0, 1, 16, 3)


def test_at_eta_0_only_the_first_step_draws():
    """All of a draw follows from its start: it is a multiple of the start's noise. At eta = 1 it is not."""
    y, start = torch.full((4, 3), 1.5), seeded_noise((3,), 0, range(4))
    center = MEAN + GAIN * (1.5 - MEAN)
    still, stirred = (bridge_sample(told, y, 0, range(4), 12, eta) - center for eta in (0.0, 1.0))
    multiple = (still * start).sum() / start.square().sum()
    assert torch.allclose(still, multiple * start, atol=1e-3)
    assert float((stirred / start).std()) > 0.1
    assert torch.equal(bridge_sample(told, y, 0, range(4), 12, 0.0), bridge_sample(told, y, 0, range(4), 12, 0.0))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sample_is_the_same_to_the_bit_in_any_batch(eta):
    y = seeded_noise((2, 3), 5, range(6))
    whole = bridge_sample(told, y, 8, range(6), 7, eta)
    assert torch.equal(bridge_sample(told, y[4:5], 8, [4], 7, eta)[0], whole[4])
    assert torch.equal(bridge_sample(told, y[[5, 2]], 8, [5, 2], 7, eta), whole[[5, 2]])


def test_the_endpoint_is_where_it_starts():
    seen = []

    def denoise(x, t, y):
        seen.append((x.clone(), float(t[0])))
        return y

    y = seeded_noise((3,), 0, range(2))
    z = bridge_sample(denoise, y, 1, range(2), 5, sigma_max=0.7)
    assert torch.equal(seen[0][0], y) and seen[0][1] == pytest.approx(0.7) and len(seen) == 5
    assert torch.equal(z, y)


def test_bad_input_is_said():
    with pytest.raises(AllpetError, match="2 endpoints for 3 indices"):
        bridge_sample(told, torch.ones(2, 3), 0, range(3))
    with pytest.raises(AllpetError, match="eta is 2"):
        bridge_sample(told, torch.ones(2, 3), 0, range(2), eta=2.0)
    with pytest.raises(AllpetError, match="steps is 0"):
        bridge_sample(told, torch.ones(2, 3), 0, range(2), steps=0)
    with pytest.raises(AllpetError, match="0 < sigma_min < sigma_max"):
        bridge_sample(told, torch.ones(2, 3), 0, range(2), sigma_max=0.01)
