"""Resolution: an exact adjoint, the variance it says, the same as a blur of the image, and edges that come back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector
from allpet.recon import osem
from allpet.recon.psf import BlurredProjector, gaussian_taps, operator, radial_blur
from tests_support import disk_image, disk_sinogram

BEAM, GRID = ParallelBeam(60, 64, 3.0), ImageGrid(64, 3.0)
PER_SIGMA = math.sqrt(8 * math.log(2))


@settings(max_examples=15)
@given(fwhm=st.floats(0.1, 30), subset=st.sampled_from([(0, 1), (1, 3), (4, 7)]), seed=st.integers(0, 99))
def test_the_adjoint_is_exact(fwhm: float, subset: tuple[int, int], seed: int):
    a = BlurredProjector(BEAM, GRID, fwhm, subset)
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 64, 64, generator=generator, dtype=torch.float64)
    y = torch.rand(2, *a.shape, generator=generator, dtype=torch.float64)
    assert float((a(x) * y).sum()) == pytest.approx(float((x * a.adjoint(y)).sum()), rel=1e-12)


def test_the_adjoint_is_the_backward_pass():
    a = BlurredProjector(BEAM, GRID, 7.0)
    x = torch.rand(64, 64, dtype=torch.float64, requires_grad=True)
    y = torch.rand(a.shape, dtype=torch.float64)
    (a(x) * y).sum().backward()
    torch.testing.assert_close(x.grad, a.adjoint(y))


@given(sigma=st.floats(1e-3, 8))
def test_taps_are_a_density_with_the_variance_asked_for(sigma: float):
    taps = gaussian_taps(sigma)
    at = np.arange(len(taps)) - len(taps) // 2
    assert (taps >= 0).all() and taps.sum() == pytest.approx(1) and np.array_equal(taps, taps[::-1])
    tolerance = 0.16 if 0.5 <= sigma < 0.65 else 0.03  # where samples of a narrow Gaussian begin to miss it
    assert (taps * at**2).sum() == pytest.approx(sigma**2, rel=tolerance)
    assert torch.equal(radial_blur(9, sigma), radial_blur(9, sigma).T)


def test_it_is_the_blur_of_the_image():
    image = disk_image(GRID, 40, 10, -12) + disk_image(GRID, 12, -50, 30)
    sigma = 9.0 / PER_SIGMA / GRID.pixel_mm
    other = Projector(BEAM, GRID)(torch.from_numpy(gaussian_filter(image.numpy(), sigma)))
    mine = BlurredProjector(BEAM, GRID, 9.0)(image)
    assert float((mine - other).norm() / other.norm()) < 2e-3


def test_edges_come_back_and_flat_parts_stay():
    fwhm = 9.0
    fine = ParallelBeam(BEAM.views, BEAM.bins * 9, BEAM.bin_mm / 9)
    blurred = gaussian_filter(disk_sinogram(fine, 50, 5, 5).numpy(), (0, fwhm / PER_SIGMA / fine.bin_mm))
    data = torch.from_numpy(blurred.reshape(BEAM.views, BEAM.bins, 9).mean(-1)).float()
    truth = disk_image(GRID, 50, 5, 5).float()
    a = Projector(BEAM, GRID)
    plain, sharp = osem(data, a, 20, 6), osem(data, a, 20, 6, psf_mm=fwhm)
    error = [float((image - truth).norm() / truth.norm()) for image in (plain, sharp)]
    assert error[1] < 0.75 * error[0]
    core = disk_image(GRID, 38, 5, 5) == 1
    assert float(sharp[core].mean()) == pytest.approx(1, abs=0.01)
    assert float(sharp.sum() / truth.sum()) == pytest.approx(1, abs=0.003)
    assert (
        1.02 < float(sharp.max()) < 1.25 and float(plain.max()) < 1.03
    )  # the overshoot at the edge, known and bounded


def test_no_width_is_the_plain_projector_and_a_bad_one_is_refused():
    assert isinstance(operator(BEAM, GRID), Projector)
    for width in (-1.0, float("nan"), float("inf")):
        with pytest.raises(AllpetError, match="must be 0 or more"):
            operator(BEAM, GRID, width)
