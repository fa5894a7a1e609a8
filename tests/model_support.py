"""An untrained model, shared by several tests."""

import torch

from allpet.model import AllPET
from allpet.model.denoiser import Denoiser
from allpet.model.latent import PatchBasis
from allpet.model.prior import LinearPrior
from allpet.model.restorer import Restorer


def tiny(seed: int = 0) -> AllPET:
    """An untrained model of 32 x 32."""
    torch.manual_seed(seed)
    basis = PatchBasis(8, 6).fit(torch.rand(4, 32, 32))
    prior = LinearPrior.fit(basis.encode(torch.rand(12, 32, 32)), torch.ones(12, dtype=torch.long), 4)
    denoiser = Denoiser(basis, prior, 32, 32, (8, 16), (8, 16), 16)
    config = dict(
        views=32,
        bins=32,
        trained={},
        tracers=["FDG"],
        regions=["brain"],
        field_of_view_mm={"brain": 256.0},
        log_mean={"FDG brain": [7.0, 0.2]},
    )
    return AllPET(config, basis, prior, denoiser, Restorer(32, 32, (8, 16), (8, 16), 16))
