"""Acquisition: line integrals against closed forms, counts against their statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.scan.acquire import (
    OVERSAMPLING,
    Acquisition,
    attenuation_factors,
    block_mean,
    draw_counts,
    expected_counts,
    ideal_projection,
    smooth_views,
    strip_project,
)


def _disc(size: int, pixel_mm: float, x0: float, y0: float, radius: float) -> np.ndarray:
    grid = (np.arange(size) - (size - 1) / 2) * pixel_mm
    fine = (np.arange(4) - 1.5) * pixel_mm / 4
    x, y = (grid[:, None] + fine).ravel(), (-grid[:, None] - fine).ravel()
    inside = (x[None, :] - x0) ** 2 + (y[:, None] - y0) ** 2 <= radius**2
    return inside.reshape(size, 4, size, 4).mean(axis=(1, 3)).astype(np.float32)


@pytest.mark.parametrize("views", [12, 15])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (31.0, -17.0), (-20.0, 40.0)])
def test_disc_matches_its_chord_lengths(views: int, centre: tuple[float, float]) -> None:
    size, pixel, radius = 192, 1.0, 40.0
    sino = strip_project(_disc(size, pixel, *centre, radius)[None], views, pixel)[0]
    phi = np.arange(views) * math.pi / views
    edges = (np.arange(size + 1) - size / 2) * pixel
    t = edges[None, :] - (centre[0] * np.cos(phi) + centre[1] * np.sin(phi))[:, None]
    t = np.clip(t, -radius, radius)
    area = t * np.sqrt(radius**2 - t**2) + radius**2 * np.arcsin(t / radius)
    exact = np.diff(area, axis=1) / pixel
    assert np.linalg.norm(sino - exact) < 0.005 * np.linalg.norm(exact)


def test_every_view_holds_the_same_total() -> None:
    rng = np.random.default_rng(3)
    image = np.zeros((1, 48, 48), np.float32)
    image[0, 14:34, 14:34] = rng.random((20, 20))
    totals = strip_project(image, 10, 2.0).sum(axis=2) * 2.0
    assert np.allclose(totals, image.sum() * 4.0, rtol=1e-5)


def test_large_grids_go_without_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((2, 30, 30), np.float32)
    cached = strip_project(image, 8, 1.5)
    monkeypatch.setattr("allpet.scan.acquire._KEEP_VIEW_PIXELS", 0)
    assert np.array_equal(cached, strip_project(image, 8, 1.5))


def test_block_mean_averages_blocks() -> None:
    array = np.arange(2 * 6 * 9, dtype=np.float32).reshape(2, 6, 9)
    out = block_mean(array, (-1, -2))
    assert out.shape == (2, 2, 3)
    assert out[1, 1, 2] == pytest.approx(array[1, 3:6, 6:9].mean())


def test_resolution_widens_a_point_to_its_fwhm() -> None:
    beam = ParallelBeam(4, 64, 1.0)
    fine = np.zeros((1, 192, 192), np.float32)
    fine[0, 95:97, 95:97] = 1
    line = ideal_projection(fine, beam, fwhm_mm=6.0)[0, 0].astype(float)
    spread = np.sqrt(np.sum(line * beam.radii**2) / line.sum())
    assert spread * math.sqrt(8 * math.log(2)) == pytest.approx(6.0, rel=0.05)


def test_attenuation_of_a_water_disc() -> None:
    beam = ParallelBeam(8, 64, 4.0)
    mu = 0.0096 * _disc(64 * OVERSAMPLING, 4 / OVERSAMPLING, 0, 0, 90)[None]
    factors = attenuation_factors(mu, beam)
    assert factors.max() == 1 and factors.min() > 0
    assert factors[0, :, 31:33] == pytest.approx(math.exp(-0.0096 * 180), rel=0.01)


@settings(max_examples=20, deadline=None)
@given(
    counts=st.floats(1e3, 1e7),
    randoms=st.floats(0, 0.6),
    scatter=st.floats(0, 0.6),
)
def test_expected_counts_add_up(counts: float, randoms: float, scatter: float) -> None:
    beam = ParallelBeam(16, 32, 8.0)
    ideal = np.tile(np.exp(-((beam.radii / 60) ** 2)).astype(np.float32), (16, 1))
    factors = np.full(beam.shape, 0.3, np.float32)
    expected, background, scale = expected_counts(ideal, factors, beam, Acquisition(counts, randoms, scatter))
    assert expected.sum() == pytest.approx(counts, rel=1e-3)
    assert (scale * factors * ideal).sum() == pytest.approx(counts * (1 - randoms) * (1 - scatter), rel=1e-3)
    assert np.allclose(expected - background, scale * factors * ideal, atol=1e-4 * expected.max())
    assert background.min() >= 0


def test_no_activity_is_an_error() -> None:
    beam = ParallelBeam(8, 8, 4.0)
    with pytest.raises(AllpetError, match="no activity"):
        expected_counts(np.zeros(beam.shape), np.ones(beam.shape), beam, Acquisition(1e5, 0.1, 0.1))


def test_smoothing_continues_across_the_mirrored_seam() -> None:
    sino = np.zeros((16, 21))
    sino[0, 4] = 1
    smooth = smooth_views(sino, 2.0, 1.0)
    assert smooth[-1, -5] == pytest.approx(smooth[1, 4])
    assert smooth.sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("fraction", [0.05, 0.5, 1.0])
def test_thinned_counts_are_poisson(fraction: float) -> None:
    expected = np.array([2.0, 40.0, 900.0])
    draws = draw_counts(np.tile(expected, (20_000, 1)), fraction, np.random.default_rng(1))
    assert np.array_equal(draws, np.round(draws))
    error = np.sqrt(expected * fraction / 20_000)
    assert np.all(np.abs(draws.mean(axis=0) - expected * fraction) < 5 * error)
    assert np.allclose(draws.var(axis=0), expected * fraction, rtol=0.06)
