"""Positions and angles of the geometry contract, and its one-line errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam, RingBeam

counts = st.integers(1, 400)
lengths = st.floats(0.1, 10.0)


@given(counts, counts, lengths)
def test_parallel_beam_positions(views: int, bins: int, bin_mm: float):
    beam = ParallelBeam(views, bins, bin_mm)
    assert beam.shape == (views, bins)
    assert beam.angles[0] == 0 and beam.angles[-1] < math.pi
    np.testing.assert_allclose(beam.radii, -beam.radii[::-1])
    np.testing.assert_allclose(np.diff(beam.radii), bin_mm)
    assert beam.fov_mm == pytest.approx(bins * bin_mm)


@given(counts, st.integers(1, 400), lengths)
def test_image_grid_spans_the_field_of_view(bins: int, size: int, bin_mm: float):
    beam = ParallelBeam(3, bins, bin_mm)
    grid = beam.image_grid(size)
    assert grid.size * grid.pixel_mm == pytest.approx(beam.fov_mm)
    assert beam.image_grid().shape == (bins, bins)


def test_image_rows_run_down_and_columns_to_the_right():
    grid = ImageGrid(4, 2.0)
    np.testing.assert_array_equal(grid.x, [-3, -1, 1, 3])
    np.testing.assert_array_equal(grid.y, [3, 1, -1, -3])


def test_ring_lines_join_their_crystals():
    """The chord between the two named crystals has the angle and the distance that the geometry states."""
    ring = RingBeam(views=252, bins=344, radius_mm=328.0, block=9)
    first, second = ring.crystal_pairs()
    step = 2 * math.pi / ring.crystals
    a, b = first * step, second * step
    normal = (a + b) / 2
    distance = ring.radius_mm * np.cos((a - b) / 2)
    np.testing.assert_allclose(np.abs(distance), np.broadcast_to(np.abs(ring.radii), ring.shape), atol=1e-9)
    # the chord's normal is the view's angle (crystal 0 at the bottom), half a crystal less in odd bins
    odd = (np.arange(ring.bins) - ring.bins // 2) % 2
    expected = ring.angles[:, None] + np.pi / 2 - odd * step / 2
    apart = (normal - expected + np.pi / 2) % np.pi - np.pi / 2
    np.testing.assert_allclose(apart, 0, atol=1e-9)


def test_ring_gaps_are_those_of_the_blocks():
    ring = RingBeam(views=252, bins=344, radius_mm=328.0, block=9)
    first, second = ring.crystal_pairs()
    np.testing.assert_array_equal(~ring.live(), (first % 9 == 0) | (second % 9 == 0))
    assert 0.20 < 1 - ring.live().mean() < 0.22
    assert RingBeam(252, 344, 328.0).live().all()


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_bad_numbers_end_in_one_line(bad: float):
    for build in (lambda: ParallelBeam(8, 8, bad), lambda: ImageGrid(8, bad), lambda: RingBeam(8, 8, bad)):
        with pytest.raises(AllpetError, match="must be a positive number") as caught:
            build()
        assert "\n" not in str(caught.value)
