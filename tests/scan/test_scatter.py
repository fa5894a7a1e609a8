"""Scatter against closed forms, a brute-force integral with analytic lines, a Monte Carlo, and its symmetries."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics.consistency import mirror_seam
from allpet.scan import scatter as module
from allpet.scan.acquire import attenuation_factors, ideal_projection
from allpet.scan.scanners import scanner
from allpet.scan.scatter import (
    DETECTORS,
    PIXELS,
    cast,
    coarsen,
    compton_total,
    klein_nishina,
    make_rays,
    scatter_estimate,
    scattered_kev,
    window_efficiency,
)
from allpet.scan.singles import singles_of
from scatter_support import reference

MMR = scanner("mMR")
HEAD = ParallelBeam(32, 64, 4.0)
WATER = 0.0096


def disc(beam: ParallelBeam, radius: float, x0: float = 0, y0: float = 0, size: int = 192) -> np.ndarray:
    """1 within a disc, ``(1, size, size)``."""
    grid = beam.image_grid(size)
    return ((grid.x - x0) ** 2 + (grid.y[:, None] - y0) ** 2 <= radius**2)[None].astype(np.float32)


def lopsided(beam: ParallelBeam) -> tuple[np.ndarray, np.ndarray]:
    body = disc(beam, 95, 10, -5)
    return body + 4 * disc(beam, 20, 45, 30), WATER * body


# ---- physics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kev", [30.0, 170.0, 511.0])
def test_klein_nishina_total_is_the_integral_of_the_formula(kev: float) -> None:
    def unnormalised(cosine: float) -> float:
        ratio = 1 / (1 + kev / 511 * (1 - cosine))
        return math.pi * ratio**2 * (ratio + 1 / ratio - 1 + cosine**2)

    assert compton_total(kev) == pytest.approx(integrate.quad(unnormalised, -1, 1)[0], rel=1e-9)
    share = integrate.quad(lambda c: 2 * math.pi * float(klein_nishina(np.array(c), kev)), -1, 1)[0]
    assert share == pytest.approx(1, rel=1e-9)


def test_klein_nishina_known_values() -> None:
    """511 keV: 0.2866 barn an electron; towards 0 keV Thomson's 8 pi / 3."""
    assert compton_total(511.0) * 0.0794079 == pytest.approx(0.2866, abs=1e-4)
    assert compton_total(0.5) == pytest.approx(8 * math.pi / 3, rel=3e-3)


def test_energy_after_scatter() -> None:
    """Right angle: half; straight back: a third."""
    assert np.allclose(scattered_kev(np.array([1.0, 0.0, -1.0])), [511, 255.5, 511 / 3])


@pytest.mark.parametrize("kev", [350.0, 430.0, 511.0])
def test_energy_window_is_a_normal_probability(kev: float) -> None:
    sigma = 0.145 * math.sqrt(511 * kev) / 2.3548200450309493
    expected = stats.norm.cdf(610, kev, sigma) - stats.norm.cdf(430, kev, sigma)
    assert window_efficiency(np.array(kev), MMR) == pytest.approx(expected, rel=1e-9)


def test_integrals_along_rays_are_chords_of_a_disc() -> None:
    seen = cast(disc(HEAD, 80), disc(HEAD, 80, 20, 0), HEAD, MMR)
    rays = make_rays(HEAD.fov_mm, 335.0)
    x, y = rays.x[seen.cells], rays.y[seen.cells]
    angle = 2 * np.pi * np.arange(DETECTORS) / DETECTORS
    ux, uy = 335 * np.cos(angle) - x[:, None], 335 * np.sin(angle) - y[:, None]
    length = np.hypot(ux, uy)
    inside = np.hypot(x, y) < 45  # clear of both edges, where rays graze
    for line, x0 in ((seen.activity_path[0], 0.0), (seen.mu_path[0], 20.0)):
        along = ((x[:, None] - x0) * ux + y[:, None] * uy) / length
        root = along**2 + 80**2 - ((x - x0) ** 2 + y**2)[:, None]
        chord = -along + np.sqrt(np.maximum(root, 0))
        assert np.abs(line - chord)[inside].max() < 4  # pixels of 8 mm
        assert np.abs((line - chord)[inside].mean()) < 0.3


