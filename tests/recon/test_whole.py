"""Whole scans: scale, factors, gaps, attenuation images, and one-line errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.project import Projector
from allpet.recon.whole import METHODS, reconstruct, resample_mumap, smooth, sum_planes
from allpet.scan import Image, Scan
from allpet.scan.core import ACTIVITY_MM

BEAM, GRID = ParallelBeam(60, 48, 4.0), ImageGrid(48, 4.0)
A = Projector(BEAM, GRID)
FACTORS = ("sinogram", "attenuation", "background", "normalisation")


def disk(radius: float, x: float = 0.0, y: float = 0.0, value: float = 1.0) -> torch.Tensor:
    across = (torch.from_numpy(GRID.x)[None, :] - x) ** 2 + (torch.from_numpy(GRID.y)[:, None] - y) ** 2
    return (across <= radius**2).float() * value


TRUTH = torch.stack([disk(60) * 2, disk(50, 10, -5) * 4, disk(40, -20, 10) * 3])
MU = torch.stack([disk(66), disk(60, 5), disk(66)]) * 0.0096


def scan_of_truth(gaps: bool = False) -> Scan:
    normalisation = torch.ones(len(TRUTH), *BEAM.shape)
    if gaps:
        v, i = torch.meshgrid(torch.arange(BEAM.views), torch.arange(BEAM.bins), indexing="ij")
        normalisation[:, (v + i) % 9 == 0] = 0
    attenuation = torch.exp(-A(MU))
    background = torch.full_like(attenuation, 0.5) * (normalisation > 0)
    counts = normalisation * attenuation * 7.0 * A(TRUTH) + background
    return Scan(counts, BEAM, attenuation=attenuation, background=background, normalisation=normalisation,
                counts_per_unit=7.0, plane_mm=2.0)  # fmt: skip


def middle(image: torch.Tensor) -> torch.Tensor:
    return torch.stack([image[0][disk(40) > 0].mean(), image[1][disk(30, 10, -5) > 0].mean(),
                        image[2][disk(20, -20, 10) > 0].mean()])  # fmt: skip


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_activity_comes_out_in_its_own_unit(method: str, gaps: bool):
    image = reconstruct(scan_of_truth(gaps), method)
    assert image.unit == "kBq/mL" and image.plane_mm == 2.0 and image.grid == GRID
    torch.testing.assert_close(middle(image.array), torch.tensor([2.0, 4.0, 3.0]), rtol=0.03, atol=0)


def test_a_mumap_does_what_the_known_attenuation_does():
    scan = scan_of_truth()
    blind = replace(scan, attenuation=None)
    known = reconstruct(scan, "osem").array
    torch.testing.assert_close(reconstruct(blind, mumap=Image(MU, GRID, "1/mm")).array, known, rtol=1e-3, atol=1e-3)
    assert middle(reconstruct(blind, "osem").array).max() < 3


def test_planes_do_not_depend_on_their_group(monkeypatch: pytest.MonkeyPatch):
    whole = reconstruct(scan_of_truth(), "osem").array
    monkeypatch.setattr("allpet.recon.whole.PLANES_AT_ONCE", 2)
    torch.testing.assert_close(reconstruct(scan_of_truth(), "osem").array, whole, rtol=1e-4, atol=1e-5)


def test_ideal_projections_and_uncalibrated_counts():
    ideal = Scan(A(TRUTH), BEAM, unit=ACTIVITY_MM)
    image = reconstruct(ideal, "fbp")
    assert image.unit == "kBq/mL"
    torch.testing.assert_close(middle(image.array), torch.tensor([2.0, 4.0, 3.0]), rtol=0.02, atol=0)
    assert reconstruct(Scan(A(TRUTH), BEAM), "osem").unit == "counts/mm"
    with pytest.raises(AllpetError, match="leave the mumap out"):
        reconstruct(ideal, mumap=Image(MU, GRID))


def test_resampling_a_mumap_keeps_position_and_value():
    fine = ImageGrid(96, 2.0)
    out = resample_mumap(Image(MU, GRID), fine, 3, 1.0)
    assert out.shape == (3, 96, 96)
    torch.testing.assert_close(out.mean((1, 2)), MU.mean((1, 2)), rtol=0.01, atol=0)
    x = torch.from_numpy(fine.x)
    assert float((out[1] * x).sum() / out[1].sum()) == pytest.approx(5, abs=0.5)
    one = resample_mumap(Image(MU[:1], GRID), GRID, 5, 1.0)
    torch.testing.assert_close(one, MU[:1].expand(5, -1, -1))
    tall = resample_mumap(Image(MU, GRID, plane_mm=4.0), GRID, 5, 2.0)
    torch.testing.assert_close(tall[::2], MU)
    torch.testing.assert_close(tall[1], (MU[0] + MU[1]) / 2)


@pytest.mark.parametrize("factor", [10.0, -1.0, 0.0])
def test_a_mumap_in_another_unit_is_refused(factor: float):
    with pytest.raises(AllpetError, match="in 1/mm at 511 keV"):
        reconstruct(scan_of_truth(), mumap=Image(MU * factor, GRID))


def test_unknown_method_and_size():
    with pytest.raises(AllpetError, match="known: fbp, mlem, osem"):
        reconstruct(scan_of_truth(), "magic")
    with pytest.raises(AllpetError, match="at least 1 pixel"):
        reconstruct(scan_of_truth(), size=0)


def test_summed_planes_show_the_mean_activity():
    scan = scan_of_truth(gaps=True)
    summed = sum_planes(scan, 3)
    assert len(summed) == 1 and summed.plane_mm == 6.0
    torch.testing.assert_close(summed.sinogram[0], scan.sinogram.sum(0))
    assert (summed.live == scan.live[:1]).all()
    same = scan.planes(slice(0, 1))
    twice = replace(same, **{name: getattr(same, name).repeat(2, 1, 1) for name in FACTORS})
    one, both = reconstruct(same, "osem"), reconstruct(twice, "osem", group=2)
    torch.testing.assert_close(both.array, one.array, rtol=1e-3, atol=1e-4)
    with pytest.raises(AllpetError, match="at least 1 plane"):
        sum_planes(scan, 0)
    with pytest.raises(AllpetError, match="leave out group or mumap"):
        reconstruct(scan, mumap=Image(MU, GRID), group=3)


def test_the_filter_has_the_width_it_says_and_keeps_the_total():
    plane = torch.zeros(1, 65, 65)
    plane[0, 32, 32] = 1
    out = smooth(plane, 6.0)[0]
    assert float(out.sum()) == pytest.approx(1, rel=1e-3)
    assert float(out[32, 35] / out[32, 32]) == pytest.approx(0.5, rel=1e-3)
    assert torch.equal(smooth(plane, 0.0), plane)
    with pytest.raises(AllpetError, match="0 or more"):
        reconstruct(scan_of_truth(), fwhm_mm=-1)
