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
    Coincidences,
    attenuation_factors,
    block_mean,
    blur_matrix,
    draw_counts,
    expected_counts,
    ideal_projection,
    project_slices,
    smooth_background,
    smooth_views,
    strip_project,
)
from allpet.scan.kinetics import ISOTOPES


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


@pytest.mark.parametrize("views", [6, 7, 8, 9, 10, 12])
def test_views_that_share_a_matrix_equal_their_own_projection(views: int) -> None:
    """Turned and mirrored copies stand for other views; each pixel is 3,600 points here."""
    rng = np.random.default_rng(views)
    image = np.zeros((2, 40, 40), np.float32)
    image[:, 8:30, 12:33] = rng.random((2, 22, 21))
    fast = strip_project(image, views, 1.0)
    rows, columns = np.nonzero(image[0])
    x, y = columns - 19.5, 19.5 - rows
    dx, dy = rng.random((2, 3600)) - 0.5
    for view in range(views):
        phi = math.pi * view / views
        s = (x[:, None] + dx) * math.cos(phi) + (y[:, None] + dy) * math.sin(phi)
        bins = np.floor(s + 20).astype(int)
        for k in range(2):
            weight = np.broadcast_to(image[k, rows, columns][:, None], bins.shape) / dx.size
            slow = np.bincount(bins.ravel(), weight.ravel(), minlength=40)
            assert np.linalg.norm(slow - fast[k, view]) < 0.01 * np.linalg.norm(slow)


def test_an_empty_image_projects_to_nothing() -> None:
    assert not strip_project(np.zeros((1, 24, 24), np.float32), 8, 1.0).any()


@pytest.mark.parametrize("isotope", ["18F", "68Ga"])
def test_positron_range_adds_its_variance(isotope: str) -> None:
    """exp(-|x|/a)/(2a) has variance 2 a^2; variances of blurs add up."""
    beam = ParallelBeam(4, 101, 0.5)
    line = blur_matrix(beam, 4.0, isotope)[151].astype(float)
    spread = np.sum(line * beam.radii**2) / line.sum()
    sigma = 4.0 / math.sqrt(8 * math.log(2))
    bin_and_pixel = (0.5**2 + (0.5 / 3) ** 2) / 12
    assert line.sum() == pytest.approx(1 / OVERSAMPLING, abs=1e-3)
    assert spread == pytest.approx(sigma**2 + 2 * ISOTOPES[isotope].range_scale_mm ** 2 + bin_and_pixel, rel=0.02)


@pytest.mark.parametrize("fwhm_mm", [1e-3, 0.7, 1.5, 4.5, 20.0])
def test_nothing_is_projected_below_zero(fwhm_mm: float) -> None:
    """Whatever the resolution: expected counts have to be 0 or more."""
    beam = ParallelBeam(8, 24, 4.0)
    image = np.zeros((1, 72, 72), np.float32)
    image[0, 30:34, 20:50] = 7.0
    for isotope in (None, "68Ga"):
        line = ideal_projection(image, beam, fwhm_mm, isotope)
        assert line.min() >= 0
        assert line.sum() == pytest.approx(image.sum() * (4 / 3) ** 2 * 8 / 4, rel=1e-3)


def test_slices_and_mu_in_one_go_equal_each_alone() -> None:
    beam = ParallelBeam(12, 24, 4.0)
    rng = np.random.default_rng(0)
    activity = rng.random((2, 3, 72, 72), np.float32)
    mu = 0.01 * rng.random((3, 72, 72), np.float32)
    ideal, factors = project_slices(activity, mu, beam, 5.0, ("18F", "68Ga"))
    assert np.allclose(ideal[1], ideal_projection(activity[1], beam, 5.0, "68Ga"), rtol=1e-5)
    assert np.allclose(factors, attenuation_factors(mu, beam), rtol=1e-6)
    assert np.abs(ideal[0] / ideal_projection(activity[0], beam, 5.0, "68Ga") - 1).max() > 1e-3


@settings(max_examples=20)
@given(
    counts=st.floats(1e3, 1e7),
    randoms=st.floats(0, 0.6),
    scatter=st.floats(0, 0.6),
    gap=st.booleans(),
)
def test_expected_counts_add_up(counts: float, randoms: float, scatter: float, gap: bool) -> None:
    beam = ParallelBeam(16, 32, 8.0)
    ideal = np.tile(np.exp(-((beam.radii / 60) ** 2)).astype(np.float32), (16, 1))
    trues = 0.3 * ideal
    quick = smooth_background(trues, beam, scatter, randoms)
    efficiency = np.ones(beam.shape, np.float32)
    efficiency[3, 10:20] = 0.0 if gap else 0.7
    made = expected_counts(Coincidences(trues, *quick), counts, efficiency)
    assert made.prompts.sum(dtype=float) == pytest.approx(counts, rel=1e-4)
    model = made.counts_per_unit * efficiency * trues + made.background
    assert np.allclose(made.prompts, model, rtol=1e-5, atol=1e-6 * made.prompts.max())
    assert made.background.min() >= 0 and np.all(made.randoms <= made.background * (1 + 1e-6))
    whole = expected_counts(Coincidences(trues, *quick), counts)
    assert whole.randoms.sum(dtype=float) == pytest.approx(randoms * counts, rel=1e-3)
    single = counts * (1 - randoms)
    assert (whole.background - whole.randoms).sum(dtype=float) == pytest.approx(scatter * single, rel=1e-3, abs=0.1)


def test_no_activity_is_an_error() -> None:
    nothing = np.zeros((8, 8), np.float32)
    with pytest.raises(AllpetError, match="no activity"):
        expected_counts(Coincidences(nothing, nothing, nothing), 1e5)


def test_smoothing_continues_across_the_mirrored_seam() -> None:
    sino = np.zeros((16, 21))
    sino[0, 4] = 1
    smooth = smooth_views(sino, 2.0, 1.0)
    assert smooth[-1, -5] == pytest.approx(smooth[1, 4])
    assert smooth.sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("fraction", [0.05, 0.25, 1.0])
def test_thinned_counts_are_poisson_in_10000_bins(fraction: float) -> None:
    """Mean and variance of 30 repeats of 10,000 bins agree to 1 % of the mean, as those of Poisson numbers do."""
    expected = np.tile(np.array([2.0, 40.0, 900.0, 20.0]), 2500)
    rng = np.random.default_rng(1)
    draws = np.stack([draw_counts(expected, fraction, rng) for _ in range(30)]).astype(float)
    assert np.array_equal(draws, np.round(draws))
    wanted = expected * fraction
    assert draws.mean() == pytest.approx(wanted.mean(), rel=0.002)
    scaled = (draws - wanted) ** 2 / wanted  # mean 1 for Poisson numbers, whatever their mean
    assert scaled.mean() == pytest.approx(1, abs=0.01)
