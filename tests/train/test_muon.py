"""Muon: orthogonal steps for matrices, AdamW for the rest."""

import pytest
import torch
from torch import nn

from allpet.train.muon import Muon, muon, orthogonal


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_steps_are_nearly_orthogonal_and_keep_the_singular_vectors(shape):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, *shape, generator=rng)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    out = orthogonal(x)
    along = u.mT @ out @ v.mT
    values = along.diagonal(dim1=1, dim2=2)
    assert float(values.min()) > 0.5 and float(values.max()) < 1.35
    assert float((along - torch.diag_embed(values)).abs().max()) < 0.15  # bfloat16
    assert torch.allclose(orthogonal(1000 * x), out, atol=0.05)


def test_a_step_of_a_convolution_has_the_size_of_adam_s():
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 64, 3)
    before = layer.weight.detach().clone()
    optimiser = Muon([layer.weight], [layer.bias], lr=0.01, weight_decay=0.0)
    layer(torch.randn(2, 32, 8, 8)).square().mean().backward()
    optimiser.step()
    step = (layer.weight.detach() - before).square().mean().sqrt()
    assert 0.1 < float(step) / 0.01 < 0.3


def test_its_adamw_is_torch_s():
    def weights() -> nn.Parameter:
        torch.manual_seed(1)
        return nn.Parameter(torch.randn(7))

    mine, theirs = weights(), weights()
    a = Muon([], [mine], lr=0.02)
    b = torch.optim.AdamW([theirs], lr=0.02, betas=(0.9, 0.99), weight_decay=1e-2)
    for k in range(5):
        for p, o in ((mine, a), (theirs, b)):
            o.zero_grad()
            ((p - k) ** 3).sum().backward()
            o.step()
    assert torch.allclose(mine, theirs, atol=1e-6)


def test_every_weight_is_in_one_group():
    from model_support import tiny

    net = tiny().denoiser.requires_grad_(True)
    optimiser = muon(net, net.unet, 1e-3)
    seen = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(seen) == sorted(id(p) for p in net.parameters()) and len(optimiser.param_groups[0]["params"]) > 10
    assert all(p.ndim >= 2 for p in optimiser.param_groups[0]["params"])
