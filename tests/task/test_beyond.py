"""What counts say beyond an image, against the same posterior mean by dense linear algebra."""

from dataclasses import replace

import pytest
import torch

from allpet.geometry import ImageGrid, ParallelBeam
from allpet.model.restorer import gaussian_blur
from allpet.project import Projector
from allpet.scan import Scan
from allpet.task.beyond import GRAIN, beyond
from allpet.task.seen import Counts
from model_support import tiny
from tests_support import disk_image

SIZE = 16
PROJECTOR = Projector(ParallelBeam(SIZE, SIZE, 1.0), ImageGrid(SIZE, 1.0))


def case(level: float, seed: int = 0) -> tuple[Counts, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Counts of a disk, their mean by an image that lacks a spot, its deviation, the unit, and the spot."""
    rng = torch.Generator().manual_seed(seed)
    image, spot = (disk_image(ImageGrid(SIZE, 1.0), *where).float()[None] for where in ((6.0, 0, 0), (2.0, 2.0, 1.0)))
    efficiency = 0.3 + 0.7 * torch.rand(1, SIZE, SIZE, generator=rng)
    background = torch.full((1, SIZE, SIZE), 0.3 * level)
    expected = efficiency * level * PROJECTOR(image) + background
    counts = torch.poisson(expected + efficiency * level * PROJECTOR(spot), generator=rng)
    spread = 0.1 + 0.9 * disk_image(ImageGrid(SIZE, 1.0), 4.0, 2.0, 1.0).float()[None]
    return Counts(counts, efficiency, background, torch.ones(1)), expected, spread, torch.tensor([level]), spot


def dense(scan: Counts, expected: torch.Tensor, spread: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """The posterior mean by its closed form, ``K H' (H K H' + I)^-1 r``, in float64."""
    pixels = torch.eye(SIZE**2).reshape(-1, SIZE, SIZE)
    noise = (expected + 0.01 * expected.mean()).sqrt()
    seen = (scan.efficiency * unit / noise * PROJECTOR(pixels)).flatten(1).T.double()
    smooth = gaussian_blur(pixels, GRAIN)
    norm = gaussian_blur(torch.eye(33)[16][:, None] * torch.eye(33)[16], GRAIN).square().sum().sqrt()
    grained = (spread * smooth / norm).flatten(1).T.double()
    prior = grained @ grained.T
    residual = ((scan.counts - expected) / noise).flatten().double()
    inverse = torch.linalg.inv(seen @ prior @ seen.T + torch.eye(SIZE**2, dtype=torch.float64))
    return (prior @ seen.T @ inverse @ residual).reshape(1, SIZE, SIZE).float()


@pytest.mark.parametrize("level", [0.5, 3.0])
def test_the_change_is_the_posterior_mean(level):
    scan, expected, spread, unit, _ = case(level)
    found, right = beyond(scan, expected, spread, unit, PROJECTOR), dense(scan, expected, spread, unit)
    inside = slice(3, -3)  # at the image's edge smoothing and its transpose differ
    assert float((found - right)[:, inside, inside].norm() / right.norm()) < 0.05


def test_what_an_image_lacks_is_found_as_counts_grow():
    errors = []
    for level in (0.05, 1.0, 200.0):
        scan, expected, spread, unit, spot = case(level)
        errors.append(float((beyond(scan, expected, spread, unit, PROJECTOR) - spot).norm() / spot.norm()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.35


def test_nothing_changes_where_the_network_is_sure_or_counts_are_as_expected():
    scan, expected, spread, unit, _ = case(3.0)
    assert not beyond(scan, expected, torch.zeros_like(spread), unit, PROJECTOR).any()
    assert not beyond(replace(scan, counts=expected), expected, spread, unit, PROJECTOR).any()
    half = spread.clone()
    half[:, :, : SIZE // 2] = 0
    assert not beyond(scan, expected, half, unit, PROJECTOR)[:, :, : SIZE // 2].any()


def test_low_dose_listens_to_the_counts_only_where_the_translator_is_told_its_words():
    model = tiny(idle=True)
    beam = ParallelBeam(32, 32, 8.0)
    projector = Projector(beam, ImageGrid(32, 8.0))
    truth = projector(disk_image(ImageGrid(32, 8.0), 60.0, 10.0, -20.0).float()[None]) * 2
    counts = torch.poisson(truth, generator=torch.Generator().manual_seed(0))
    told = model.apply("low-dose", Scan(counts, beam, tracer="FDG", region="brain"), samples=0, images=True)
    untold = model.apply("low-dose", Scan(counts, beam), samples=0, images=True)
    off = [float((r.expected.sinogram - truth).norm()) for r in (told, untold)]
    assert off[0] < off[1]
    assert float(told.extras["-image"].array.min()) >= 0
