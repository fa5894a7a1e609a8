"""Noise levels, and the three solvers against each other."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allpet.diffusion import RHO, SIGMA_MAX, SIGMA_MIN, sample, seeded_noise
from allpet.diffusion.edm import levels


@given(st.integers(1, 300))
def test_levels_fall_from_high_to_low(steps):
    sigmas = levels(steps)
    assert len(sigmas) == steps and sigmas[0] == SIGMA_MAX
    assert all(a > b for a, b in pairwise(sigmas))
    assert steps == 1 or sigmas[-1] == SIGMA_MIN


def test_levels_are_evenly_spaced_in_the_power_of_the_paper():
    roots = torch.tensor([s ** (1 / RHO) for s in levels(9)], dtype=torch.float64)
    assert torch.allclose(roots.diff(), roots.diff().mean().expand(8), rtol=1e-9)


def test_the_solvers_of_diffusers_run_on_the_same_levels():
    for name in ("dpm", "euler"):
        seen = []
        sample(lambda z, s, seen=seen: seen.append(float(s[0])) or z, (1,), 0, [0], name, 8, 2.0)
        assert seen == pytest.approx([2 * s for s in levels(8)], rel=1e-5)


def test_one_step_of_heun_is_the_textbook_one():
    def denoise(z, sigma):
        return z / (1 + sigma[:, None] ** 2)

    high, low = SIGMA_MAX, SIGMA_MIN
    z0 = high * seeded_noise((3,), 0, [0])
    first = (z0 - z0 / (1 + high**2)) / high
    ahead = z0 + (low - high) * first
    second = (ahead - ahead / (1 + low**2)) / low
    z1 = z0 + (low - high) * (first + second) / 2
    assert torch.allclose(sample(denoise, (3,), 0, [0], "heun", 2), z1 / (1 + low**2), rtol=1e-4)


def test_all_solvers_meet_at_many_steps():
    """The flow from one start is one path, whatever follows it: here to one of two bumps, exactly known."""

    def denoise(z, sigma):
        variance = 0.09 + sigma[:, None] ** 2
        side = torch.tanh(z / variance)
        return side + 0.09 / variance * (z - side)

    ends = {name: sample(denoise, (4,), 1, range(6), name, 400) for name in ("dpm", "euler", "heun")}
    assert torch.allclose(ends["dpm"], ends["heun"], atol=0.01)
    assert torch.allclose(ends["euler"], ends["heun"], atol=0.08)
    assert float(ends["dpm"].min()) < -0.5 and float(ends["dpm"].max()) > 0.5


def test_second_order_beats_first_order_at_the_same_cost():
    def denoise(z, sigma):
        return z / (1 + sigma[:, None] ** 2)

    noise = seeded_noise((4,), 1, range(3))
    dpm, euler = (float((sample(denoise, (4,), 1, range(3), k, 10) / noise - 1).abs().max()) for k in ("dpm", "euler"))
    assert dpm < 0.06 < 0.12 < euler
