"""Single-slice rebinning keeps every count and knows how many ring pairs a direct plane holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.scan.rebin import direct_plane_of, ring_pairs, segments, ssrb


def test_mmr_table() -> None:
    table = direct_plane_of(64, 60)
    assert len(table) == 4084
    assert segments(2) == [0, 1, -1, 2, -2]
    assert list(table[:3]) == [0, 2, 4] and table[64] == 1 and table[-1] == 2 * 3 + 60
    pairs = ring_pairs(64, 60)
    assert len(pairs) == 127 and pairs.min() == 1 and pairs.max() == 61 and pairs.sum() == 4084
    assert np.array_equal(pairs, pairs[::-1])


@given(rings=st.integers(1, 9), data=st.data())
def test_every_ring_pair_lands_midway_between_its_rings(rings: int, data: st.DataObject) -> None:
    largest = data.draw(st.integers(0, rings - 1))
    expected = sorted(a + b for a in range(rings) for b in range(rings) if abs(a - b) <= largest)
    assert sorted(direct_plane_of(rings, largest)) == expected


@given(rings=st.integers(1, 6), data=st.data(), seed=st.integers(0, 99))
def test_counts_are_conserved(rings: int, data: st.DataObject, seed: int) -> None:
    largest = data.draw(st.integers(0, rings - 1))
    n = len(direct_plane_of(rings, largest))
    planes = np.random.default_rng(seed).poisson(3.0, (n, 4, 5)).astype(np.uint16)
    out = ssrb(planes, rings, largest)
    assert out.shape == (2 * rings - 1, 4, 5)
    assert np.array_equal(out.sum(axis=0), planes.sum(axis=0))


def test_wrong_number_of_planes() -> None:
    with pytest.raises(AllpetError, match="4084"):
        ssrb(np.zeros((127, 2, 2)), 64, 60)
    with pytest.raises(AllpetError, match="ring difference"):
        direct_plane_of(4, 4)
