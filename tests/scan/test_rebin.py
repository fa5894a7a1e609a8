"""Single-slice rebinning keeps every count and knows how many ring pairs a direct plane holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.io.layout import Segments, span1_segments
from allpet.scan.core import Scan
from allpet.scan.rebin import direct_plane_of, pairs_of_planes, rebinned, ring_pairs, segments, ssrb


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


def test_a_scan_of_segments_becomes_one_of_direct_planes() -> None:
    stored, beam = span1_segments(5, 3), ParallelBeam(4, 5, 2.0)
    n, rng = sum(stored.planes), np.random.default_rng(0)
    counts, live, background = (torch.from_numpy(rng.random((n, 4, 5), np.float32)) for _ in range(3))
    scan = Scan(
        counts,
        beam,
        attenuation=live,
        normalisation=2 * live,
        background=background,
        counts_per_unit=3.0,
        plane_mm=4.0,
        header={**stored.as_header(), "kept": "yes"},
        neighbours=False,
    )
    direct = rebinned(scan)
    for name, planes in (("sinogram", counts), ("background", background), ("normalisation", 2 * live)):
        np.testing.assert_allclose(getattr(direct, name).numpy(), ssrb(planes.numpy(), 5, 3), rtol=1e-6)
    np.testing.assert_allclose(direct.efficiency.numpy(), ssrb((2 * live * live).numpy(), 5, 3), rtol=1e-5)
    assert float(direct.attenuation.max()) <= 1 and direct.counts_per_unit == 3.0 and direct.plane_mm == 2.0
    assert direct.neighbours and direct.header == {"kept": "yes"}
    assert rebinned(direct) is direct


def test_segments_of_several_ring_differences_lie_half_a_ring_apart() -> None:
    """Span 3 of 4 rings: segment 0 has all 7 direct planes, segments +-2 (differences 2 to 3) the middle 3."""
    stored = Segments((7, 3, 3), (-1, 2, -3), (1, 3, -2), 4)
    scan = Scan(torch.ones(13, 2, 2), ParallelBeam(2, 2, 1.0), unit="kBq/mL*mm", header=stored.as_header())
    scan.sinogram[7:10] = torch.tensor([2.0, 3.0, 4.0])[:, None, None]
    direct = rebinned(scan)
    assert direct.sinogram[:, 0, 0].tolist() == pytest.approx([1, 1, 4 / 3, 5 / 3, 2, 1, 1])
    with pytest.raises(AllpetError, match="more planes than 3 rings"):
        rebinned(Scan(scan.sinogram, scan.geometry, header={**scan.header, "number of rings": "3"}))


@given(rings=st.integers(1, 9), data=st.data())
def test_pairs_of_a_plane_are_those_with_their_middle_there(rings: int, data: st.DataObject) -> None:
    lowest = data.draw(st.integers(-(rings - 1), rings - 1))
    highest = data.draw(st.integers(lowest, rings - 1))
    middles = [a + b for a in range(rings) for b in range(rings) if lowest <= b - a <= highest]
    low, high, step = min(middles), max(middles), 2 if lowest == highest else 1
    expected = [middles.count(k) for k in range(low, high + 1, step)]
    if low + high == 2 * (rings - 1):  # a segment is stored about the scanner's middle
        assert pairs_of_planes(len(expected), lowest, highest, rings).tolist() == expected


def test_span_and_no_span_make_the_same_image_scale() -> None:
    """Ones in every ring pair: whatever the span, a direct plane's counts are its pairs, and so is its efficiency."""
    whole = Segments((7, 3, 3), (-1, 2, -3), (1, 3, -2), 4)
    pairs = np.concatenate(
        [pairs_of_planes(*part, 4) for part in zip(whole.planes, whole.lowest, whole.highest, strict=True)]
    )
    counts = torch.from_numpy(pairs).float()[:, None, None].expand(13, 2, 2).clone()
    direct = rebinned(Scan(counts, ParallelBeam(2, 2, 1.0), header=whole.as_header(), plane_mm=4.0))
    assert direct.normalisation is not None and torch.equal(direct.sinogram, direct.normalisation)
    assert direct.sinogram[:, 0, 0].tolist() == ring_pairs(4, 3).tolist() and direct.plane_mm == 4.0
