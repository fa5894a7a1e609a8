"""Efficiencies drawn on a beam: gaps where arc correction has them, crystals where lines are, 1 without either."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.scan import normalise
from allpet.scan.arc import arc_beam, resample
from allpet.scan.normalise import block_profile, coverage, draw_normalisation
from allpet.scan.scanners import presets, scanner

MMR = scanner("mMR")
TRUNK = ParallelBeam(128, 128, 4.0)


@pytest.fixture
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """No spread at all: what is left are the gaps."""
    for name in ("CRYSTAL_SPREAD", "EDGE_LOSS", "GEOMETRIC_SPREAD"):
        monkeypatch.setattr(normalise, name, 0.0)


@pytest.mark.usefixtures("even")
@pytest.mark.parametrize("name", ["uEXPLORER", "DiscoveryMI"])
def test_one_everywhere_without_gaps_and_spread(name: str) -> None:
    for beam in (TRUNK, ParallelBeam(180, 101, 2.5)):
        assert np.allclose(draw_normalisation(np.random.default_rng(0), beam, scanner(name)), 1, atol=1e-5)


@pytest.mark.usefixtures("even")
@pytest.mark.parametrize("beam", [TRUNK, ParallelBeam(128, 128, 2.0), ParallelBeam(252, 257, 2.0)])
def test_gaps_are_those_of_arc_correction(beam: ParallelBeam) -> None:
    got = draw_normalisation(np.random.default_rng(0), beam, MMR)
    live = torch.from_numpy(MMR.beam.live()).float()[None]
    share = resample(torch.cat((live, torch.ones_like(live))), MMR.beam, beam).numpy()
    assert np.allclose(got, share[0] / share[1], atol=1e-4)
    assert got.mean() == pytest.approx((8 / 9) ** 2, abs=0.01)


def test_missing_bins_on_a_beam_as_fine_as_the_ring_and_none_on_a_coarse_one() -> None:
    fine = draw_normalisation(np.random.default_rng(0), arc_beam(replace(MMR, bins=251).beam), MMR)
    assert 0.005 < (fine == 0).mean() < 0.1
    assert (draw_normalisation(np.random.default_rng(0), TRUNK, MMR) > 0).all()


@pytest.mark.parametrize("name", list(presets()))
def test_scanners_differ_from_one_about_as_chosen(name: str) -> None:
    made = scanner(name)
    got = draw_normalisation(np.random.default_rng(3), TRUNK, made)
    live = coverage(TRUNK, made).share.sum(axis=1)
    ratio = got.ravel() / np.asarray(live).ravel()
    assert got.dtype == np.float32 and got.shape == TRUNK.shape
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert 0.02 < ratio.std() < 0.15


def test_a_bin_is_the_mean_over_its_lines() -> None:
    """One bin by hand: lines of the ring without gaps whose cells overlap it, in the ring's own order of draws."""
    made = scanner("DiscoveryMI")
    beam = ParallelBeam(272, 65, 4.0)
    got = draw_normalisation(np.random.default_rng(11), beam, made)
    rng = np.random.default_rng(11)
    crystal = np.exp(rng.normal(-0.005, 0.1, 544))
    bend = rng.uniform(-0.03, 0.03, 2)
    first, second = made.beam.crystal_pairs()
    low, high = (380.5 * np.sin(np.pi / 544 * (np.arange(415) - 207 + side)) for side in (-0.5, 0.5))
    view, middle = 40, 32  # s from -2 to 2 mm, phi of view 40 = ring view -40 (and half a view off for odd t)
    share = np.maximum(np.minimum(high, 2) - np.maximum(low, -2), 0)
    total = weight = 0.0
    for k in np.flatnonzero(share):
        odd = (k - 207) % 2
        # cells are one view wide: even t lies within this view; odd t half in this one, half in the next
        for v, part in ((272 - 40, 1.0),) if not odd else ((272 - 40, 0.5), (272 - 39, 0.5)):
            mirror = 2 * 207 - k  # phi is 180 degrees on, so s changes sign
            s = made.beam.radii[mirror] / 380.5 / (beam.fov_mm / 2 / 380.5)
            shape = 1 + bend[0] * (s**2 - 1 / 3) + bend[1] * np.cos(2 * np.pi * s)
            total += share[k] * part * crystal[first[v, mirror]] * crystal[second[v, mirror]] * shape
            weight += share[k] * part
    assert got[view, middle] == pytest.approx(total / weight, rel=2e-3)


def test_block_profile() -> None:
    profile = block_profile(MMR)
    crystals = profile[np.arange(504) % 9 != 0]
    assert crystals.mean() == pytest.approx(1)
    assert np.allclose(profile[1:9], profile[8:0:-1]) and profile[1] < profile[4]
    assert (block_profile(scanner("DiscoveryMI")) == 1).all()


def test_drawn_from_the_generator_alone() -> None:
    one, two, other = (draw_normalisation(np.random.default_rng(seed), TRUNK, MMR) for seed in (1, 1, 2))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_a_beam_beyond_the_scanner() -> None:
    with pytest.raises(AllpetError, match="650 mm wide; it must lie within the 589 mm of Siemens mMR"):
        draw_normalisation(np.random.default_rng(0), ParallelBeam(16, 65, 10.0), MMR)
