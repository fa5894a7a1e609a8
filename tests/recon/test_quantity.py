"""Recovered activity is right to 2 % after all corrections; EM is the textbook's EM."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector
from allpet.recon import mlem, reconstruct
from recon.quantity import COUNTS, FWHM_MM, ORGANS, eroded, image_of, overshoot, recovered, scan
from tests_support import disk_image, disk_sinogram


@pytest.mark.parametrize(
    "way, source",
    [("OSEM", "closed form"), ("OSEM", "3x projector"), ("OSEM, PSF", "closed form"), ("OSEM, mumap", "closed form")],
)
def test_organs_are_recovered_to_two_percent(way: str, source: str):
    data = scan(source)
    assert float(data.sinogram.sum(dtype=torch.float64)) == pytest.approx(COUNTS, rel=1e-3)
    assert 0.1 < float((~data.live).float().mean()) < 0.2 and data.fwhm_mm == FWHM_MM
    for organ, share in recovered(image_of(way, source)).items():
        assert share == pytest.approx(1, abs=0.02), organ


@pytest.mark.parametrize("factor", ["attenuation", "background", "normalisation"])
def test_leaving_out_a_correction_shows(factor: str):
    data, good = scan(), image_of("OSEM")
    live = data.live.float()
    bare = {
        "attenuation": torch.ones_like(live),
        "background": torch.zeros_like(live),
        "normalisation": live * data.normalisation[data.live].mean(),
    }
    image = reconstruct(replace(data, **{factor: bare[factor]}), iterations=8, subsets=10)
    liver = torch.from_numpy(eroded(ORGANS[0]))
    if factor == "normalisation":  # right on average, but with rings
        assert float(image.array[0, liver].std()) > 1.2 * float(good.array[0, liver].std())
    else:
        assert not 0.95 < float(image.array[0, liver].mean() / good.array[0, liver].mean()) < 1.05


def test_resolution_sharpens_and_overshoots_at_edges():
    plain, sharp = image_of("OSEM"), image_of("OSEM, PSF")
    assert overshoot(plain) < 0.015 < 0.02 < overshoot(sharp) < 0.10


SMALL_BEAM, SMALL_GRID = ParallelBeam(24, 20, 4.0), ImageGrid(20, 4.0)


def dense_em(matrix: np.ndarray, counts: np.ndarray, efficiency: np.ndarray, background: np.ndarray, n: int):
    """Maximum likelihood by expectation maximisation as in the textbooks, float64, one dense system matrix."""
    system = efficiency.ravel()[:, None] * matrix
    live = efficiency.ravel() > 0
    image = np.ones(matrix.shape[1])
    for _ in range(n):
        ratio = counts.ravel()[live] / (system[live] @ image + background.ravel()[live])
        image = image / system[live].sum(0) * (system[live].T @ ratio)
    return image


def test_agrees_with_dense_em():
    a = Projector(SMALL_BEAM, SMALL_GRID)
    rng = np.random.default_rng(0)
    inside = (SMALL_GRID.x[None] ** 2 + SMALL_GRID.y[:, None] ** 2 <= 40**2).ravel()
    basis = torch.eye(400, dtype=torch.float64).reshape(400, 20, 20)
    matrix = a(basis).reshape(400, -1).numpy().T[:, inside]
    efficiency = rng.uniform(0.2, 1, SMALL_BEAM.shape) * (rng.random(SMALL_BEAM.shape) > 0.1)
    background = rng.uniform(1, 3, SMALL_BEAM.shape)
    truth = disk_image(SMALL_GRID, 25, 5, -4) * 5
    counts = rng.poisson(efficiency * a(truth).numpy() + background).astype(float)
    theirs = np.zeros(400)
    theirs[inside] = dense_em(matrix, counts, efficiency, background, 60)
    y, eff, add = (torch.from_numpy(values).float() for values in (counts, efficiency, background))
    ours = mlem(y, a, 60, eff, add)
    assert float(np.abs(ours.numpy().ravel() - theirs).max()) < 1e-4 * theirs.max()


def test_agrees_with_em_on_the_system_matrix_of_astra():
    astra = pytest.importorskip("astra", reason="astra-toolbox is not installed")
    beam, grid = ParallelBeam(48, 36, 4.0), ImageGrid(36, 4.0)
    volume = astra.create_vol_geom(36, 36)
    projector = astra.create_projector("strip", astra.create_proj_geom("parallel", 1.0, 36, -beam.angles), volume)
    handle = astra.projector.matrix(projector)
    matrix = astra.matrix.get(handle).toarray() * 4.0
    astra.matrix.delete(handle)
    flip = np.arange(36 * 36).reshape(36, 36)[::-1].ravel()  # their rows run upwards, as in the test of the projector
    inside = (grid.x[None] ** 2 + grid.y[:, None] ** 2 <= 72**2).ravel()
    data = (disk_sinogram(beam, 50, 6, -9) + 2 * disk_sinogram(beam, 20, 20, 20)).numpy()
    theirs = np.zeros(36 * 36)
    theirs[inside] = dense_em(matrix[:, flip][:, inside], data, np.ones(beam.shape), np.zeros(beam.shape), 20)
    ours = mlem(torch.from_numpy(data), Projector(beam, grid), 20).numpy().ravel()
    # The matrices differ, and iterations amplify that: 0.4 % after 10, 0.8 % after 20, 1.3 % after 40.
    assert np.linalg.norm(ours - theirs) < 0.01 * np.linalg.norm(theirs)
