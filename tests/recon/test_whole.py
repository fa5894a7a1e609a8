"""Whole scans: scale, factors, gaps, attenuation images, and one-line errors."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam, RingBeam
from allpet.io import read, write
from allpet.project import Projector
from allpet.recon.whole import METHODS, missing_factors, reconstruct, resample_mumap, smooth, sum_planes
from allpet.scan import Image, Scan
from allpet.scan.corrected import mark_corrected
from allpet.scan.units import ACTIVITY_MM

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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "fbp"},
        {"psf": 6.0},
        {"beta": 1.0},
        {"method": "mlem", "beta": 1.0},
        {"beta": 1.0, "across": True},
    ],
)
def test_planes_do_not_depend_on_their_group(options: dict, monkeypatch: pytest.MonkeyPatch):
    scan = replace(scan_of_truth(gaps=True), attenuation=None)
    mumap = Image(MU, GRID, "1/mm", 2.0)
    whole = reconstruct(scan, mumap=mumap, fwhm_mm=5.0, **options).array
    monkeypatch.setattr("allpet.recon.whole.PLANES_AT_ONCE", 2)
    parts = reconstruct(scan, mumap=mumap, fwhm_mm=5.0, **options).array
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


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


def test_a_mumap_reaches_to_the_ends_of_its_planes():
    slab = Image(torch.full((64, 8, 8), 0.0096), ImageGrid(8, 8.0), plane_mm=4.0)
    out = resample_mumap(slab, slab.grid, 128, 2.0)  # both 256 mm high
    torch.testing.assert_close(out, torch.full((128, 8, 8), 0.0096))
    higher = resample_mumap(slab, slab.grid, 132, 2.0)[:, 4, 4]
    assert higher[:2].eq(0).all() and higher[-2:].eq(0).all() and higher[2:-2].gt(0.009).all()
    rounded = Image(torch.full((5, 8, 8), 0.0096), slab.grid, plane_mm=3.3)
    assert resample_mumap(rounded, slab.grid, 13, 1.1).min() > 0.009  # the outer centres coincide but for rounding


@pytest.mark.parametrize("factor", [10.0, -1.0, 0.0])
def test_a_mumap_in_another_unit_is_refused(factor: float):
    with pytest.raises(AllpetError, match="in 1/mm at 511 keV"):
        reconstruct(scan_of_truth(), mumap=Image(MU * factor, GRID))


@pytest.mark.parametrize("unit, low", [("HU", 0.0), ("1/mm", -1000.0)])
def test_a_ct_is_sent_to_be_converted(unit: str, low: float):
    ct = Image(torch.full((1, 48, 48), 40.0), GRID, unit)
    ct.array[0, 0, 0] = low
    with pytest.raises(AllpetError, match=r"CT in HU .*allpet convert CT MU --to-mu"):
        reconstruct(scan_of_truth(), mumap=ct)


def test_resolution_is_the_scans_own_or_a_number():
    scan = replace(scan_of_truth(), fwhm_mm=7.0)
    own = reconstruct(scan, psf=True).array
    assert torch.equal(own, reconstruct(scan, psf=7.0).array)
    assert not torch.equal(own, reconstruct(scan).array)
    assert torch.equal(reconstruct(scan).array, reconstruct(scan_of_truth(), psf=0.0).array)
    torch.testing.assert_close(middle(reconstruct(scan, psf=7).array), torch.tensor([2.0, 4.0, 3.0]), rtol=0.05, atol=0)
    with pytest.raises(AllpetError, match="does not say its resolution"):
        reconstruct(scan_of_truth(), psf=True)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "fbp", "psf": 5.0}, "fbp does not model the resolution"),
        ({"method": "fbp", "beta": 1.0}, "fbp has no prior"),
        ({"psf": -1.0}, "resolution is -1"),
        ({"psf": math.nan}, "resolution is nan"),
        ({"beta": -1.0}, "beta of the prior is -1"),
        ({"across": True}, "give a beta above 0"),
        ({"iterations": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_be(options: dict, message: str):
    with pytest.raises(AllpetError, match=message):
        reconstruct(scan_of_truth(), **options)


def test_randoms_then_delayeds_stand_in_for_a_background():
    scan = scan_of_truth()
    known = reconstruct(scan).array
    alone = replace(scan, background=None, randoms=scan.background)
    assert torch.equal(reconstruct(alone).array, known)
    more = replace(alone, delayeds=10 * scan.background)
    assert torch.equal(reconstruct(more).array, known)
    delayed = torch.poisson(scan.background, generator=torch.Generator().manual_seed(0))
    late = reconstruct(replace(scan, background=None, delayeds=delayed))
    torch.testing.assert_close(middle(late.array), middle(known), rtol=0.01, atol=0)
    none = reconstruct(replace(scan, background=None))
    assert (middle(none.array) > middle(known)).all()
    both = replace(scan, randoms=scan.background / 2)
    assert torch.equal(reconstruct(both, group=3).array, reconstruct(scan, group=3).array)


def test_a_ring_scan_with_randoms_is_reconstructed():
    ring = RingBeam(36, 47, 335.0, 9)
    counts = torch.full((3, *ring.shape), 20.0) * torch.from_numpy(ring.live())
    scan = Scan(counts, ring, randoms=counts / 2, delayeds=counts / 2)
    image = reconstruct(scan, iterations=2)
    torch.testing.assert_close(image.array, reconstruct(replace(scan, randoms=None), iterations=2).array,
                               rtol=0.05, atol=0.02)  # fmt: skip
    assert image.array.shape[0] == 3 and float(image.array.mean()) > 0


def test_counts_per_unit_alone_sets_the_scale():
    scan = scan_of_truth()
    image = reconstruct(scan, beta=0.5).array
    half = replace(scan, counts_per_unit=3.5, duration_s=600.0)
    torch.testing.assert_close(reconstruct(half, beta=0.5).array, 2 * image, rtol=1e-4, atol=1e-4)
    longer = replace(scan, sinogram=2 * scan.sinogram, background=2 * scan.background, counts_per_unit=14.0)
    torch.testing.assert_close(reconstruct(longer, beta=0.5).array, image, rtol=1e-3, atol=1e-3)
    plain = reconstruct(replace(scan, counts_per_unit=None), beta=0.5)
    torch.testing.assert_close(plain.array, 7 * image, rtol=1e-4, atol=1e-3)
    assert plain.unit == "counts/mm"


def test_what_is_known_of_the_acquisition_goes_to_the_image():
    known = dict(tracer="FDG", isotope="18F", region="chest", scanner="Siemens mMR", injected_mbq=300.0, weight_kg=70.0,
                 height_m=1.75, sex="F", start_s=3600.0, duration_s=300.0, decay_reference="start", dose_fraction=0.5,
                 header={"a": "b"})  # fmt: skip
    for group in (1, 3):
        image = reconstruct(replace(scan_of_truth(), **known), iterations=1, group=group)
        place = {"nifti centre (mm)": "0.0, 0.0, -2.0", "first pixel offset (mm) [3]": "2.0"} if group > 1 else {}
        done = {"corrected for": "attenuation, background"}
        assert image.acquired() == known | {"header": known["header"] | place | done}


def test_the_prior_quietens_noise_and_keeps_the_mean():
    scan = scan_of_truth()
    noisy = replace(scan, sinogram=torch.poisson(scan.sinogram / 10, generator=torch.Generator().manual_seed(0)),
                    background=scan.background / 10, counts_per_unit=0.7)  # fmt: skip
    core = disk(35) > 0
    free, held = reconstruct(noisy).array[0][core], reconstruct(noisy, beta=3.0).array[0][core]
    assert float(held.std()) < 0.6 * float(free.std())
    assert float(held.mean()) == pytest.approx(float(free.mean()), rel=0.03)
    tied = reconstruct(noisy, beta=3.0, across=True)
    assert tied.array.shape == TRUTH.shape


MEASURE = """
import resource, torch
import scipy.ndimage, scipy.sparse, rich.progress
from allpet.geometry import ImageGrid, ParallelBeam, RingBeam
from allpet.recon import reconstruct
from allpet.scan import Image, Scan
torch.set_num_threads(1)
planes = torch.ones(127, 252, 344)
scan = Scan(planes, ParallelBeam(252, 344, 2.03), normalisation=torch.ones_like(planes),
            background=torch.full_like(planes, 0.2), counts_per_unit=3.0)
