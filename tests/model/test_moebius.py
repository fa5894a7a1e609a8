"""Networks on the Moebius strip turn with the object."""

import math

import pytest
import torch

from allpet.model.moebius import CoverConv, UNet, lift, lower, positions
from allpet.train.augment import mirror, place, turn

torch.manual_seed(0)


def awake(module: torch.nn.Module) -> torch.nn.Module:
    """Fill the layers that start at zero, so that a test sees them."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return module.double().eval()


def test_lower_undoes_lift_and_is_symmetric():
    x = torch.rand(2, 3, 8, 10)
    sign = torch.tensor([1.0, -1.0, 1.0])
    assert torch.allclose(lower(lift(x, sign), sign), x)
    y = lift(lower(torch.rand(2, 3, 16, 10), sign), sign)
    assert torch.allclose(y[:, :, 8:], y[:, :, :8].flip(-1) * sign[:, None, None])


@pytest.mark.parametrize("steps", [4, 8, 12, 20])
def test_unet_commutes_with_rotation_by_its_stride(steps):
    net = awake(UNet(2, 2, (8, 16, 24), 4, CoverConv, attention=(2,)))
    cond = torch.rand(1, 4, dtype=torch.float64)
    x = torch.rand(1, 2, 16, 12, dtype=torch.float64)

    def f(t: torch.Tensor) -> torch.Tensor:
        return lower(net(lift(t), cond))

    assert torch.allclose(f(turn(x, steps)), turn(f(x), steps), atol=1e-12)
    assert not torch.allclose(f(turn(x, 1)), turn(f(x), 1), atol=1e-6)  # below the stride it is not promised


def test_strip_network_turns_with_the_object_when_told():
    """Latents turned by the view stride, and positions told so, give the turned answer (even and odd channels)."""
    sign = torch.tensor([1.0, -1.0]).double()
    net = awake(UNet(2 + 4, 2, (8, 16), 4, CoverConv, attention=(1,)))
    cond = torch.rand(1, 4, dtype=torch.float64)
    z = torch.rand(1, 2, 8, 8, dtype=torch.float64)

    def f(t: torch.Tensor, angle: float) -> torch.Tensor:
        place = positions(8, 8, torch.tensor([angle])).double()
        return lower(net(torch.cat([lift(t, sign), place], dim=1), cond), sign)

    def turned(t: torch.Tensor, k: int) -> torch.Tensor:
        return torch.cat([t, t.flip(-1) * sign[:, None, None]], dim=-2).roll(k, dims=-2)[..., :8, :]

    assert torch.allclose(f(turned(z, 2), 2 * math.pi / 8), turned(f(z, 0.0), 2), atol=1e-5)  # positions are float32
    assert not torch.allclose(f(turned(z, 2), 0.0), turned(f(z, 0.0), 2), atol=1e-4)


def test_positions_follow_the_turn():
    plain, told = positions(8, 4), positions(8, 4, torch.tensor([math.pi / 8]))[0]
    assert torch.allclose(told[:2], plain[:2].roll(1, dims=1), atol=1e-6)


def test_augmentation_is_the_geometry_of_the_object():
    from allpet.geometry import ImageGrid, ParallelBeam
    from allpet.project import Projector

    a = Projector(ParallelBeam(32, 64, 1.0), ImageGrid(64, 1.0))
    x = torch.zeros(1, 64, 64)
    x[0, 15:30, 35:48] = 1
    x[0, 40:44, 20:25] = 2
    s = a(x)
    assert torch.allclose(turn(s, 16), a(torch.rot90(x, 1, (1, 2))), atol=1e-4)
    assert torch.allclose(mirror(s), a(x.flip(-1)), atol=1e-4)
    assert torch.allclose(turn(turn(s, 5), 32 - 5), s.flip(-1))
    moved = place(s[None], torch.tensor([[4.0, -3.0]]), torch.ones(1))[0]
    expected = a(x.roll((3, 4), (1, 2)))
    assert float((moved - expected).norm() / expected.norm()) < 0.02
    wider = place(s[None], torch.zeros(1, 2), torch.tensor([1.2]))[0]
    assert torch.allclose(wider.sum(-1) / s.sum(-1), torch.full((1, 32), 1.2**2), rtol=0.01)
