"""Uptake of a region: mean, maximum, and the peak of 1 mL."""

import numpy as np
import pytest

from allpet.geometry import ImageGrid
from allpet.mask import Region
from allpet.metrics.region import PEAK_MM, mean_in, peak_image, uptake

GRID = ImageGrid(40, 2.0)


def test_mean_maximum_and_volume() -> None:
    planes = np.zeros((5, 40, 40), np.float32)
    planes[2, 10:14, 10:14] = np.arange(16).reshape(4, 4)
    mask = np.zeros_like(planes)
    mask[2, 10:14, 10:14] = 1
    mask[2, 10, 10] = 0.5
    found = uptake(planes, Region.from_mask("r", mask), GRID, 3.0)
    assert found.mean == pytest.approx(120 / 15.5, rel=1e-3) and found.maximum == 15
    assert found.volume_ml == pytest.approx(15.5 * 12 / 1000, rel=1e-3)
    assert mean_in(planes, Region.from_mask("r", mask)) == pytest.approx(found.mean)


def test_the_peak_is_the_mean_of_a_sphere_of_1_ml() -> None:
    z, y, x = np.meshgrid(np.arange(9) * 2.0 - 8, *([(np.arange(40) - 19.5) * 2.0] * 2), indexing="ij")
    radius = np.sqrt((x - 1) ** 2 + (y - 1) ** 2 + z**2)
    planes = np.where(radius <= PEAK_MM, 6.0, 0.0).astype(np.float32)
    region = Region.from_mask("r", radius < 12)
    assert 4 / 3 * np.pi * PEAK_MM**3 == pytest.approx(1000, rel=0.01)
    assert uptake(planes, region, GRID, 2.0).peak == pytest.approx(6.0, rel=0.15)
    assert uptake(np.full_like(planes, 3.0), region, GRID, 2.0).peak == pytest.approx(3.0)


def test_slices_that_are_no_neighbours_have_peaks_of_their_own() -> None:
    rng = np.random.default_rng(0)
    planes = rng.gamma(4, 1, (5, 40, 40)).astype(np.float32)
    mask = np.zeros_like(planes)
    mask[2, 10:20, 10:20] = 1
    region = Region.from_mask("r", mask)
    alone = uptake(planes, region, GRID, 2.0, neighbours=False).peak
    assert uptake(planes, region, GRID, 2.0).peak < alone < planes[2].max()
    peaks = peak_image(planes, GRID, 2.0, neighbours=False)
    assert uptake(planes, region, GRID, 2.0, peaks, neighbours=False).peak == pytest.approx(alone)
    planes[[0, 1, 3, 4]] = 100
    assert uptake(planes, region, GRID, 2.0, neighbours=False).peak == pytest.approx(alone)


def test_the_peak_of_noise_lies_between_mean_and_maximum() -> None:
    rng = np.random.default_rng(0)
    planes = rng.gamma(4, 1, (6, 40, 40)).astype(np.float32)
    found = uptake(planes, Region.from_mask("r", np.ones_like(planes)), GRID, 3.0)
    assert found.mean < found.peak < found.maximum


def test_a_region_at_the_edge_has_a_peak() -> None:
    planes = np.full((1, 40, 40), 2.0, np.float32)
    mask = np.zeros_like(planes)
    mask[0, 0, 0] = 0.2
    found = uptake(planes, Region.from_mask("r", mask), GRID, 3.0)
    assert (found.mean, found.maximum, found.peak) == pytest.approx((2.0, 2.0, 2.0))