mumap = Image(torch.full((1, 64, 64), 0.005), ImageGrid(64, 10.0), "1/mm")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = reconstruct(scan, size=128, iterations=1, mumap=mumap)
assert image.array.shape == (127, 128, 128)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_a_whole_scan_in_bounded_memory():
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 300  # MiB; one sinogram array of this scan is 42


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
    # the middle of three planes at z = 0, -2 and -4 mm
    assert [float(x) for x in summed.header["nifti centre (mm)"].split(",")] == [0.0, 0.0, -2.0]
    same = scan.planes(slice(0, 1))
    twice = replace(same, **{name: getattr(same, name).repeat(2, 1, 1) for name in FACTORS})
    one, both = reconstruct(same, "osem"), reconstruct(twice, "osem", group=2)
    torch.testing.assert_close(both.array, one.array, rtol=1e-3, atol=1e-4)
    with pytest.raises(AllpetError, match="at least 1 plane"):
        sum_planes(scan, 0)
    with pytest.raises(AllpetError, match="leave out group or mumap"):
        reconstruct(scan, mumap=Image(MU, GRID), group=3)
    with pytest.raises(AllpetError, match="the scan has 3 planes"):
        reconstruct(scan, group=4)


def test_a_grouped_image_lies_where_its_planes_did_in_both_formats(tmp_path: Path):
    image = reconstruct(scan_of_truth(), iterations=1, group=3)
    write(image, tmp_path / "x.hv")
    write(image, tmp_path / "x.nii.gz")
    assert "first pixel offset (mm) [3] := 2.0" in (tmp_path / "x.hv").read_text()
    assert nibabel.load(tmp_path / "x.nii.gz").affine[2, 3] == -2.0
    assert read(tmp_path / "x.hv").header["first pixel offset (mm) [3]"] == "2.0"


