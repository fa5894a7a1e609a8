"""Singles and randoms against closed forms for a small source, and as products of crystal factors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.scan.scanners import scanner
from allpet.scan.scatter import DETECTORS, cast, scatter_estimate
from allpet.scan.singles import HALF_LENGTH_MM, SCATTERED, background_estimate, randoms_estimate, singles_of
from scatter_support import reference

MMR = scanner("mMR")
BEAM = ParallelBeam(32, 64, 4.0)
RADIUS = 335.0
WATER = 0.0096


def disc(radius: float, x0: float = 0, y0: float = 0) -> np.ndarray:
    grid = BEAM.image_grid(256)
    return ((grid.x - x0) ** 2 + (grid.y[:, None] - y0) ** 2 <= radius**2)[None].astype(np.float32)


def line_in_air(x: float, y: float, angle: np.ndarray) -> np.ndarray:
    """q of a line source of 1 kBq/mL*mm^2 along z, in closed form."""
    dx, dy = RADIUS * np.cos(angle) - x, RADIUS * np.sin(angle) - y
    rho = np.hypot(dx, dy)
    cosine = (dx * np.cos(angle) + dy * np.sin(angle)) / rho
    return np.asarray(2 * HALF_LENGTH_MM / np.hypot(HALF_LENGTH_MM, rho) * cosine / rho)


@settings(max_examples=15)
@given(x=st.floats(-80, 80), y=st.floats(-80, 80))
def test_small_source_in_air(x: float, y: float) -> None:
    spot = disc(10, x, y)
    got = singles_of(cast(spot, 0 * spot, BEAM, MMR))[0]
    area = spot.sum() * (BEAM.fov_mm / 256) ** 2
    direct = area * line_in_air(x, y, 2 * np.pi * np.arange(DETECTORS) / DETECTORS)
    assert got.mean() == pytest.approx((1 + SCATTERED) * direct.mean(), rel=0.03)
    assert np.abs((got - SCATTERED * got.mean() / (1 + SCATTERED)) / direct - 1).max() < 0.12  # cells of 16 mm


def test_source_in_the_middle_of_water() -> None:
    """The integral over heights, by quadrature."""
    spot, body = disc(8), disc(100)
    got = singles_of(cast(spot, WATER * body, BEAM, MMR))[0]
    area = spot.sum() * (BEAM.fov_mm / 256) ** 2
    top = math.atan(HALF_LENGTH_MM / RADIUS)
    seen = integrate.quad(lambda psi: math.cos(psi) * math.exp(-100 * WATER / math.cos(psi)), -top, top)[0]
    assert got.mean() == pytest.approx((1 + SCATTERED) * area * seen / RADIUS, rel=0.03)


def test_randoms_of_a_small_source_in_the_middle_of_air() -> None:
    """2 tau S S over what trues of the pair would have: 2 tau * 2 R^2 / pi * q^2, flat over the sinogram."""
    spot = 50 * disc(10)
    got = randoms_estimate(spot, 0 * spot, BEAM, MMR)[0]
    q = (1 + SCATTERED) * spot.sum() * (BEAM.fov_mm / 256) ** 2 * line_in_air(0, 0, np.zeros(1))[0]
    assert got.mean() == pytest.approx(5.86e-9 * 2 * RADIUS**2 / math.pi * q**2, rel=0.03)
    assert got.std() < 0.01 * got.mean()


def test_randoms_are_products_of_the_two_ends() -> None:
    activity, mu = disc(90) + 20 * disc(15, 60, 30), WATER * disc(95)
    got = randoms_estimate(activity, mu, BEAM, MMR)[0]
    q = singles_of(cast(activity, mu, BEAM, MMR))[0]
    phi, s = BEAM.angles[:, None], BEAM.radii
    angles = 2 * np.pi * np.arange(DETECTORS + 1) / DETECTORS

    def at(angle: np.ndarray) -> np.ndarray:
        return np.interp(angle % (2 * np.pi), angles, np.append(q, q[0]))

    expected = at(phi + np.arccos(s / RADIUS)) * at(phi - np.arccos(s / RADIUS))
    assert np.abs(got / got.mean() - expected / expected.mean()).max() < 0.02


@settings(max_examples=10)
@given(scale=st.floats(0.1, 50), window=st.floats(1, 10))
def test_randoms_grow_with_the_square_of_activity_and_with_the_window(scale: float, window: float) -> None:
    activity, mu = disc(90), WATER * disc(95)
    one = randoms_estimate(activity, mu, BEAM, MMR)
    made = replace(MMR, coincidence_window_ns=window)
    assert np.allclose(randoms_estimate(scale * activity, mu, BEAM, made), one * scale**2 * window / 5.86, rtol=1e-3)


def test_relative_randoms_have_mean_one() -> None:
    activity = np.concatenate((disc(90), 7 * disc(30, 50, 0)))
    got = randoms_estimate(activity, WATER * np.concatenate((disc(95), disc(95))), BEAM, MMR, relative=True)
    assert np.allclose(got.mean(axis=(1, 2)), 1, rtol=1e-5)
    with pytest.raises(AllpetError, match="no activity"):
        randoms_estimate(0 * activity, WATER * activity, BEAM, MMR, relative=True)


def test_both_backgrounds_at_once_are_the_same_as_each_alone() -> None:
    activity, mu = 5 * disc(90), WATER * disc(95)
    scatter, randoms = background_estimate(activity, mu, BEAM, MMR)
    assert np.array_equal(scatter, scatter_estimate(activity, mu, BEAM, MMR))
    assert np.array_equal(randoms, randoms_estimate(activity, mu, BEAM, MMR))
    assert scatter.shape == randoms.shape == (1, *BEAM.shape)
    assert scatter.dtype == randoms.dtype == np.float32


def test_randoms_over_trues_from_counted_photons() -> None:
    """The amount without the model's own algebra: photons and pairs counted by Monte Carlo, randoms as 2 tau S S.

    Pairs up to 60 mm apart along z, |s| within the beam, weighted by sin(half the angle between them) as the reference
    does; the integral of that weight over pairs of ring angles is ``2 pi * fov / R``.
    """
    mc = reference()
    tally = mc.simulate(
        (mc.Ellipse(0, 0, 100, 100, WATER, 5.0),), BEAM, MMR, 400_000, np.random.default_rng(2), 60, 350
    )
    decays_mm = 5 * math.pi * 100**2  # a second, for each mm of the body
    area_rate = decays_mm * 2 * tally.ring.sum() / tally.decays / (2 * math.pi * RADIUS)
    randoms = 5.86e-9 * area_rate**2 * RADIUS**2 * 120 * 2 * math.pi * BEAM.fov_mm / RADIUS
    trues = decays_mm * tally.near[0].sum() / tally.decays
    activity, mu = 5 * disc(100), WATER * disc(100)
    chord = 2 * np.sqrt(np.maximum(100**2 - np.linspace(-128, 128, 6401) ** 2, 0))
    ours = randoms_estimate(activity, mu, BEAM, MMR).mean() / (5 * chord * np.exp(-WATER * chord)).mean()
    assert ours == pytest.approx(randoms / trues, rel=0.06)