def brute_force(radius: float, alpha: float, beta: float, top: float) -> float:
    """Single scatter of one detector pair over a true's weight, a uniform disc of 1 kBq/mL and water: fine cells, exact
    chords, one loop over heights."""
    ring, step = 335.0, 5.0
    axis = np.arange(-radius + step / 2, radius, step)
    x, y = (part.ravel() for part in np.meshgrid(axis, axis))
    x, y = x[np.hypot(x, y) < radius], y[np.hypot(x, y) < radius]
    detector = {k: (ring * math.cos(a), ring * math.sin(a), a) for k, a in (("a", alpha), ("b", beta))}
    total = 0.0
    for z in np.arange(step / 2, top, step):
        chord, far, way, solid = {}, {}, {}, {}
        for k, (dx, dy, a) in detector.items():
            ux, uy = dx - x, dy - y
            flat = np.hypot(ux, uy)
            along = (x * ux + y * uy) / flat
            far[k] = np.sqrt(flat**2 + z**2)
            chord[k] = (-along + np.sqrt(along**2 + radius**2 - x**2 - y**2)) * far[k] / flat
            way[k] = np.array([ux, uy, np.full_like(ux, -z)]) / far[k]
            solid[k] = (way[k][0] * math.cos(a) + way[k][1] * math.sin(a)) / far[k] ** 2
        cosine = -(way["a"] * way["b"]).sum(axis=0)
        kev = 511 / (2 - cosine)
        sigma = 0.145 * np.sqrt(511 * kev) / 2.3548
        seen = stats.norm.cdf(610, kev, sigma) - stats.norm.cdf(430, kev, sigma)
        peak = stats.norm.cdf(610, 511, 0.145 * 511 / 2.3548) - stats.norm.cdf(430, 511, 0.145 * 511 / 2.3548)
        ratio = kev / 511
        differential = 0.5 * ratio**2 * (ratio + 1 / ratio - 1 + cosine**2) / (0.2866 / 0.0794079)
        hard = compton_total(kev) / compton_total(511.0)
        lost = sum(
            chord[one] * np.exp(-WATER * (chord[one] + hard * chord[two])) for one, two in (("a", "b"), ("b", "a"))
        )
        weight = WATER * differential * seen / peak * solid["a"] * solid["b"] * lost
        total += 2 * step**3 * float(weight.sum())
    return total * 4 * ring**2


@pytest.mark.parametrize("s", [2.0, 62.0, 98.0])
def test_single_scatter_equals_a_brute_force_integral(monkeypatch: pytest.MonkeyPatch, s: float) -> None:
    monkeypatch.setattr(module, "MULTIPLE", 0.0)
    body = disc(HEAD, 100)
    got = scatter_estimate(body, WATER * body, HEAD, MMR)[0]
    half = math.acos(s / 335)
    expected = brute_force(100, half, -half, 300)
    assert np.interp(s, HEAD.radii, got[0]) == pytest.approx(expected, rel=0.025)


# ---- limits and symmetries -----------------------------------------------------------------------------------------


def test_no_matter_or_no_activity_no_scatter() -> None:
    body = disc(HEAD, 80)
    assert not scatter_estimate(body, 0 * body, HEAD, MMR).any()
    assert not scatter_estimate(0 * body, WATER * body, HEAD, MMR).any()
    assert scatter_estimate(0 * body, 0 * body, HEAD, MMR).shape == (1, *HEAD.shape)


@settings(max_examples=10)
@given(x=st.floats(-60, 60), y=st.floats(-60, 60), radius=st.floats(12, 40), scale=st.floats(0.01, 100))
def test_linear_in_activity(x: float, y: float, radius: float, scale: float) -> None:
    body, spot = disc(HEAD, 100), disc(HEAD, radius, x, y)
    alone = scatter_estimate(np.concatenate((body, spot)), WATER * np.concatenate((body, body)), HEAD, MMR)
    both = scatter_estimate(body + scale * spot, WATER * body, HEAD, MMR)[0]
    assert np.allclose(both, alone[0] + scale * alone[1], rtol=2e-3, atol=1e-3 * both.max())


def test_thin_matter_scatters_in_proportion_and_dense_matter_less_so() -> None:
    body = disc(HEAD, 100)
    total = [scatter_estimate(body, mu * body, HEAD, MMR).sum() for mu in (1e-6, 2e-6, WATER, 2 * WATER)]
    assert total[1] / total[0] == pytest.approx(2, rel=1e-3)
    assert total[3] / total[2] < 0.7  # what is scattered more is absorbed more


def test_a_quarter_turn_of_the_body_turns_the_sinogram() -> None:
    activity, mu = lopsided(HEAD)
    before = scatter_estimate(activity, mu, HEAD, MMR)[0]
    after = scatter_estimate(np.rot90(activity, axes=(1, 2)), np.rot90(mu, axes=(1, 2)), HEAD, MMR)[0]
    half = HEAD.views // 2
    expected = np.concatenate((before[half:, ::-1], before[:half]))
    assert np.abs(after - expected).max() < 1e-4 * before.max()


def test_mirrored_seam() -> None:
    beam = ParallelBeam(64, 64, 4.0)
    got = torch.from_numpy(scatter_estimate(*lopsided(beam), beam, MMR))
    assert float(mirror_seam(got)) < 1.3


