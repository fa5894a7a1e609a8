"""The projector against the analytic disk, its transpose, its gradients and its symmetry."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector
from tests_support import disk_image, disk_sinogram


@pytest.mark.parametrize(("size", "pixel_mm", "share"), [(128, 4.0, 1.0), (256, 2.0, 0.5)])
@pytest.mark.parametrize(("radius", "limit"), [(150, 0.005), (70, 0.010), (40, 0.016)])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (31.3, -17.7)])
def test_disk_matches_the_analytic_transform(size, pixel_mm, share, radius, limit, centre):
    beam, grid = ParallelBeam(180, 128, 4.0), ImageGrid(size, pixel_mm)
    expected = disk_sinogram(beam, radius, *centre)
    found = Projector(beam, grid)(disk_image(grid, radius, *centre, fine=16 if size == 128 else 8))
    assert float((found - expected).norm() / expected.norm()) <= limit * share


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@settings(max_examples=15)
@given(
    views=st.integers(1, 40),
    bins=st.integers(1, 50),
    size=st.integers(1, 40),
    bin_mm=st.floats(0.5, 9),
    pixel_mm=st.floats(0.5, 9),
    seed=st.integers(0, 99),
)
def test_adjoint_is_the_exact_transpose(dtype, limit, views, bins, size, bin_mm, pixel_mm, seed):
    rng = torch.Generator().manual_seed(seed)
    a = Projector(ParallelBeam(views, bins, bin_mm), ImageGrid(size, pixel_mm))
    x = torch.rand(3, size, size, generator=rng, dtype=dtype)
    y = torch.rand(3, views, bins, generator=rng, dtype=dtype)
    left, right = float((a(x).double() * y.double()).sum()), float((x.double() * a.adjoint(y).double()).sum())
    assert left == pytest.approx(right, rel=limit, abs=1e-12)


def test_gradients_first_and_second_order():
    a = Projector(ParallelBeam(5, 6, 3.0), ImageGrid(6, 3.0))
    x = torch.rand(2, 6, 6, dtype=torch.float64, requires_grad=True)
    y = torch.rand(2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(a, x)
    assert torch.autograd.gradcheck(a.adjoint, y)
    assert torch.autograd.gradgradcheck(lambda t: a(t) ** 2, x)


@settings(max_examples=40)
@given(
    views=st.integers(1, 20),
    half=st.integers(1, 30),
    size=st.integers(2, 40),
    n=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_turning_by_180_degrees_mirrors_to_the_bit(views, half, size, n, seed):
    rng = torch.Generator().manual_seed(seed)
    a = Projector(ParallelBeam(views, 2 * half, 2.0), ImageGrid(size, 2.3))
    x = torch.rand(n, size, size, generator=rng)
    assert torch.equal(a(x.flip(-1, -2)), a(x).flip(-1))
    y = torch.rand(n, views, 2 * half, generator=rng)
    assert torch.equal(a.adjoint(y.flip(-1)), a.adjoint(y).flip(-1, -2))


def test_quarter_turn_and_sides():
    a = Projector(ParallelBeam(64, 64, 2.0), ImageGrid(64, 2.0))
    x = torch.zeros(64, 64)
    x[10:14, 40:44] = 1  # anterior (y > 0), right of the centre (x > 0)
    s = a(x)
    bins = torch.arange(64.0) - 31.5
    assert float((s[0] * bins).sum() / s[0].sum()) == pytest.approx((41.5 - 31.5), abs=0.05)  # phi = 0: s = x
    assert float((s[32] * bins).sum() / s[32].sum()) == pytest.approx(31.5 - 11.5, abs=0.05)  # phi = pi/2: s = y
    turned = torch.cat([s[32:].flip(-1), s[:32]])
    assert torch.allclose(a(torch.rot90(x, 1, (0, 1))), turned, atol=1e-4)


def test_subsets_are_the_views_of_the_whole():
    beam, grid = ParallelBeam(12, 16, 3.0), ImageGrid(16, 3.0)
    x = torch.rand(2, 16, 16)
    whole = Projector(beam, grid)(x)
    for k in range(5):
        part = Projector(beam, grid, (k, 5))
        assert torch.equal(part(x), whole[:, k::5])
        y = torch.rand(2, *part.shape)
        spread = torch.zeros_like(whole)
        spread[:, k::5] = y
        assert torch.allclose(part.adjoint(y), Projector(beam, grid).adjoint(spread), rtol=1e-5, atol=1e-5)


def test_autocast_and_half_precision_are_safe():
    a = Projector(ParallelBeam(8, 8, 1.0), ImageGrid(8, 1.0))
    x = torch.rand(2, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(a(x), a(x.clone()))
        assert a(x.bfloat16()).dtype == torch.float32


def test_attenuation_is_between_0_and_1():
    a = Projector(ParallelBeam(16, 32, 4.0), ImageGrid(32, 4.0))
    mu = torch.full((32, 32), 0.0096)
    factor = a.attenuation(mu)
    assert float(factor.min()) > 0 and float(factor.max()) <= 1
    assert float(factor[0, 16]) == pytest.approx(float(np.exp(-0.0096 * 128)), rel=1e-4)


def test_wrong_shape_is_one_clear_line():
    a = Projector(ParallelBeam(8, 8, 1.0), ImageGrid(8, 1.0))
    with pytest.raises(AllpetError, match=r"image has shape \(8, 9\).*\(8, 8\)"):
        a(torch.zeros(8, 9))


def test_agrees_with_astra():
    astra = pytest.importorskip("astra", reason="astra-toolbox is not installed")
    beam, grid = ParallelBeam(90, 96, 3.0), ImageGrid(96, 3.0)
    x = disk_image(grid, 80, 20, -13) + 2 * disk_image(grid, 25, -40, 31)
    volume = astra.create_vol_geom(96, 96)
    lines = astra.create_proj_geom("parallel", 1.0, 96, -beam.angles)
    projector = astra.create_projector("linear", lines, volume)
    number, theirs = astra.create_sino(np.flipud(x.numpy()).astype(np.float32), projector)
    astra.data2d.delete(number)
    ours = Projector(beam, grid)(x)
    theirs = torch.from_numpy(theirs.copy()) * 3.0
    assert float((ours - theirs).norm() / ours.norm()) < 0.01
