"""The samplers against a case with a known answer, and seeded noise."""

import pytest
import torch

from allpet.diffusion import SAMPLERS, sample, seeded_noise
from allpet.errors import AllpetError
from allpet.model.denoiser import Condition
from allpet.model.latent import PatchBasis

BLANK = Condition.blank(2000, PatchBasis(8, 1), 16, 16)


class GaussianDenoiser:
    """The exact denoiser of zero-mean Gaussian latents of standard deviation `sigma_data`."""

    sigma_data = 1.7

    def __call__(self, z: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        return z * (self.sigma_data**2 / (self.sigma_data**2 + sigma.square()))[:, None, None, None]


class PointDenoiser(GaussianDenoiser):
    """The exact denoiser of one single point."""

    def __call__(self, z: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        return torch.full_like(z, 0.8)


@pytest.mark.parametrize(("sampler", "steps", "limit"), [("dpm", 10, 0.06), ("euler", 200, 0.06)])
def test_gaussian_data_come_out_with_their_spread(sampler, steps, limit):
    noise = seeded_noise((2, 2, 2), 0, range(2000))
    z = sample(GaussianDenoiser(), noise, BLANK, sampler, steps)
    assert float(z.mean()) == pytest.approx(0, abs=0.05)
    assert float(z.std()) == pytest.approx(1.7, rel=limit)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_single_point_is_found(sampler):
    noise = seeded_noise((2, 2, 2), 1, range(2000))
    z = sample(PointDenoiser(), noise, BLANK, sampler, 6)
    assert torch.allclose(z, torch.full_like(z, 0.8), atol=1e-3)


def test_noise_depends_on_seed_stream_and_index_alone():
    many = seeded_noise((3, 2), 7, range(5))
    assert torch.equal(seeded_noise((3, 2), 7, [3])[0], many[3])
    for other in (seeded_noise((3, 2), 8, [3]), seeded_noise((3, 2), 7, [3], stream=1), seeded_noise((3, 2), 7, [2])):
        assert not torch.equal(other[0], many[3])
    assert float(seeded_noise((4000,), 0, [0]).std()) == pytest.approx(1, abs=0.05)


def test_unknown_sampler_lists_the_known():
    with pytest.raises(AllpetError, match="known: dpm, euler"):
        sample(GaussianDenoiser(), seeded_noise((2, 2, 2), 0, [0]), BLANK, "ddpm9")


def test_what_is_known_is_applied_at_every_step():
    noise = seeded_noise((2, 2, 2), 2, range(2000))
    seen = []

    def project(z: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        return z.clamp_min(0)

    z = sample(GaussianDenoiser(), noise, BLANK, steps=7, project=project)
    assert len(seen) == 7 and float(z.min()) > -1e-5
