"""Randoms from delayeds: less noise, the same totals, nothing in the gaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam, RingBeam
from allpet.scan.core import Scan
from allpet.scan.randoms import crystal_factors, smooth_randoms, with_randoms

RING = RingBeam(views=36, bins=47, radius_mm=335.0, block=9)


def truth(seed: int = 0, n: int = 4, level: float = 0.3) -> np.ndarray:
    """Expected randoms of crystals of different rates: (n, view, radial), 0 in the gaps."""
    rates = np.random.default_rng(seed).uniform(0.5, 1.5, RING.crystals)
    first, second = RING.crystal_pairs()
    return level * np.arange(1, n + 1)[:, None, None] * rates[first] * rates[second] * RING.live()


def scan_of(delayeds: np.ndarray) -> Scan:
    values = torch.from_numpy(delayeds.astype(np.float32))
    return Scan(torch.zeros_like(values), RING, delayeds=values)


def test_noise_free_rates_are_recovered() -> None:
    expected = truth(level=100.0)
    found = smooth_randoms(scan_of(expected)).numpy()
    assert np.allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_goes_and_totals_stay(seed: int) -> None:
    expected = truth(seed)
    delayeds = np.random.default_rng(seed).poisson(expected)
    found = smooth_randoms(scan_of(delayeds)).numpy()
    live = np.broadcast_to(RING.live(), found.shape)
    assert np.allclose(found.sum(axis=(1, 2)), delayeds.sum(axis=(1, 2)), rtol=1e-5)
    assert (found[live] > 0).all() and (found[~live] == 0).all()
    error = [np.sqrt(((values - expected)[live] ** 2).mean()) for values in (found, delayeds)]
    assert error[0] < error[1] / 4


def test_an_empty_plane_and_an_empty_scan() -> None:
    delayeds = np.random.default_rng(0).poisson(truth())
    delayeds[1] = 0
    found = smooth_randoms(scan_of(delayeds))
    assert (found[1] == 0).all() and (found[0][torch.from_numpy(RING.live())] > 0).all()
    assert (smooth_randoms(scan_of(np.zeros_like(delayeds))) == 0).all()
    assert np.isfinite(crystal_factors(np.zeros(RING.shape), RING)).all()


def test_parallel_beam_delayeds_are_smoothed() -> None:
    beam = ParallelBeam(60, 51, 4.0)
    rng = np.random.default_rng(0)
    weight = (rng.random((2, 60, 51)) > 0.2).astype(np.float32)
    expected = 0.5 * weight * (1 + 0.3 * np.cos(np.linspace(-1, 1, 51)))
    delayeds = torch.from_numpy(rng.poisson(expected).astype(np.float32))
    scan = Scan(torch.zeros(2, 60, 51), beam, delayeds=delayeds, normalisation=torch.from_numpy(weight))
    found = smooth_randoms(scan)
    assert torch.allclose(found.sum(dim=(1, 2)), delayeds.sum(dim=(1, 2)), rtol=1e-5)
    assert np.sqrt(((found.numpy() - expected) ** 2).mean()) < 0.1 * np.sqrt(
        ((delayeds.numpy() - expected) ** 2).mean()
    )
    assert (found[scan.normalisation == 0] == 0).all()


def test_with_randoms() -> None:
    scan = scan_of(np.random.default_rng(0).poisson(truth()))
    assert torch.equal(with_randoms(scan).background, smooth_randoms(scan))
    known = with_randoms(scan)
    assert with_randoms(known) is known
    with pytest.raises(AllpetError, match="delayeds"):
        smooth_randoms(Scan(torch.zeros(1, *RING.shape), RING))