def test_what_measured_counts_come_without_is_said():
    scan = scan_of_truth()
    assert missing_factors(scan) == []
    bare = replace(scan, attenuation=None, background=None)
    assert [line.split(":")[0] for line in missing_factors(bare)] == [
        "the scan states no attenuation",
        "the scan states no scatter, and none is taken off",
    ]
    assert len(missing_factors(bare, Image(MU, GRID))) == 1
    assert missing_factors(mark_corrected(bare, "attenuation", "background")) == []
    assert len(missing_factors(mark_corrected(bare, "scatter"))) == 1
    with pytest.raises(AllpetError, match="corrected for attenuation already"):
        reconstruct(mark_corrected(bare, "attenuation"), mumap=Image(MU, GRID))
    assert missing_factors(Scan(A(TRUTH), BEAM, unit=ACTIVITY_MM)) == []


def test_the_filter_has_the_width_it_says_and_keeps_the_total():
    plane = torch.zeros(1, 65, 65)
    plane[0, 32, 32] = 1
    out = smooth(plane, 6.0)[0]
    assert float(out.sum()) == pytest.approx(1, rel=1e-3)
    assert float(out[32, 35] / out[32, 32]) == pytest.approx(0.5, rel=1e-3)
    assert torch.equal(smooth(plane, 0.0), plane)
    with pytest.raises(AllpetError, match="0 or more"):
        reconstruct(scan_of_truth(), fwhm_mm=-1)


def test_a_scale_for_each_plane():
    """Planes counted for different times come out alike; summed planes keep the amount."""
    scan = scan_of_truth()
    factor = torch.arange(1.0, len(scan) + 1)[:, None, None]
    planes = replace(
        scan,
        sinogram=scan.sinogram * factor,
        background=scan.background * factor,
        counts_per_unit=7.0 * factor.flatten(),
    )
    torch.testing.assert_close(reconstruct(planes).array, reconstruct(scan).array, rtol=1e-4, atol=1e-3)
    means, weights = reconstruct(scan).array.mean(dim=(1, 2)), factor.flatten()
    both = float(reconstruct(planes, group=len(scan)).array.mean())
    assert both == pytest.approx(float((means * weights).sum() / weights.sum()), rel=0.02)
    with pytest.raises(AllpetError, match="one for each"):
        replace(scan, counts_per_unit=torch.ones(len(scan) + 1))
