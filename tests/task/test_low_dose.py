"""Low dose on any grid: counts in, expected counts out, honest where the network is wrong."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam, RingBeam
from allpet.scan import Scan
from allpet.scan.carry import Carrier
from allpet.task.baselines import LinearMMSE, gaussian_estimate
from allpet.task.planes import working_beam
from allpet.task.put_back import put_back
from model_support import tiny


def disk(beam, radius: float = 60.0, x: float = 10.0, y: float = -20.0) -> torch.Tensor:
    from allpet.scan.arc import line_coordinates

    phi, s = line_coordinates(beam)
    distance = s - x * np.cos(phi) - y * np.sin(phi)
    return torch.from_numpy(2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))).float()[None]


GRIDS = [ParallelBeam(32, 32, 8.0), ParallelBeam(50, 71, 3.7), RingBeam(63, 86, 200.0, 9)]


@pytest.mark.parametrize("native", GRIDS)
def test_carrying_down_keeps_counts_and_up_keeps_the_shape(native):
    model = ParallelBeam(32, 32, 8.0)
    carrier = Carrier(native, model)
    s = disk(native)
    down, area = carrier.down(s), carrier.down(torch.ones_like(s))
    assert float(down.sum()) == pytest.approx(float(s.sum()), rel=1e-4)
    emission = down / area.clamp_min(1e-6)
    assert float((emission - disk(model))[area > 0].norm() / disk(model).norm()) < 0.08
    up = carrier.up(disk(model))
    assert float((up - s).norm() / s.norm()) < 0.06


def test_working_beam_covers_the_object():
    own = ParallelBeam(32, 32, 8.0)
    assert working_beam(Scan(disk(own), own), 32, 32) == own
    wide = ParallelBeam(40, 200, 3.0)
    beam = working_beam(Scan(disk(wide), wide), 32, 32)
    assert 2 * 80 < beam.fov_mm < 250


def test_put_back_adds_nothing_to_a_right_estimate_and_restores_a_wrong_one():
    beam = ParallelBeam(64, 64, 4.0)
    truth = disk(beam) * 2
    counts = torch.poisson(truth, generator=torch.Generator().manual_seed(1))
    live = torch.ones_like(truth, dtype=torch.bool)
    right = put_back(counts, truth, live)
    assert float((right - truth).norm() / truth.norm()) < 0.02
    wrong = truth * 0.8
    mended = put_back(counts, wrong, live)
    assert float((mended - truth).norm()) < 0.35 * float((wrong - truth).norm())
    assert float(mended.min()) >= 0


def test_put_back_weighs_what_is_beyond_noise_of_power_one():
    """A white signal of variance 0.64 in noise of variance 1: Wiener leaves 1 / 1.64 of its energy, caution in small
    bands a little more; were the noise's power taken for 2, nothing would be put back."""
    rng = torch.Generator().manual_seed(3)
    estimate = torch.full((1, 64, 64), 400.0)
    truth = estimate + 0.8 * 20 * torch.randn(estimate.shape, generator=rng)
    found = put_back(torch.poisson(truth, generator=rng), estimate, torch.ones_like(truth, dtype=torch.bool))
    left = float((found - truth).square().sum() / (estimate - truth).square().sum())
    assert 1 / 1.64 - 0.05 < left < 0.8


@pytest.mark.parametrize("native", GRIDS)
def test_any_grid_comes_back_on_its_own(native):
    model = tiny(idle=True)
    truth = disk(native).expand(3, -1, -1) * 5
    live = torch.from_numpy(native.live()).float() if isinstance(native, RingBeam) else torch.ones(native.shape)
    counts = torch.poisson(truth * live, generator=torch.Generator().manual_seed(0))
    scan = Scan(counts, native, normalisation=live, background=torch.full_like(counts, 0.2), dose_fraction=0.5)
    result = model.apply("low-dose", scan, samples=3)
    assert result.expected.geometry == native and result.expected.sinogram.shape == counts.shape
    assert float(result.expected.background.mean()) == pytest.approx(0.4)
    assert result.expected.dose_fraction == 1.0 and result.std is not None
    assert bool((result.expected.sinogram >= 0).all()) and bool((result.std.sinogram >= 0).all())
    assert float(result.expected.sinogram.sum()) == pytest.approx(float(counts.sum()) / 0.5, rel=0.15)
    again = model.apply("low-dose", scan, samples=3)
    assert torch.equal(again.std.sinogram, result.std.sinogram)
    assert model.apply("low-dose", scan, samples=0).std is None


def test_bad_scans_are_one_clear_line():
    model, beam = tiny(), ParallelBeam(32, 32, 8.0)
    scan = Scan(disk(beam), beam)
    for value, options, message in (
        (replace(scan, unit="kBq/mL*mm"), {}, "takes measured counts"),
        (scan.with_sinogram(scan.sinogram - 1), {}, "below zero"),
        (scan, dict(dose_fraction=0.0), "dose fraction is 0;"),
        (scan, dict(samples=1), "needs at least 2"),
        (scan, dict(prompt="FDG tail"), "'tail' is unknown"),
    ):
        with pytest.raises(AllpetError, match=message):
            model.apply("low-dose", value, **options)
    with pytest.raises(AllpetError, match="task 'magic' is unknown; known: low-dose"):
        model.apply("magic", scan)


def test_what_is_assumed_is_said():
    model, beam = tiny(), ParallelBeam(32, 32, 8.0)
    counts = disk(beam)
    plain = model.apply("low-dose", Scan(counts, beam), samples=0)
    assert [note.split(":")[0] for note in plain.notes] == [
        "dose fraction unknown",
        "no background (randoms, scatter) is known",
    ]
    known = Scan(counts, beam, background=torch.ones_like(counts), dose_fraction=0.5)
    assert model.apply("low-dose", known, samples=0).notes == ()


def test_an_empty_plane_stays_finite():
    beam = ParallelBeam(32, 32, 8.0)
    result = tiny().apply("low-dose", Scan(torch.zeros(1, 32, 32), beam), dose_fraction=0.1, samples=2)
    assert bool(torch.isfinite(result.expected.sinogram).all()) and bool(torch.isfinite(result.std.sinogram).all())


def test_linear_mmse_beats_its_input_and_is_exact_without_noise():
    rng = torch.Generator().manual_seed(0)
    t = torch.linspace(0, 1, 16)
    shapes = [
        torch.exp(-((t - 0.3 - 0.4 * torch.rand(1, generator=rng)) ** 2) / 0.02).expand(16, 16) for _ in range(60)
    ]
    bank = torch.stack([s / s.mean() for s in shapes])
    linear = LinearMMSE(bank[:50], components=20)
    truth = bank[55:] * 4
    one, zero = torch.ones_like(truth), torch.zeros_like(truth)
    noisy = torch.poisson(truth, generator=rng)
    assert float((linear.estimate(noisy, one, zero) - truth).norm()) < 0.4 * float((noisy - truth).norm())
    exact = linear.estimate(truth * 1e5, one, zero) / 1e5
    assert float((exact - truth).norm() / truth.norm()) < 0.02


def test_gaussian_continues_across_the_seam():
    beam = ParallelBeam(64, 64, 4.0)
    s = disk(beam, 40)
    smooth = gaussian_estimate(s, torch.zeros_like(s), 2.0)
    step = (smooth[0, -1] - smooth[0, 0].flip(-1)).abs().mean()
    assert float(step) < 1.5 * float((smooth[0, 1:] - smooth[0, :-1]).abs().mean(-1).median())
    assert math.isclose(float(smooth.sum()), float(s.sum()), rel_tol=1e-3)
