"""Consistency scores: near zero for sinograms of known objects, high for what is no sinogram."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.geometry import ParallelBeam
from allpet.metrics import mirror_seam, moment_residual, moment_shares, moments, pseudo_inverse, range_residual

BEAM = ParallelBeam(96, 96, 2.5)


def ellipse(
    beam: ParallelBeam, x: float, y: float, a: float, b: float, turn: float, value: float = 1.0
) -> torch.Tensor:
    """Exact bin averages of the transform of an ellipse (centre, half axes in mm, turn in radians)."""
    phi = beam.angles[:, None]
    centre = x * np.cos(phi) + y * np.sin(phi)
    width = np.sqrt((a * np.cos(phi - turn)) ** 2 + (b * np.sin(phi - turn)) ** 2)

    def antiderivative(s: np.ndarray) -> np.ndarray:
        t = np.clip((s - centre) / width, -1, 1)
        return a * b * (t * np.sqrt(1 - t * t) + np.arcsin(t))

    lower, upper = beam.radii - beam.bin_mm / 2, beam.radii + beam.bin_mm / 2
    return torch.from_numpy((antiderivative(upper) - antiderivative(lower)) / beam.bin_mm)


coordinate = st.floats(-30, 30)
half_axis = st.floats(15, 60)


@settings(max_examples=30)
@given(coordinate, coordinate, half_axis, half_axis, st.floats(0, np.pi))
def test_an_ellipse_is_consistent(x: float, y: float, a: float, b: float, turn: float):
    s = ellipse(BEAM, x, y, a, b, turn)
    assert moment_residual(s, BEAM, aggregate="pooled") < 1e-7
    assert moment_residual(s, BEAM) < 1e-4 or np.hypot(x, y) < 2  # odd moments of a centred object are rounding


def test_a_centred_disk_has_no_odd_moments_and_passes():
    assert moment_shares(ellipse(BEAM, 0, 0, 40, 40, 0.0), BEAM).max() < 1e-6


def test_seam_sees_a_broken_end_and_only_that():
    s = ellipse(BEAM, 25, -10, 50, 30, 0.4)
    assert mirror_seam(s) < 1.5
    assert mirror_seam(s[: BEAM.views // 2]) > 5
    assert mirror_seam(torch.cat([s[1:], s[:1].flip(-1)])) == pytest.approx(float(mirror_seam(s)), rel=0.3)
    assert mirror_seam(3 * s) == pytest.approx(float(mirror_seam(s)))


def test_moments_know_total_and_centre():
    x, y = 20.0, -35.0
    m = moments(ellipse(BEAM, x, y, 30, 30, 0.0), BEAM)
    assert m.shape == (5, 2 * BEAM.views)
    total = np.pi * 30 * 30
    np.testing.assert_allclose(m[0] * BEAM.bin_mm, total, rtol=1e-6)
    phi = np.concatenate([BEAM.angles, BEAM.angles + np.pi])
    centre = (x * np.cos(phi) + y * np.sin(phi)) * 2 / BEAM.fov_mm
    np.testing.assert_allclose(m[1] / m[0], centre, atol=1e-4)


def test_noise_and_weighted_sinograms_are_inconsistent():
    s = ellipse(BEAM, 10, 5, 80, 60, 0.3)
    noise = torch.rand(BEAM.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = ellipse(BEAM, 30, 20, 20, 10, 0.8)
    masked = s * weight / weight.max()
    batch = torch.stack([s, noise, masked])
    scores = moment_residual(batch, BEAM)
    assert scores.shape == (3,)
    assert scores[0] < 1e-5 and scores[1] > 0.2 and scores[2] > 0.002
    by_amplitude = moment_residual(batch, BEAM, aggregate="amplitude")
    assert by_amplitude[0] < 1e-3 and (by_amplitude[1:] > 0.04).all()


def test_range_residual_is_small_in_the_range_and_large_outside():
    from allpet.geometry import ImageGrid
    from allpet.project import Projector

    beam, grid = ParallelBeam(48, 48, 4.0), ImageGrid(48, 4.0)
    A = Projector(beam, grid)
    image = torch.zeros(2, *grid.shape, dtype=torch.float64)
    image[0, 12:30, 15:40] = 1.0
    image[1, 20:24, 20:30] = 5.0
    s = A(image)
    noise = torch.rand(1, *beam.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batch = torch.cat([s, noise, torch.zeros_like(noise)])
    scores = range_residual(batch, A)
    assert (scores[:2] < 0.01).all() and scores[2] > 0.2 and scores[3] == 0
    alone = torch.stack([range_residual(one[None], A)[0] for one in batch])
    torch.testing.assert_close(scores, alone, rtol=0.05, atol=1e-9)


def test_pseudo_inverse_follows_lsqr():
    from scipy.sparse.linalg import LinearOperator, lsqr

    from allpet.geometry import ImageGrid
    from allpet.project import Projector

    beam, grid = ParallelBeam(20, 16, 4.0), ImageGrid(16, 4.0)
    A = Projector(beam, grid)

    def forward(x: np.ndarray) -> np.ndarray:
        return A(torch.from_numpy(x.reshape(grid.shape))).numpy().ravel()

    def back(y: np.ndarray) -> np.ndarray:
        return A.adjoint(torch.from_numpy(y.reshape(beam.shape))).numpy().ravel()

    operator = LinearOperator((320, 256), matvec=forward, rmatvec=back, dtype=np.float64)
    s = torch.rand(beam.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    theirs = lsqr(operator, s.numpy().ravel(), atol=0, btol=0, conlim=0, iter_lim=6)[0]
    np.testing.assert_allclose(pseudo_inverse(s, A, 6).numpy().ravel(), theirs, rtol=1e-6, atol=1e-9)
