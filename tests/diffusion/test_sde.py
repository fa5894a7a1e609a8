"""The stochastic solver: the flow without its noise, the right spread with it, and mending of errors."""

import pytest
import torch

from allpet.diffusion import sample, seeded_noise


def gaussian(z, sigma):
    return z / (1 + sigma[:, None] ** 2)


def test_without_noise_it_is_the_probability_flow(monkeypatch):
    monkeypatch.setattr("allpet.diffusion.sde.ETA", 0.0)
    flow = sample(gaussian, (4,), 1, range(3), "dpm", 40)
    assert torch.allclose(sample(gaussian, (4,), 1, range(3), "sde", 40), flow, atol=0.02)


def test_it_draws_fresh_noise_for_each_sample_and_step():
    one = sample(gaussian, (4,), 1, range(5), "sde", 10)
    assert torch.equal(sample(gaussian, (4,), 1, [3], "sde", 10)[0], one[3])
    ratio = one / seeded_noise((4,), 1, range(5))
    assert float(ratio.std()) > 0.1  # not a multiple of the start, as the flow's end would be


def test_more_steps_come_closer_to_the_spread():
    error = [abs(float(sample(gaussian, (40,), 2, range(400), "sde", k).std()) - 1) for k in (10, 60)]
    assert error[1] < 0.5 * error[0]


def test_noise_mends_an_error_made_early():
    """A denoiser that is wrong above sigma 3: what it did wrong fades with fresh noise, and stays along the flow."""

    def wrong(z, sigma):
        return gaussian(z, sigma) + torch.where(sigma > 3, 1.0, 0.0)[:, None] * sigma[:, None] / 8

    offset = {k: float(sample(wrong, (40,), 3, range(200), k, 40).mean()) for k in ("sde", "dpm")}
    assert abs(offset["sde"]) < 0.8 * abs(offset["dpm"])


@pytest.mark.parametrize(("steps", "last"), [(1, 40.0), (6, 40 / 2.6**5), (10, 0.02), (40, 0.02)])
def test_few_steps_end_early_and_ten_at_the_lowest_noise(steps, last):
    seen = []

    def watched(z, sigma):
        seen.append(float(sigma[0]))
        return gaussian(z, sigma)

    sample(watched, (4,), 1, [0], "sde", steps, sigma_data=2.0)
    assert len(seen) == steps and seen[0] == 80.0 and seen[-1] == pytest.approx(2 * last)
