"""The first stage: orthonormal, linear, symmetric on the strip."""

import pytest
import torch

from allpet.errors import AllpetError
from allpet.model.latent import PatchBasis
from allpet.train.augment import turn


@pytest.fixture(scope="module")
def sinograms() -> torch.Tensor:
    from allpet.scan.simulate import simulate

    s = torch.from_numpy(simulate(6, region="brain", seed=3, views=64, bins=64).sinogram)
    return s / s.mean(dim=(-2, -1), keepdim=True)


def test_floor_and_orthonormal_basis(sinograms):
    basis = PatchBasis(8, 16).fit(sinograms)
    flat = basis.basis.flatten(1)
    assert torch.allclose(flat @ flat.T, torch.eye(16), atol=1e-5)
    back = basis.decode(basis.encode(sinograms))
    assert float((back - sinograms).norm() / sinograms.norm()) < 0.05
    full = PatchBasis(8, 64).fit(sinograms)
    assert torch.allclose(full.decode(full.encode(sinograms)), sinograms, atol=1e-4)


def test_latents_of_parts_add_up(sinograms):
    basis = PatchBasis().fit(sinograms)
    part = sinograms * torch.rand(64, 64)
    assert torch.allclose(basis.encode(part) + basis.encode(sinograms - part), basis.encode(sinograms), atol=1e-4)


def test_basis_is_even_or_odd_and_turns_on_the_strip(sinograms):
    basis = PatchBasis().fit(sinograms)
    assert torch.allclose(basis.basis.flip(-1), basis.basis * basis.sign[:, None, None, None], atol=1e-5)
    assert {1.0, -1.0} == set(basis.sign.tolist())
    z = basis.encode(sinograms)
    turned = torch.cat([z, z.flip(-1) * basis.sign[:, None, None]], dim=-2).roll(3, dims=-2)[..., :8, :]
    assert torch.allclose(basis.encode(turn(sinograms, 24)), turned, atol=1e-4)


def test_wrong_sizes_are_refused(sinograms):
    with pytest.raises(AllpetError, match="multiples of 8"):
        PatchBasis().encode(sinograms[:, :60])
    with pytest.raises(AllpetError, match="between 1 and 64"):
        PatchBasis(8, 65)
