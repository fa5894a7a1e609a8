"""Neighbouring planes restored together: noise is taken, what differs is kept, and nothing hangs on the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.geometry import ParallelBeam
from allpet.scan import Scan
from allpet.task import neighbours
from allpet.task.neighbours import HALVES, _weights, half_of, together
from allpet.task.planes import PLANES, in_touch
from allpet.task.put_back import dyadic, spectrum_of, strip_of
from model_support import tiny

SHAPE = (32, 32)


def planes_of(n: int, slope: float, level: float = 20.0) -> torch.Tensor:
    """A body whose sinograms change linearly from plane to plane, ``(n, 32, 32)``."""
    s = (torch.arange(32) - 15.5) / 16
    body = level * torch.sqrt((0.8 - s.square()).clamp_min(0)).expand(n, *SHAPE)
    return body * (1 + slope * torch.arange(n)[:, None, None])


def noisy(planes: torch.Tensor, sigma: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Planes with white noise, and the same from half of the counts: their difference has the noise's energy."""
    one, two = sigma * torch.randn(2, *planes.shape, generator=torch.Generator().manual_seed(seed))
    return planes + (one + two) / 2**0.5, planes + 2**0.5 * two


def error(x: torch.Tensor, truth: torch.Tensor) -> float:
    return float((x - truth).square().mean())


def test_the_spectrum_of_the_double_cover_comes_back_and_bands_cover_it():
    x = torch.randn(2, 16, 20)
    assert torch.allclose(strip_of(spectrum_of(x), 16, 20), x, atol=1e-5)
    bands = dyadic(32, 11)
    assert bands.shape == spectrum_of(x).shape[-2:] and bands[0, 0] == 0
    assert torch.equal(bands[1:], bands[1:].flip(0))  # a frequency and its mirror image


def test_planes_that_hardly_differ_share_their_noise_away():
    truth = planes_of(21, 0.0)
    seen, halves = noisy(truth, 1.0, 0)
    inner = slice(4, -4)
    left = error(together(seen, halves)[inner], truth[inner]) / error(seen[inner], truth[inner])
    assert 1 / 9 < left < 0.18  # nine planes are averaged evenly at best
    sloped = planes_of(21, 0.05)
    seen, halves = noisy(sloped, 1.0, 1)
    assert error(together(seen, halves)[inner], sloped[inner]) < 0.2 * error(seen[inner], sloped[inner])


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), sigma=st.sampled_from([0.05, 0.5, 3.0]))
def test_unrelated_planes_are_not_made_worse(seed, sigma):
    rng = torch.Generator().manual_seed(seed)
    wave = torch.randn(9, 6, 6, generator=rng)
    truth = 60 + 8 * torch.nn.functional.interpolate(wave[:, None], size=SHAPE, mode="bicubic")[:, 0]
    seen, halves = noisy(truth, sigma, seed + 1)
    assert error(together(seen, halves), truth) < 1.02 * error(seen, truth)


def test_without_noise_nothing_changes_and_a_lone_hot_plane_stays_hot():
    truth = planes_of(9, 0.0)
    truth[4, :, 10:14] *= 5
    assert torch.allclose(together(truth, truth), truth, atol=1e-3)
    seen, halves = noisy(truth, 1.0, 3)
    found = together(seen, halves)
    assert float(found[4, :, 10:14].mean() / truth[4, :, 10:14].mean()) > 0.93
    assert float(found[3, :, 10:14].mean() / truth[3, :, 10:14].mean()) < 1.15
    assert error(found, truth) < error(seen, truth)


def test_counts_are_kept_in_the_mean_and_blocks_do_not_show(monkeypatch):
    seen, halves = noisy(planes_of(11, 0.03), 1.0, 4)
    whole = together(seen, halves)
    assert float(whole[4:7].mean()) == pytest.approx(float(seen[4:7].mean()), rel=0.01)
    monkeypatch.setattr(neighbours, "BLOCK", 3)
    assert torch.allclose(together(seen, halves), whole, atol=1e-4)


