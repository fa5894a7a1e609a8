"""Numbers that audits found wrong once: segments, decay, doses, dead planes, unmodelled counts, few counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.model import AllPET
from allpet.project import Projector, least_squares
from allpet.recon import osem
from allpet.recon.mumap import resample_mumap
from allpet.recon.whole import missing_factors, reconstruct, sum_planes
from allpet.scan.core import Image, Scan
from allpet.scan.corrected import CORRECTED, corrected_for, mark_corrected
from allpet.scan.kinetics import ISOTOPES
from allpet.scan.randoms import with_randoms
from allpet.scan.simulate import simulate
from allpet.scan.suv import to_suv
from allpet.task.neighbours import restored_together
from allpet.task.planes import calibration_for, working_beam
from allpet.task.put_back import put_back
from allpet.task.seen import Counts, cut_off
from allpet.uncertainty import FITTED, few_draws
from model_support import tiny

BEAM = ParallelBeam(32, 32, 8.0)
SEGMENTS = {
    "planes per segment": "{ 2,1,1 }",
    "minimum ring difference per segment": "{ 0,1,-1 }",
    "maximum ring difference per segment": "{ 0,1,-1 }",
    "number of rings": "2",
}


def disc(radius_mm: float = 60.0, beam: ParallelBeam = BEAM) -> torch.Tensor:
    grid = beam.image_grid()
    inside = np.hypot(grid.x[None, :], grid.y[:, None]) < radius_mm
    return torch.from_numpy(inside.astype(np.float32))[None]


def lines(n: int = 1, beam: ParallelBeam = BEAM) -> torch.Tensor:
    return Projector(beam, beam.image_grid())(disc(beam=beam)).expand(n, -1, -1).clone()


def test_a_ct_is_not_laid_over_segments():
    scan = Scan(torch.poisson(lines(4)), BEAM, header=SEGMENTS, neighbours=False)
    ct = Image(torch.zeros(3, 32, 32), ImageGrid(32, 8.0), "1/mm")
    with pytest.raises(AllpetError, match="--rebin"):
        tiny().apply("attenuation", scan, ct=ct, samples=0)


def test_activity_of_another_isotope_is_told_at_the_frames_start():
    scan = Scan(lines(), BEAM, counts_per_unit=2.0, start_s=3600.0, decay_reference="injection")
    told = calibration_for(scan, "PSMA", "FDG")
    branching = 0.967 / 0.889
    assert told["decay_reference"] == "start"
    own = float(ISOTOPES["68Ga"].decay(3600.0))
    assert told["counts_per_unit"] == pytest.approx(2.0 / own * branching, rel=0.02)
    assert calibration_for(scan, "PSMA", "PSMA") == dict(counts_per_unit=2.0, decay_reference="injection")
    assert calibration_for(replace(scan, start_s=None), "PSMA", "FDG") == dict(counts_per_unit=None)


def test_both_separated_tracers_say_that_their_background_is_gone():
    data = simulate(1, task="separate", tracer="FDG + PSMA", region="abdomen", views=32, bins=32, slices_per_subject=1)
    result = tiny().apply("separate", data.scan(), samples=0)
    second = result.extras["-second"]
    assert corrected_for(result.expected) == corrected_for(second) == {"background"}


def test_randoms_that_are_taken_off_stay_off():
    scan = Scan(lines(), BEAM, delayeds=torch.ones(1, 32, 32))
    assert with_randoms(scan).background is not None
    done = with_randoms(replace(scan, header={"applied corrections": "{arc correction, Randoms correction, scatter}"}))
    assert done.background is None and done.delayeds is None
    assert corrected_for(done) == {"randoms", "scatter"}


@pytest.mark.parametrize("thinning", ["time", "activity"])
def test_randoms_of_less_activity_are_brought_to_full_dose_by_its_square(thinning: str):
    known = dict(region="chest", views=64, bins=64, counts=4e5, slices_per_subject=1, seed=4)
    data = simulate(1, task="low-dose", dose_fraction=0.1, thinning=thinning, scanner="mMR", **known)  # type: ignore[arg-type]
    scan = data.scan()
    assert ("thinning" in scan.header) is (thinning == "activity")
    model = tiny(64)
    full = model.apply("low-dose", scan, samples=0).expected.background
    np.testing.assert_allclose(full.numpy(), data.background, rtol=1e-4)


def test_images_of_low_dose_are_those_of_the_full_dose():
    scan = Scan(torch.poisson(lines() / 8), BEAM, dose_fraction=0.25)
    result = tiny().apply("low-dose", scan, samples=0, images=True)
    image = result.extras["-image"]
    assert image.dose_fraction == 1.0
    again = tiny().apply("low-dose", replace(scan, dose_fraction=1.0), samples=0, images=True).extras["-image"]
    torch.testing.assert_close(image.array, 4 * again.array)


def test_a_dead_plane_takes_and_gives_nothing():
    model = AllPET.from_pretrained()
    beam = ParallelBeam(128, 128, 4.0)
    mean = lines(7, beam) / 8
    counts = torch.poisson(mean, torch.Generator().manual_seed(0))
    live = torch.ones_like(counts)
    counts[3], live[3] = 0, 0
    restorer = model.need("restorer")

    def restored(some: list[int]) -> torch.Tensor:
        seen = Counts(counts[some], live[some], 0 * live[some], torch.full((len(some),), 4.0))
        return restored_together(restorer, [(seen, torch.floor(counts[some] / 2), 1.0)])

    whole = restored(list(range(7)))
    assert not whole[3].any()
    others = [0, 1, 2, 4, 5, 6]
    torch.testing.assert_close(whole[others], restored(others))
    image = osem(counts[3], Projector(beam, beam.image_grid()), 1, 8, live[3])
    assert not image.any()


def test_noise_of_counts_that_nobody_models_is_not_put_back():
    rng = torch.Generator().manual_seed(0)
    beam = ParallelBeam(96, 96, 6.0)
    trues = lines(1, beam)
    trues = trues * (1e5 / trues.sum())
    live = torch.ones_like(trues, dtype=torch.bool)
    for share in (0.0, 0.015, 0.02, 0.03):
        counts = torch.poisson(trues + share * trues.mean(), rng)
        body = trues > 0.2 * trues.max()
        off = (put_back(counts, trues, live) - trues)[body]
        assert float(off.norm() / trues[body].norm()) < 0.03, share
    missing = trues.clone()
    missing[:, 20:70, 40:50] *= 0.5  # what an estimate really lacks comes back
    back = put_back(torch.poisson(trues * 20, rng), missing * 20, live)
    assert float((back / 20 - trues).norm()) < 0.5 * float((missing - trues).norm())


def test_the_working_grid_is_that_of_the_object_at_few_counts_too():
    beam = ParallelBeam(90, 160, 4.0)
    trues = lines(1, beam)
    found = []
    for counts in (1e6, 1e5, 2e4):
        mean = trues * (counts / trues.sum())
        background = torch.full_like(mean, counts / mean.numel())
        noisy = torch.poisson(mean + background, torch.Generator().manual_seed(1))
        found.append(working_beam(Scan(noisy, beam, background=background), 128, 128).fov_mm / 2)
    assert all(55 < half < 75 for half in found), found


def test_the_solver_stops_when_it_stands_and_each_item_by_itself():
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(30, 20, generator=rng)
    data = torch.randn(3, 30, 1, generator=rng) * torch.tensor([1.0, 100.0, 0.0])[:, None, None]

    def solve(some: torch.Tensor) -> torch.Tensor:
        return least_squares(lambda x: matrix @ x, lambda y: matrix.T @ y, some, 60, damping=1.0, tolerance=1e-4)

    exact = torch.linalg.solve(matrix.T @ matrix + torch.eye(20), matrix.T @ data)
    torch.testing.assert_close(solve(data), exact, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(solve(data)[:1], solve(data[:1]), rtol=1e-3, atol=1e-4)


def test_few_draws_are_worth_less():
    assert few_draws(FITTED) == few_draws(64) == 1.0
    assert few_draws(2) == pytest.approx(3.33, rel=0.01) and 1 < few_draws(4) < 1.3
    with np.errstate(all="raise"):
        assert few_draws(2) > few_draws(3) > few_draws(5)


def test_a_body_that_goes_on_beyond_the_field_of_view_is_told_by_its_profile():
    mean = lines() * 10
    whole = torch.poisson(mean)
    zero = torch.zeros_like(mean)
    keep = torch.zeros(32)
    keep[11:21] = 1
    assert float(cut_off(whole, zero)) < 0 and float(cut_off(whole + 1, zero + 1)) < 0
    assert float(cut_off((whole + 1) * keep, (zero + 1) * keep)) > 10
    assert float(cut_off(whole[..., 11:], zero[..., 11:])) > 10


def test_a_map_that_was_padded_lies_where_it_was():
    grid = ImageGrid(41, 2.0)
    values = torch.zeros(1, 41, 41)
    values[0, 10:30, 12:28] = 0.009
    whole = Image(values, grid, "1/mm")
    part = values[:, :, 4:36]  # 41 x 32: padded by 4 columns on the left, 5 on the right
    padded = torch.zeros_like(values)
    padded[:, :, 4:36] = part
    moved = Image(padded, grid, "1/mm", header={"padded to a square from": "41 x 32"})
    wanted = ImageGrid(41, 2.0)
    expected = resample_mumap(replace(whole, array=values.roll(0, 2)), wanted, 1, 1.0)
    got = resample_mumap(moved, wanted, 1, 1.0)
    x = torch.from_numpy(wanted.x).float()
    centre = [float((image.sum((0, 1)) * x).sum() / image.sum()) for image in (expected, got)]
    assert centre[1] - centre[0] == pytest.approx(1.0, abs=1e-3)  # columns 4 to 35 have their middle at 19.5, not 20
    edge = Image(torch.full((1, 8, 8), 0.009), ImageGrid(8, 10.0), "1/mm")
    fine = resample_mumap(edge, ImageGrid(40, 2.0), 1, 1.0)
    assert float(fine.min()) == pytest.approx(0.009)  # to the border voxels' own borders


def test_images_say_what_they_are_corrected_for_and_suv_hears_it():
    facts = dict(injected_mbq=300.0, weight_kg=70.0, start_s=0.0, duration_s=600.0, isotope="18F")
    scan = Scan(lines() * 10, BEAM, counts_per_unit=1.0, decay_reference="start", **facts)  # type: ignore[arg-type]
    bare = reconstruct(scan, iterations=1)
    assert bare.header[CORRECTED] == "none"
    with pytest.raises(AllpetError, match="not corrected for attenuation"):
        to_suv(bare)
    full = replace(scan, attenuation=torch.full_like(scan.sinogram, 0.5), background=torch.zeros_like(scan.sinogram))
    image = reconstruct(full, iterations=1)
    assert corrected_for(image) == {"attenuation", "background"} and to_suv(image).unit == "SUV"
    marked = reconstruct(mark_corrected(scan, "attenuation"), iterations=1)
    assert corrected_for(marked) == {"attenuation"} and to_suv(marked).unit == "SUV"


def test_a_short_map_is_noted_and_planes_of_unlike_doses_are_summed():
    scan = Scan(lines(5) * 10, BEAM, plane_mm=4.0, neighbours=True, background=torch.zeros(5, 32, 32))
    short = Image(torch.zeros(3, 32, 32), ImageGrid(32, 8.0), "1/mm", plane_mm=4.0)
    assert "does not reach" in " ".join(missing_factors(scan, short))
    whole = Image(torch.zeros(5, 32, 32), ImageGrid(32, 8.0), "1/mm", plane_mm=4.0)
    assert missing_factors(scan, whole) == []
    doses = replace(scan, dose_fractions=torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64))
    assert len(sum_planes(doses, 2)) == 3
