"""The denoiser: preconditioning in closed form, parts, equivariance."""

import math

import pytest
import torch

from allpet.model.condition import TOLD, Condition
from allpet.model.denoiser import COARSE, Denoiser, plane_positions
from model_support import tiny


def conditions(n: int, whole: float = 1.0) -> Condition:
    from dataclasses import replace

    c = Condition.blank(n, 8, 8)
    return replace(c, whole=torch.full((n,), whole), tracer=torch.ones(n, dtype=torch.long))


@pytest.mark.parametrize("level", [0.1, 0.7, 5.0])
def test_without_network_it_is_the_wiener_filter_and_knows_its_error(level):
    """Gaussian states with their own mean and variance in each place: the linear estimate's error is as said."""
    rng = torch.Generator().manual_seed(0)
    net = Denoiser(2, 8, 8, widths=(16, 32), n_cond=16)
    spread = 0.2 + torch.rand(4, 8, 8, generator=rng)
    spread = torch.nn.functional.avg_pool2d(spread[None], 3, 1, 1)[0] * 0 + spread.mean(dim=(1, 2), keepdim=True)
    state = torch.randn(4000, 4, 8, 8, generator=rng) * spread + 2
    c = conditions(4000, 0.0)
    net.fit(state, c, torch.full(net.mean.shape[1:3], 1e6))
    assert torch.allclose(net.mean[0, 1, 0], torch.full((4, 8, 8), 2.0), atol=0.1)
    z = state + level * torch.randn(state.shape, generator=rng)
    clean, error = net.linear(z, torch.full((4000,), level), c)
    actual = (clean - state).square().mean(dim=0).sqrt()
    assert torch.allclose(actual, error[0], rtol=0.08)
    weight = error[:1].square() / error[:1].square().mean()
    with torch.no_grad():
        said = net.loss(state, torch.randn(state.shape, generator=rng), torch.full((4000,), level), c)
    assert float(said) == pytest.approx(float(weight.mean()), rel=0.05)  # an untrained network adds 0: unit error left


def test_the_negative_part_of_a_whole_stays_zero():
    net = tiny().denoiser
    z = 3 * torch.randn(3, 12, 8, 8)
    clean = net(z, torch.tensor([0.1, 1.0, 9.0]), conditions(3))
    assert float(clean[:, 6:].abs().max()) == 0 < float(clean[:, :6].std())
    other = torch.cat([z[:, :6], torch.randn(3, 6, 8, 8)], dim=1)  # nor does the noise there change the whole
    assert torch.allclose(net(other, torch.tensor([0.1, 1.0, 9.0]), conditions(3)), clean, atol=1e-5)
    split = net(z, torch.ones(3), conditions(3, 0.0))
    assert float(split[:, 6:].std()) > 0


def test_emphasis_scales_the_correction_where_the_noise_is_large_alone():
    net, z, c = tiny().denoiser, 9 * torch.randn(3, 12, 8, 8), conditions(3, 0.0)
    sigma = torch.tensor([0.5, COARSE, 2 * COARSE])
    base, plain, more = net.linear(z, sigma, c)[0], net(z, sigma, c), net(z, sigma, c, 1.5)
    assert torch.equal(more[:2], plain[:2]) and float((plain - base).abs().max()) > 0
    assert torch.allclose(more[2] - base[2], 1.5 * (plain[2] - base[2]), atol=1e-5)


def test_what_is_told_changes_the_answer():
    from dataclasses import replace

    net, z, sigma, c = tiny().denoiser, torch.randn(2, 12, 8, 8), torch.ones(2), conditions(2)
    base = net(z, sigma, c)
    chart = torch.rand(2, 1, 8, 8)
    for change in (
        dict(region=torch.full((2,), 2)),
        dict(task=torch.full((2,), 3)),
        dict(told=torch.full((2, len(TOLD)), 0.5)),
        dict(turn=torch.full((2,), 0.4)),
        dict(mask=chart, mask_told=torch.ones(2)),
        dict(attention=chart, attention_told=torch.ones(2)),
    ):
        assert float((net(z, sigma, replace(c, **change)) - base).abs().max()) > 1e-4, change
    told = replace(c, attention=chart, attention_told=torch.ones(2))
    assert torch.equal(net(z, sigma, told.without("attention")), base)
    half = told.without("attention", "tracer", where=torch.tensor([True, False]))
    assert half.tracer.tolist() == [0, 1] and half.attention_told.tolist() == [0, 1]


def test_on_the_strip_turning_the_object_turns_the_answer():
    """By the network's view stride, with the turn told and no table of means: to rounding (float64)."""
    from dataclasses import replace

    net = tiny(surface="strip").denoiser.double()
    net.precision = "fp32"
    net.mean.zero_()
    net.variance.copy_(net.variance.amax(dim=(-2, -1), keepdim=True).expand_as(net.variance))
    sign = net.sign.repeat(2)[:, None, None]
    z, sigma = torch.randn(1, 12, 8, 8, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    c = replace(conditions(1, 0.0), told=torch.zeros(1, len(TOLD), dtype=torch.float64))

    def turned(t: torch.Tensor, k: int) -> torch.Tensor:
        return torch.cat([t, t.flip(-1) * sign], dim=-2).roll(k, dims=-2)[..., :8, :]

    there = net(turned(z, 2), sigma, replace(c, turn=torch.tensor([2 * math.pi / 8])))
    assert torch.allclose(there, turned(net(z, sigma, c), 2), atol=1e-5)  # positions are float32
    assert not torch.allclose(net(turned(z, 2), sigma, c), turned(net(z, sigma, c), 2), atol=1e-3)


def test_plane_positions_turn_with_the_object():
    plain, quarter = plane_positions(8, torch.zeros(1))[0], plane_positions(8, torch.tensor([math.pi / 2]))[0]
    assert torch.allclose(quarter, torch.rot90(plain, 1, (1, 2)), atol=1e-6)


def test_bfloat16_and_float32_agree():
    net, z = tiny().denoiser, torch.randn(4, 12, 8, 8)
    answers = []
    for net.precision in ("fp32", "bf16"):
        answers.append(net(z, torch.full((4,), 0.7), conditions(4)))
    assert answers[1].dtype == torch.float32
    assert torch.allclose(*answers, atol=0.02) and not torch.equal(*answers)
