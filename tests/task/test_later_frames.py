"""Later frames: what a static scan shares with them is borrowed, what they do not share is not."""

import pytest
import torch

from allpet.task.later_frames import LATER, borrowed
from allpet.task.neighbours import half_of
from allpet.task.seen import Counts, Frames

SIZE = 32


def plain(counts, efficiency, background, bin_mm):
    """A restoration that only divides."""
    return (counts - background) / efficiency


def bump(where: float, width: float = 3.0) -> torch.Tensor:
    """A smooth sinogram of 64 counts a bin at the most, the same in all views, ``(1, 32, 32)``."""
    x = torch.arange(SIZE) - where
    return 64 * torch.exp(-0.5 * (x / width).square()).expand(1, SIZE, SIZE)


def measured(truth: torch.Tensor, seed: int = 0) -> Counts:
    noisy = torch.poisson(truth, generator=torch.Generator().manual_seed(seed))
    return Counts(noisy, torch.full_like(noisy, 0.5), torch.zeros_like(noisy), torch.ones(1))


def moving(early: torch.Tensor, late: torch.Tensor, seed: int = 1) -> Frames:
    counts = torch.stack([*[early] * (6 - LATER), *[late] * LATER], dim=1)
    noisy = torch.poisson(counts, generator=torch.Generator().manual_seed(seed))
    return Frames(noisy, torch.zeros_like(noisy), torch.ones(1, 6))


def error(scan: Counts, frames: Frames, truth: torch.Tensor) -> tuple[float, float]:
    """Root mean square error of what is borrowed, and of the static scan alone."""
    own = plain(scan.counts, scan.efficiency, scan.background, scan.bin_mm)
    found = borrowed(plain, scan, own, half_of(scan.counts, 0), frames)
    return tuple(float((x - truth / 0.5).square().mean().sqrt()) for x in (found, own))


def test_frames_of_the_same_activity_take_most_of_the_noise_away():
    truth = bump(15.5)
    with_frames, alone = error(measured(truth), moving(bump(8), truth), truth)
    assert with_frames < 0.62 * alone  # three frames and the scan itself: 0.5 at best


def test_only_the_later_frames_are_looked_at_and_their_level_is_free():
    truth = bump(15.5)
    one, two = (error(measured(truth), moving(early, truth), truth)[0] for early in (bump(3), bump(28)))
    assert one == pytest.approx(two, rel=0.05)
    assert error(measured(truth), moving(bump(3), 4 * truth), truth)[0] < one


def test_frames_of_another_activity_do_little_harm():
    truth = bump(15.5)
    with_frames, alone = error(measured(truth), moving(truth, bump(5)), truth)
    assert with_frames < 1.15 * alone


def test_empty_frames_change_nothing():
    scan = measured(bump(15.5))
    own = plain(scan.counts, scan.efficiency, scan.background, scan.bin_mm)
    nothing = torch.zeros(1, SIZE, SIZE)
    found = borrowed(plain, scan, own, half_of(scan.counts, 0), moving(nothing, nothing))
    assert torch.allclose(found, own, atol=1e-3)
