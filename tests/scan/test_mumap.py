"""CT to mu at 511 keV: water, air, bone, and where both lines meet."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.io import read
from allpet.scan.mumap import hu_to_mu

VOLTAGES = (80, 100, 110, 120, 130, 140)


def test_air_water_and_bone() -> None:
    mu = hu_to_mu([-1000.0, 0.0, -500.0, 1000.0])
    assert mu[:3] == pytest.approx([0.0, 0.0096, 0.0048], abs=1e-7)
    assert mu[3] == pytest.approx(5.10e-6 * 2000 + 4.71e-3, rel=1e-5)
    assert hu_to_mu(np.array([-1024.0, 10.0]))[0] == 0


@pytest.mark.parametrize("kv", VOLTAGES)
def test_the_two_lines_meet_and_rise(kv: int) -> None:
    hu = np.arange(-1000.0, 2000.0)
    steps = np.diff(hu_to_mu(hu, kv).astype(float))
    assert steps.min() > 0 and steps.max() < 2.5e-5
    assert np.abs(np.diff(steps)).max() < 2.5e-5


@given(st.floats(300, 3000))
def test_bone_needs_less_for_higher_voltage(hu: float) -> None:
    """The same bone has higher HU at a lower voltage; so the same HU means less bone there."""
    mu = [float(hu_to_mu([-1000.0, hu], kv)[1]) for kv in VOLTAGES]
    assert all(low < high for low, high in pairwise(mu))
    assert float(hu_to_mu([-1000.0, hu])[1]) < 9.6e-6 * (hu + 1000)


@pytest.mark.parametrize(
    ("hu", "kv", "says"),
    [
        ([-1000.0, np.nan], 120, "NaN"),
        ([-1000.0, 0.0], 90, "known are 80, 100"),
        ([0.0, 0.0096], 120, "air near -1000"),
        ([0.0, 1000.0], 120, "air near -1000"),
    ],
)
def test_what_is_no_ct_is_refused(hu: list[float], kv: int, says: str) -> None:
    with pytest.raises(AllpetError, match=says):
        hu_to_mu(hu, kv)


@pytest.mark.skipif("ALLPET_DATA" not in os.environ, reason="ALLPET_DATA is not set")
@pytest.mark.parametrize("name", ["abdomen", "chest"])
def test_real_ct(name: str) -> None:
    image = read(Path(os.environ["ALLPET_DATA"]) / "ct" / f"{name}_ct_hu.nii.gz")
    mu = hu_to_mu(image.array.numpy())
    soft = (mu > 0.0085) & (mu < 0.0105)
    assert 0 <= mu.min() and mu.max() < 0.035
    assert 0.05 < soft.mean() < 0.6  # most of a body is soft tissue
