"""Arc correction keeps every count, turns to our axes, and leaves a disk's projection where there are gaps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam, RingBeam
from allpet.scan.arc import arc_beam, arc_correct, share_matrix
from allpet.scan.core import Scan
from allpet.scan.scanners import MMR

MMR_BEAM = MMR.beam


def ring_lines(ring: RingBeam) -> tuple[np.ndarray, np.ndarray]:
    """(phi, s) of every line in our axes, from the positions of its two crystals.

    The crystals go clockwise from the front as seen with the front up: crystal c at x = R sin, y = R cos.
    """
    psi = [2 * np.pi / ring.crystals * crystal for crystal in ring.crystal_pairs()]
    (x1, y1), (x2, y2) = (((ring.radius_mm * np.sin(a)), (ring.radius_mm * np.cos(a))) for a in psi)
    along = np.hypot(x2 - x1, y2 - y1)
    normal_x, normal_y = (y2 - y1) / along, -(x2 - x1) / along
    return np.arctan2(normal_y, normal_x), normal_x * x1 + normal_y * y1


def disk(phi: np.ndarray, s: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    """Chord of a disk along the lines (phi, s), in mm."""
    away = s - x * np.cos(phi) - y * np.sin(phi)
    return 2 * np.sqrt(np.maximum(radius**2 - away**2, 0))


def test_crystals_give_the_documented_lines() -> None:
    """The formula of RingBeam (radius, view angle, half a view for odd t), from the crystals alone."""
    phi, s = ring_lines(MMR_BEAM)
    t = np.arange(MMR_BEAM.bins) - MMR_BEAM.bins // 2
    view = np.arange(MMR_BEAM.views)[:, None] - 0.5 * (t % 2)
    expected = -view * np.pi / MMR_BEAM.views
    flip = np.cos(phi - expected)  # +1, or -1 where the normal points the other way
    assert np.allclose(np.abs(flip), 1)
    assert np.allclose(flip * s, np.broadcast_to(MMR_BEAM.radii, s.shape), atol=1e-9)


def test_default_beam_of_the_mmr() -> None:
    beam = arc_beam(MMR_BEAM)
    assert beam.views == 252 and beam.bins % 2 == 1
    assert beam.bin_mm == pytest.approx(math.pi * 335 / 504)
    outermost = 335 * math.sin(math.pi * 172.5 / 504)
    assert outermost <= beam.fov_mm / 2 < outermost + beam.bin_mm


@settings(max_examples=25)
@given(
    views=st.integers(4, 30),
    bins=st.integers(1, 30),
    target=st.integers(1, 40),
    seed=st.integers(0, 99),
    extra=st.integers(0, 5),
)
def test_counts_are_conserved(views: int, bins: int, target: int, seed: int, extra: int) -> None:
    ring = RingBeam(views, min(bins, 2 * views - 2), 300.0, block=0)
    default = arc_beam(ring)
    beam = ParallelBeam(target, default.bins + extra, default.bin_mm)
    values = torch.from_numpy(np.random.default_rng(seed).poisson(3.0, (2, *ring.shape)).astype(np.float32))
    out = arc_correct(Scan(values, ring), beam)
    assert out.geometry == beam
    assert np.allclose(np.asarray(share_matrix(ring, beam).sum(axis=0)), 1.0)
    before, after = (planes.sum(dim=(1, 2), dtype=torch.float64) for planes in (values, out.sinogram))
    assert torch.allclose(before, after, rtol=1e-6)
    assert torch.allclose(out.normalisation.sum(dtype=torch.float64), torch.tensor(2.0 * values[0].numel()).double())


@pytest.mark.parametrize("views", [252, 126])
def test_lopsided_disk_comes_out_where_it_is(views: int) -> None:
    """Gaps, interleaving and unequal bins: y / normalisation is the disk's projection in our own geometry."""
    x, y, radius = 60.0, -35.0, 70.0
    phi, s = ring_lines(MMR_BEAM)
    pairs = np.array([1.0, 40.0])[:, None, None] * MMR_BEAM.live()
    lines = torch.from_numpy((disk(phi, s, x, y, radius) * pairs).astype(np.float32))
    factor = torch.from_numpy(pairs.astype(np.float32))
    scan = Scan(lines, MMR_BEAM, normalisation=factor, attenuation=torch.full_like(factor, 0.5), background=factor * 2)
    default = arc_beam(MMR_BEAM)
    out = arc_correct(scan, ParallelBeam(views, default.bins, default.bin_mm))
    beam = out.geometry
    assert isinstance(beam, ParallelBeam)
    expected = disk(beam.angles[:, None], beam.radii, x, y, radius)
    seen = (out.normalisation[1] > 20).numpy()
    assert seen[:, 60:-60].mean() > 0.75
    for plane in range(2):
        found = (out.sinogram[plane] / out.normalisation[plane].clamp_min(1e-9)).numpy()
        error = (found - expected)[seen]
        assert np.sqrt((error**2).sum() / (expected[seen] ** 2).sum()) < 0.02
    assert torch.allclose(out.attenuation[out.normalisation > 0], torch.tensor(0.5))
    assert torch.allclose(out.background, 2 * out.normalisation, rtol=1e-5)


def test_osem_of_a_uniform_disk_shows_no_rings() -> None:
    """With the gaps as missing data the disk is flat; with gaps taken for zeros it is not."""
    from allpet.project import Projector
    from allpet.recon import osem

    ring = RingBeam(views=72, bins=101, radius_mm=335.0, block=9)
    phi, s = ring_lines(ring)
    live = torch.from_numpy(ring.live()[None].astype(np.float32))
    lines = torch.from_numpy(disk(phi, s, 30.0, 20.0, 130.0).astype(np.float32))[None] * live
    out = arc_correct(Scan(lines, ring, normalisation=live))
    beam = out.geometry
    assert isinstance(beam, ParallelBeam)
    grid = ImageGrid(64, beam.fov_mm / 64)
    A = Projector(beam, grid)
    x, y = np.meshgrid(grid.x, grid.y)
    inside = torch.from_numpy(np.hypot(x - 30, y - 20) < 100)
    flat = osem(out.sinogram[0], A, iterations=6, subsets=6, efficiency=out.efficiency[0])
    spread = flat[inside].std() / flat[inside].mean()
    assert abs(flat[inside].mean() - 1) < 0.02
    assert spread < 0.05
    blind = osem(out.sinogram[0], A, iterations=6, subsets=6)
    assert blind[inside].std() / blind[inside].mean() > 3 * spread


def test_parallel_scans_pass_through() -> None:
    beam = ParallelBeam(4, 5, 2.0)
    scan = Scan(torch.ones(1, 4, 5), beam)
    assert arc_correct(scan) is scan
    with pytest.raises(AllpetError, match="arc-corrected already"):
        arc_correct(scan, ParallelBeam(4, 7, 2.0))
