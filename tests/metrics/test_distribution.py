"""Distances between sets: zero for equal sets, known for shifted ones, and blind to neither missing nor false modes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.metrics import (
    coverage,
    density,
    energy_distance,
    kernel_distance,
    precision_recall,
    sliced_wasserstein,
)


def _set(n: int, seed: int, d: int = 30) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20)
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


def test_kernel_distance_of_two_points_by_hand():
    # standardised with real = {-1, 1} (std sqrt 2): real at +-0.707, samples at 0; kernel (xy + 1)^3
    samples, real = torch.zeros(2, 1), torch.tensor([[-1.0], [1.0]])
    assert kernel_distance(samples, real) == pytest.approx(1 + (1 - 0.5) ** 3 - 2)
    assert kernel_distance(samples, real, degree=1) == pytest.approx(1 + 0.5 - 2)


def test_kernel_distance_is_unbiased_free_of_unit_and_grows_with_distance():
    wide = _set(5000, 999, 6)
    same = torch.tensor([kernel_distance(_set(40, 2 * k, 6), _set(40, 2 * k + 1, 6), 3, wide) for k in range(60)])
    assert abs(float(same.mean())) < 3 * float(same.std()) / 60**0.5 and float(same.min()) < 0
    a, b = _set(40, 0, 6), _set(40, 1, 6)
    unit = torch.tensor([1.0, 10, 0.1, 5, 3, 2], dtype=torch.float64)
    assert kernel_distance(a * unit + 3, b * unit + 3) == pytest.approx(kernel_distance(a, b))
    far = [kernel_distance(a + shift, b) for shift in (0.0, 0.3, 0.6, 1.2)]
    assert far == sorted(far) and far[-1] > float(same.max())


def test_energy_distance_by_hand_and_the_same_in_the_mean_for_few_and_many():
    # points at 0 and 2 against points at 1 and 5: means of |x - y| are 2.5, within 2 and 4
    samples, real = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])
    assert energy_distance(samples, real) == pytest.approx((2 * 2.5 - 2 - 4) / 4)
    for n in (5, 60):
        same = torch.tensor([energy_distance(_set(n, 2 * k, 6), _set(30, 2 * k + 1, 6)) for k in range(80)])
        assert abs(float(same.mean())) < 3 * float(same.std()) / 80**0.5 and float(same.min()) < 0
    a, b = _set(40, 0, 6), _set(40, 1, 6)
    assert energy_distance(7 * a + 3, 7 * b + 3) == pytest.approx(energy_distance(a, b))
    assert energy_distance(a / 2, b) > 2 * abs(energy_distance(a, b))  # too little spread is seen, not only a shift
    far = [energy_distance(a + shift, b) for shift in (0.0, 0.3, 0.6, 1.2)]
    assert far == sorted(far)
    for bad in ((a[:1], b), (a, b[:1]), (a, b[:1].repeat(3, 1)), (a[:, :2], b)):
        with pytest.raises(AllpetError):
            energy_distance(*bad)


def test_precision_sees_false_modes_and_recall_missing_ones():
    centres = torch.tensor([[0.0, 0], [100, 0], [0, 100], [100, 100]], dtype=torch.float64)
    real = torch.cat([c + _set(50, k, 2) for k, c in enumerate(centres[:2])])
    half = centres[0] + _set(100, 9, 2)  # one mode of two
    false = torch.cat([c + _set(50, 20 + k, 2) for k, c in enumerate(centres[:4:2])])  # one mode of two is not real
    precision, recall = precision_recall(half, real)
    assert precision > 0.9 and recall == pytest.approx(0.5, abs=0.06)
    assert coverage(half, real) == pytest.approx(0.5, abs=0.06) and density(half, real) > 0.8
    precision, recall = precision_recall(false, real)
    assert precision == pytest.approx(0.5, abs=0.06) and recall == pytest.approx(0.5, abs=0.06)
    assert density(false, real) == pytest.approx(0.5, abs=0.15)
    assert precision_recall(real + 1e4, real) == (0, 0) and coverage(real + 1e4, real) == 0


def test_balls_by_hand():
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # widths to the nearest: 1, 1, 2, 4
    samples = torch.tensor([[0.5], [4.5], [12.0]])  # in balls {0, 1}, {3, 7}, none; their own widths: 4, 4, 7.5
    assert precision_recall(samples, real, k=1) == (pytest.approx(2 / 3), 1.0)
    assert density(samples, real, k=1) == pytest.approx(4 / 3)
    assert coverage(samples, real, k=1) == 1.0
    assert coverage(samples[:1], real, k=1) == 0.5


def test_density_and_coverage_of_one_distribution_are_as_published():
    a, b = _set(800, 0, 8), _set(800, 1, 8)
    assert density(a, b) == pytest.approx(1, abs=0.1)
    assert coverage(a, b) == pytest.approx(1 - 2**-5, abs=0.04)


def test_bad_sets_say_what_is_wrong():
    for measure in (sliced_wasserstein, kernel_distance, precision_recall, density, coverage):
        with pytest.raises(AllpetError, match="must agree"):
            measure(_set(9, 0, 4), _set(9, 0, 5))
        with pytest.raises(AllpetError, match="n > 0"):
            measure(_set(3, 0)[:0], _set(3, 0))
    for measure in (density, coverage, precision_recall):
        with pytest.raises(AllpetError, match="below n"):
            measure(_set(9, 0), _set(5, 1), k=5)
    with pytest.raises(AllpetError, match="below n"):
        precision_recall(_set(5, 0), _set(9, 1), k=5)
    with pytest.raises(AllpetError, match="2 or more"):
        kernel_distance(_set(1, 0), _set(5, 0))
    with pytest.raises(AllpetError, match="must vary"):
        kernel_distance(_set(5, 0), torch.ones(5, 30))
