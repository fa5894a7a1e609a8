"""DDIM on the same levels is Euler's method; only the start differs."""

import pytest
import torch

from allpet.diffusion import SIGMA_MAX, sample, seeded_noise


@pytest.mark.parametrize("steps", [1, 7, 10, 50])
def test_it_is_eulers_method_from_a_start_of_unit_variance(steps):
    wide = (1 + SIGMA_MAX**2) ** 0.5 / SIGMA_MAX

    def denoise(z, sigma):
        return 0.5 + (z - 0.5) / (1 + 4 * sigma[:, None] ** 2)

    mean, noise = torch.full((1, 3), 0.5), seeded_noise((3,), 0, range(4))
    ddim = (sample(denoise, (3,), 0, range(4), "ddim", steps, mean=mean) - 0.5) / noise
    euler = (sample(denoise, (3,), 0, range(4), "euler", steps, mean=mean) - 0.5) / noise
    assert torch.allclose(ddim, wide * euler, rtol=2e-3)


def test_ten_steps_are_usable():
    spread = torch.tensor([0.1, 0.3, 1.0, 3.0])
    z = sample(lambda z, s: z * spread**2 / (spread**2 + s[:, None] ** 2), (4,), 0, [0], "ddim", 10)
    gain = z / seeded_noise((4,), 0, [0]) / spread
    assert float(gain.min()) > 0.78 and float(gain.max()) < 0.86
