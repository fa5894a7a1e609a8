"""Features: free of unit, the right mean, and axes that a reference set varies along."""

from __future__ import annotations

import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics import image_features, pca_features, principal_components, sinogram_features
from tests_support import disk_sinogram

BEAM = ParallelBeam(96, 64, 4.0)


def _disks() -> torch.Tensor:
    return torch.stack([disk_sinogram(BEAM, r, x, y) for r, x, y in ((60.0, 0.0, 0.0), (40.0, 30.0, -20.0))]).float()


def test_features_have_no_unit():
    s = _disks()
    assert sinogram_features(s).shape == (2, 1024) == image_features(s, BEAM).shape
    assert torch.allclose(sinogram_features(s).mean(dim=1), torch.ones(2))
    assert torch.allclose(sinogram_features(300 * s), sinogram_features(s), rtol=1e-5)
    assert torch.allclose(image_features(300 * s, BEAM), image_features(s, BEAM), rtol=1e-4, atol=1e-5)


def test_image_of_a_disk_is_a_disk():
    image = image_features(_disks(), BEAM)[0].reshape(32, 32)
    axis = (torch.arange(32) - 15.5) * 8.0
    radius = (axis**2 + axis[:, None] ** 2).sqrt()
    level = (128 / 60) ** 2  # area of the circle in view over the disk's
    assert float(image[radius < 45].mean()) == pytest.approx(level, rel=0.03)
    assert float(image[radius > 75].mean()) < 0.05 * level and float(image.min()) >= 0


def test_principal_components_of_a_known_plane():
    g = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(20, 2, generator=g, dtype=torch.float64))[0]
    along = torch.randn(4000, 2, generator=g, dtype=torch.float64) * torch.tensor([5.0, 2.0])
    x = along @ axes.T + 3
    found = principal_components(x)
    assert found.axes.shape == (20, 2)  # no more directions than the set has
    assert found.std.tolist() == pytest.approx([5, 2], rel=0.05)
    assert torch.allclose(found.axes.abs().T @ axes.abs(), found.axes.abs().T @ found.axes.abs(), atol=0.05)
    assert torch.cdist(found(x[:50]), found(x[50:99])).allclose(torch.cdist(x[:50], x[50:99]))
    white = pca_features(x, x, whiten=True)
    assert torch.allclose(torch.cov(white.T), torch.eye(2, dtype=torch.float64), atol=1e-9)
    assert pca_features(x, x, components=1).shape == (4000, 1)


def test_bad_input_says_what_is_wrong():
    s = _disks()
    with pytest.raises(AllpetError, match=r"\(n, views, bins\)"):
        sinogram_features(s[0])
    for value in (0.0, float("nan"), float("inf"), -1.0):
        with pytest.raises(AllpetError, match="sinogram 1 has mean"):
            sinogram_features(torch.stack([s[0], torch.full_like(s[0], value)]))
    with pytest.raises(AllpetError, match="must agree"):
        image_features(s, ParallelBeam(64, 64, 4.0))
    with pytest.raises(AllpetError, match="n > 1"):
        principal_components(torch.ones(1, 4))
    with pytest.raises(AllpetError, match="must vary"):
        principal_components(torch.ones(5, 4))
    with pytest.raises(AllpetError, match=r"\(n, 4\)"):
        pca_features(torch.ones(5, 3), torch.rand(5, 4))
