"""Distances between sets: zero for equal sets, known for shifted ones, and copies are found out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.metrics import memorisation, nearest_distance, sliced_wasserstein


def _set(n: int, seed: int, d: int = 30) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(0, 99), st.floats(-5, 5))
def test_wasserstein_of_a_shift_is_its_length(n: int, seed: int, shift: float):
    a = _set(n, seed)
    assert sliced_wasserstein(a, a[torch.randperm(n)]) == pytest.approx(0, abs=1e-12)
    assert sliced_wasserstein(a, a + shift, directions=4000) == pytest.approx(abs(shift), rel=0.1, abs=1e-9)


def test_wasserstein_is_symmetric_seeded_and_takes_unequal_sizes():
    a, b = _set(20, 0), 2 * _set(33, 1)
    assert sliced_wasserstein(a, b, seed=3) == sliced_wasserstein(a, b, seed=3)
    assert sliced_wasserstein(a, b) == pytest.approx(sliced_wasserstein(b, a))
    assert sliced_wasserstein(a, b) > sliced_wasserstein(a, _set(33, 2))
    assert sliced_wasserstein(a, a.repeat_interleave(3, dim=0)) == pytest.approx(0, abs=1e-12)


def test_copies_are_found_out():
    train, held_out = _set(300, 0), _set(200, 1)
    fresh = memorisation(_set(200, 2), train, held_out)
    copied = memorisation(train[:200] + 0.01 * _set(200, 3), train, held_out)
    assert 0.3 < fresh.closer_to_train < 0.7
    assert fresh.to_train == pytest.approx(fresh.held_out_to_train, rel=0.2)
    assert copied.closer_to_train > fresh.closer_to_train + 0.2
    assert float(nearest_distance(train[:5], train).max()) < 1e-6


def test_bad_sets_say_what_is_wrong():
    with pytest.raises(AllpetError, match="must agree"):
        sliced_wasserstein(_set(3, 0, 4), _set(3, 0, 5))
    with pytest.raises(AllpetError, match="n > 0"):
        sliced_wasserstein(_set(3, 0)[:0], _set(3, 0))
