"""Guidance: what it answers, and what it costs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allpet.diffusion import guided, sample
from allpet.errors import AllpetError


class Counting:
    """The exact denoiser of N(mean, 1) that counts its calls."""

    def __init__(self, mean):
        self.mean, self.calls = mean, 0

    def __call__(self, z, sigma):
        self.calls += 1
        return self.mean + (z - self.mean) / (1 + sigma[:, None] ** 2)


@given(st.floats(0, 8), st.floats(0.05, 10))
def test_it_is_linear_in_the_scale(scale, sigma):
    z, level = torch.tensor([[0.3, -2.0]]), torch.tensor([sigma])
    a, b = Counting(1.0), Counting(-1.0)
    clean = guided(a, b, scale)(z, level)
    assert torch.allclose(clean, b(z, level) + scale * (a(z, level) - b(z, level)), atol=1e-5)


def test_at_scale_1_it_is_the_condition_at_half_the_cost():
    a, b = Counting(1.0), Counting(-1.0)
    assert guided(a, b, 1.0) is a
    sample(guided(a, b, 2.0), (2,), 0, [0])
    assert (a.calls, b.calls) == (10, 10)


def test_in_sampling_it_moves_the_mean_by_the_scale():
    """Two Gaussians of one width: the guided denoiser is exactly that of N(b + scale (a - b), 1)."""
    mean = torch.full((1, 4), 3.0)
    z = sample(guided(Counting(1.0), Counting(0.0), 3.0), (4,), 0, range(5), mean=mean)
    assert torch.allclose(z, sample(Counting(3.0), (4,), 0, range(5), mean=mean), atol=1e-4)


def test_an_interval_guides_inside_it_alone():
    a, b = Counting(1.0), Counting(-1.0)
    denoise = guided(a, b, 3.0, (0.5, 2.0))
    z = torch.full((4, 2), 0.7)
    levels = torch.tensor([0.5, 0.6, 2.0, 2.1])
    clean, plain, everywhere = denoise(z, levels), a(z, levels), guided(a, b, 3.0)(z, levels)
    assert torch.equal(clean[[0, 3]], plain[[0, 3]]) and torch.equal(clean[[1, 2]], everywhere[[1, 2]])
    assert not torch.isclose(plain, everywhere).any()


def test_an_interval_saves_the_evaluations_outside_it():
    a, b = Counting(1.0), Counting(-1.0)
    sample(guided(a, b, 3.0, (0.5, 2.0)), (2,), 0, [0])
    assert a.calls == 10 and 0 < b.calls < 5


@pytest.mark.parametrize(
    ("scale", "interval", "says"),
    [
        (-1.0, None, "guidance is -1.0"),
        (float("nan"), None, "guidance is nan"),
        (float("inf"), None, "guidance is inf"),
        (2.0, (3.0, 1.0), "interval is 3.0 to 1.0"),
        (2.0, (-1.0, 1.0), "interval is -1.0 to 1.0"),
    ],
)
def test_bad_input_is_said(scale, interval, says):
    with pytest.raises(AllpetError, match=says):
        guided(Counting(0.0), Counting(0.0), scale, interval)