def test_weights_solve_steins_equations_and_stay_in_range():
    rng = np.random.default_rng(0)
    white = torch.from_numpy(rng.standard_normal((4, 400_000)))
    energy = (6 * torch.eye(2) - 4 * (torch.eye(2) - 1)).expand(1, 1, 2, 2).float()  # of D_1 and D_2 of white noise
    assert torch.allclose(_weights(energy, torch.full((1, 1, 2), 2.0)), torch.tensor(0.2), atol=1e-3)
    far = _weights(100 * energy, torch.full((1, 1, 2), 2.0))
    assert bool((far > 0).all()) and float(far.sum()) < 0.01
    wild = torch.stack([torch.cov(white[:2] * torch.tensor([[1.0], [k]])) for k in (0.1, 1.0, 9.0)])[:, None].float()
    for noise in (0.01, 1.0, 100.0):
        found = _weights(wild, torch.full((3, 1, 2), noise))
        assert bool((found >= 0).all()) and float(found.sum(dim=-1).max()) <= 0.4 + 1e-6


def test_half_of_the_counts_is_a_planes_own():
    counts = torch.poisson(torch.full((4, *SHAPE), 9.0), generator=torch.Generator().manual_seed(5))
    half = half_of(counts, 10)
    assert bool((half <= counts).all()) and float(half.sum() / counts.sum()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(half[2:], half_of(counts[2:], 12)) and not torch.equal(half[0], half_of(counts[:1], 11)[0])
    for seed in (0, HALVES):  # the draws of no seed share the stream
        drawn = np.random.default_rng([seed, 10, 0]).binomial(counts[0].numpy().astype(int), 0.5)
        assert not np.array_equal(drawn, half[0].numpy())


def scan_of(n: int, neighbours: bool) -> Scan:
    mean = planes_of(n, 0.02, 15.0) + 1
    counts = torch.poisson(mean, generator=torch.Generator().manual_seed(6))
    return Scan(
        counts, ParallelBeam(*SHAPE, 8.0), background=torch.ones_like(mean), neighbours=neighbours, plane_mm=2.0
    )


def test_a_scan_says_whether_its_planes_are_neighbours():
    model, truth = tiny(), planes_of(9, 0.02, 15.0)
    told = {}
    for beside in (False, True):
        result = model.apply("low-dose", scan_of(9, beside), samples=0, dose_fraction=1.0)
        assert any("together with their neighbours, 2 mm apart" in note for note in result.notes) == beside
        told[beside] = error(result.expected.sinogram - 1, truth)
    assert told[True] < told[False]
    assert in_touch(scan_of(3, True)) and not in_touch(scan_of(2, True)) and not in_touch(scan_of(9, False))


@pytest.mark.parametrize("task", ["low-dose", "attenuation", "delayed", "convert", "separate"])
def test_every_task_takes_neighbours_and_progress_ends_where_it_should(task):
    model, steps = tiny(), []
    options = dict(convert={"to": "PSMA"}, separate={"prompt": "FDG + PSMA brain"}).get(task, {})
    scan = replace(scan_of(6, True), tracer="FDG", region="brain", start_s=3600.0)
    result = model.apply(task, scan, samples=0, progress=lambda done, total: steps.append((done, total)), **options)
    assert result.expected.sinogram.shape == scan.sinogram.shape
    shares = [done / total for done, total in steps]
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(steps) >= 2 * -(-6 // PLANES)


def test_planes_of_different_efficiency_are_compared_at_one():
    """A plane seen by three times as many ring pairs is no hotter than its neighbours."""
    model, scan = tiny(), scan_of(9, True)
    pairs = torch.ones(9, *SHAPE)
    pairs[4:] = 3.0
    counts = torch.poisson(planes_of(9, 0.0, 15.0) * pairs + 1, generator=torch.Generator().manual_seed(7))
    uneven = replace(scan, sinogram=counts, normalisation=pairs)
    found = model.apply("low-dose", uneven, samples=0, dose_fraction=1.0).expected.sinogram - 1
    middle = found[:, :, 12:20].mean(dim=(1, 2)) / pairs[:, 0, 0]
    assert float(middle.max() / middle.min()) < 1.1
