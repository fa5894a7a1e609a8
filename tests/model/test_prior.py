"""The linear prior is the Wiener filter of each region's Gaussian."""

import pytest
import torch

from allpet.model.prior import LinearPrior


@pytest.fixture(scope="module")
def gaussian() -> tuple[torch.Tensor, torch.Tensor]:
    """Two regions with different means and a few strong directions each."""
    rng = torch.Generator().manual_seed(0)
    parts, words = [], []
    for k, word in enumerate((1, 3)):
        directions = torch.linalg.qr(torch.randn(32, 4, generator=rng)).Q * torch.tensor([4.0, 2.0, 1.0, 0.5])
        x = torch.randn(3000, 4, generator=rng) @ directions.T + 3 * k + 0.05 * torch.randn(3000, 32, generator=rng)
        parts.append(x.reshape(-1, 2, 4, 4))
        words.append(torch.full((3000,), word))
    return torch.cat(parts), torch.cat(words)


@pytest.mark.parametrize("level", [0.1, 0.7, 3.0])
def test_expected_error_is_the_actual_error(gaussian, level):
    z, region = gaussian
    prior = LinearPrior.fit(z, region, components=4)
    sigma = torch.full((len(z),), level)
    noisy = z + level * torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    clean, error = prior(noisy, sigma, region)
    for word in (1, 3):
        mine = region == word
        actual = (clean[mine] - z[mine]).square().mean().sqrt()
        assert float(actual) == pytest.approx(float(error[mine][0]), rel=0.05)
        assert float(actual) < level
    unsaid, _ = prior(noisy, sigma, torch.zeros_like(region))
    assert float((unsaid - z).square().mean()) >= float((clean - z).square().mean())


def test_without_noise_nothing_changes_and_with_all_noise_the_mean_comes(gaussian):
    z, region = gaussian
    prior = LinearPrior.fit(z, region, components=4)
    same, error = prior(z, torch.full((len(z),), 1e-4), region)
    assert torch.allclose(same, z, atol=1e-3) and float(error.max()) < 1e-3
    mean, _ = prior(z, torch.full((len(z),), 1e4), region)
    assert torch.allclose(mean[region == 3].mean(0), z[region == 3].mean(0), atol=1e-2)
    assert float(mean[region == 3].std(dim=0).max()) < 1e-2
