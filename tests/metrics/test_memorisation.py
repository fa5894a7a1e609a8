"""Copies are found out however they are turned, moved and mirrored; unseen ones are let pass."""

from __future__ import annotations

import math

import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics import audit, copy_distance, memorisation, nearest_distance
from allpet.metrics.memorisation import centred
from allpet.train.augment import mirror, place, turn
from tests_support import disk_sinogram

BEAM = ParallelBeam(96, 80, 4.0)


def blobs(n: int, seed: int, beam: ParallelBeam = BEAM) -> torch.Tensor:
    """Gaussian blobs, eight an object, projected in closed form."""
    g = torch.Generator().manual_seed(seed)
    x, y = 35 * torch.randn(2, n, 8, 1, 1, generator=g)
    width, weight = 8 + 22 * torch.rand(n, 8, 1, 1, generator=g), torch.rand(n, 8, 1, 1, generator=g)
    phi, s = torch.from_numpy(beam.angles).float()[:, None], torch.from_numpy(beam.radii).float()
    return (weight * torch.exp(-0.5 * ((s - x * phi.cos() - y * phi.sin()) / width) ** 2)).sum(dim=1)


def disguised(s: torch.Tensor, seed: int) -> torch.Tensor:
    """Each turned by any number of views, moved by some bins, every other one mirrored, in another unit."""
    g = torch.Generator().manual_seed(seed)
    turns = torch.randint(2 * s.shape[-2], (len(s),), generator=g).tolist()
    out = torch.stack(
        [mirror(turn(x, k)) if i % 2 else turn(x, k) for i, (x, k) in enumerate(zip(s, turns, strict=True))]
    )
    moved = place(out[:, None], 1.5 * torch.randn(len(s), 2, generator=g), torch.ones(len(s)))[:, 0]
    return 7 * moved


def test_disguised_copies_are_found_and_unseen_are_not():
    train, unseen = blobs(120, 0), blobs(60, 1)
    copies, others = copy_distance(disguised(train[:60], 2), train, BEAM), copy_distance(unseen, train, BEAM)
    assert copies.shape == (60,) and copies.dtype == torch.float64
    assert float(copies.max()) < 0.02 and float(others.min()) > 0.06
    plain = nearest_distance(disguised(train[:60], 2) / 7, train)  # without undoing the disguise they look unseen
    assert float(plain.median()) > 10 * float(copies.median())


def test_exact_symmetries_leave_no_distance():
    s = blobs(5, 3)
    assert float(copy_distance(s, s, BEAM).max()) < 1e-3
    assert float(copy_distance(turn(s, 31), s, BEAM).max()) < 2e-3
    assert float(copy_distance(mirror(s), s, BEAM).max()) < 2e-3


def test_copy_distance_is_that_of_all_turns_tried_one_by_one():
    beam = ParallelBeam(64, 64, 5.0)
    a, b = blobs(6, 4, beam), blobs(5, 5, beam)
    x, y = centred(a, beam).double(), centred(b, beam).double()
    turned = [turn(z, k) for z in (y, mirror(y)) for k in range(128)]
    tried = torch.stack([(x[:, None] - z[None]).norm(dim=(-2, -1)) for z in turned]).amin(dim=(0, 2)) / x.norm(
        dim=(-2, -1)
    )
    found = copy_distance(a, b, beam)
    assert bool((found <= tried + 1e-6).all()) and torch.allclose(found, tried, rtol=0.02)


def test_centring_moves_a_disk_to_the_middle():
    beam = ParallelBeam(60, 64, 2.0)
    off, middle = disk_sinogram(beam, 20.0, 17.0, -9.0)[None], disk_sinogram(beam, 20.0, 0.0, 0.0)[None]
    away = centred(off, beam) - centred(middle, beam)
    assert float(away.norm() / centred(middle, beam).norm()) < 0.02
    assert float((off - middle).norm() / middle.norm()) > 0.5
    mean = math.pi * 20**2 / (64 * 2.0)  # of the disk's sinogram, mm
    assert float(centred(middle, beam).max()) == pytest.approx(40 / mean, rel=0.05)


def test_audit_fails_a_copier_and_passes_people():
    train, held_out, fresh = blobs(100, 0), blobs(150, 1), blobs(150, 2)
    honest = audit(fresh, train, held_out, BEAM)
    assert honest.passed and honest.share_below < 0.05 and honest.generated == pytest.approx(honest.held_out, rel=0.15)
    copier = audit(disguised(train, 3), train, held_out, BEAM)
    assert not copier.passed and copier.share_below == 1 and copier.p_value < 1e-6 and copier.closest < 0.02
    seldom = audit(torch.cat([disguised(train[:15], 4), fresh[:135]]), train, held_out, BEAM)
    assert not seldom.passed and seldom.share_below >= 0.1


def test_audit_has_the_size_it_claims():
    """p-values of exchangeable sets: at most 1 in 100 fails, to chance."""
    from scipy.stats import betabinom

    assert audit(blobs(20, 6), blobs(10, 7), blobs(30, 8), BEAM).expected == pytest.approx(1 / 31)
    g = torch.Generator().manual_seed(0)
    failed, rounds = 0, 4000
    for _ in range(rounds):
        x = torch.rand(150, generator=g)
        threshold = x[:100].sort().values[4]  # quantile 0.05 of 100
        failed += betabinom(50, 5, 96).sf(int((x[100:] < threshold).sum()) - 1) <= 0.01
    assert failed / rounds < 0.015


def test_plain_copies_are_found_out():
    def draw(n: int, seed: int) -> torch.Tensor:
        return torch.randn(n, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    train, held_out = draw(300, 0), draw(200, 1)
    fresh = memorisation(draw(200, 2), train, held_out)
    copied = memorisation(train[:200] + 0.01 * draw(200, 3), train, held_out)
    assert 0.3 < fresh.closer_to_train < 0.7
    assert fresh.to_train == pytest.approx(fresh.held_out_to_train, rel=0.2)
    assert copied.closer_to_train > fresh.closer_to_train + 0.2
    assert float(nearest_distance(train[:5], train).max()) < 1e-6


def test_bad_input_says_what_is_wrong():
    s = blobs(4, 0)
    with pytest.raises(AllpetError, match="must agree"):
        copy_distance(s, s, ParallelBeam(64, 80, 4.0))
    with pytest.raises(AllpetError, match="must be positive"):
        copy_distance(s, torch.zeros_like(s), BEAM)
    with pytest.raises(AllpetError, match="quantile"):
        audit(s, s, s, BEAM, quantile=0.9)