def test_left_and_right_are_kept() -> None:
    """Activity and matter on the right of the array scatter to positive s in view 0."""
    body = disc(HEAD, 40, 60, 0)
    view = scatter_estimate(body, WATER * body, HEAD, MMR)[0, 0]
    assert 30 < (view * HEAD.radii).sum() / view.sum() < 90
    body = disc(HEAD, 40, 0, 60)  # anterior: positive s at phi = 90 degrees
    view = scatter_estimate(body, WATER * body, HEAD, MMR)[0, HEAD.views // 2]
    assert 30 < (view * HEAD.radii).sum() / view.sum() < 90


def test_does_not_depend_on_batch_sampling_or_beam() -> None:
    activity, mu = lopsided(HEAD)
    one = scatter_estimate(activity, mu, HEAD, MMR)[0]
    other = disc(HEAD, 120)
    pair = scatter_estimate(np.concatenate((activity, other)), np.concatenate((mu, WATER * other)), HEAD, MMR)
    assert np.allclose(one, pair[0], rtol=1e-4, atol=1e-4 * one.max())
    coarse = scatter_estimate(coarsen(activity, 64), coarsen(mu, 64), HEAD, MMR)[0]
    assert np.abs(coarse - one).max() < 1e-3 * one.max()
    fine = scatter_estimate(activity, mu, ParallelBeam(64, 192, 4 / 3), MMR)[0]
    assert np.abs(fine[::2, 1::3] - one).max() < 0.01 * one.max()  # broadening ends at slightly other edges


@given(size=st.integers(3, 150), cells=st.integers(2, PIXELS))
def test_block_means_keep_the_mean(size: int, cells: int) -> None:
    image = np.random.default_rng(size).random((2, size, size)).astype(np.float32)
    assert np.allclose(coarsen(image, cells).mean(axis=(1, 2)), image.mean(axis=(1, 2)), rtol=1e-4)


def test_a_narrower_window_lets_less_scatter_in() -> None:
    body = disc(HEAD, 100)
    narrow = replace(MMR, energy_window_kev=(470.0, 610.0))
    assert scatter_estimate(body, WATER * body, HEAD, narrow).sum() < 0.8 * (
        scatter_estimate(body, WATER * body, HEAD, MMR).sum()
    )


@pytest.mark.parametrize(
    ("activity", "mu", "beam", "says"),
    [
        ((1, 32, 32), (1, 31, 31), HEAD, "must be"),
        ((32, 32), (32, 32), HEAD, "must be"),
        ((1, 32, 30), (1, 32, 30), HEAD, "must be"),
        ((1, 32, 32), (1, 32, 32), ParallelBeam(8, 8, 90.0), "720 mm wide"),
    ],
)
def test_errors(activity: tuple[int, ...], mu: tuple[int, ...], beam: ParallelBeam, says: str) -> None:
    with pytest.raises(AllpetError, match=says) as caught:
        scatter_estimate(np.zeros(activity), np.zeros(mu), beam, MMR)
    assert "\n" not in str(caught.value)


# ---- Monte Carlo ---------------------------------------------------------------------------------------------------


def test_amounts_agree_with_monte_carlo() -> None:
    """A few photons: scatter over true to 8 %, photons around the ring to 4 %; a factor of 1.3 would not pass."""
    mc = reference()
    body = (mc.Ellipse(0, 0, 90, 110, WATER, 1.0), mc.Ellipse(40, 20, 15, 15, WATER, 8.0))
    tally = mc.simulate(body, HEAD, MMR, 400_000, np.random.default_rng(5), 60.0, 350.0)
    true, once, more = tally.wide.sum(axis=(1, 2))
    activity, mu = mc.images(body, HEAD)
    trues = (ideal_projection(activity, HEAD, 0.01) * attenuation_factors(mu, HEAD)).sum()
    assert scatter_estimate(activity, mu, HEAD, MMR).sum() / trues == pytest.approx((once + more) / true, rel=0.08)
    ours = tally.wide[0] / true
    right = (ideal_projection(activity, HEAD, 0.01) * attenuation_factors(mu, HEAD))[0] / trues
    assert mc.shape_error(right, ours) < 0.03  # the reference sees the trues where they are
    arc = 2 * math.pi * 335 / 64
    ring = 4 * math.pi * activity.sum() * (HEAD.bin_mm / 3) ** 2 / tally.decays / arc * tally.ring.sum(axis=0)
    model = singles_of(cast(activity, mu, HEAD, MMR))[0]
    assert model.mean() == pytest.approx(ring.mean(), rel=0.04)
    assert np.corrcoef(model.reshape(32, 2).mean(1), ring.reshape(32, 2).mean(1))[0, 1] > 0.8
