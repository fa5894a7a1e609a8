"""Transparent medical attention: exact undoing, per-scan maximum, the lines of a region and no others."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam, RingBeam
from allpet.mask import Lines, Region, attention, attention_of, difference, emphasise, intersection, label_map, undo
from allpet.mask import union as united
from allpet.mask.attend import attend
from allpet.mask.outline import draw, grow
from allpet.project import Projector
from allpet.scan.core import Scan

BEAM = ParallelBeam(24, 32, 4.0)
LINES = Lines(BEAM)
SHAPE = (3, 32, 32)


def region(rng: np.random.Generator, strength: float, name: str = "one") -> Region:
    """A random block with random weights."""
    mask = np.zeros(SHAPE, np.float32)
    low = [int(rng.integers(0, side - 1)) for side in SHAPE]
    high = [int(rng.integers(k + 1, side + 1)) for k, side in zip(low, SHAPE, strict=True)]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    mask[box] = rng.uniform(0.1, 1, [b - a for a, b in zip(low, high, strict=True)])
    return Region.from_mask(name, mask, strength=strength)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    strengths=st.lists(st.floats(-0.999, 50), min_size=0, max_size=4),
)
def test_undoing_gives_the_scan_back_or_is_refused_before(seed: int, strengths: list[float]) -> None:
    rng = np.random.default_rng(seed)
    regions = [region(rng, a) for a in strengths]
    scan = torch.from_numpy(rng.poisson(30, (3, *BEAM.shape)).astype(np.float32))
    try:
        weights = attention_of(regions, LINES, 3)
    except AllpetError as error:
        assert "overlapping" in str(error) and sum(a for a in strengths if a < 0) < -0.9  # others may lie elsewhere
        return
    assert bool((weights > 0).all()) and bool(torch.isfinite(weights).all())
    back = undo(emphasise(scan, weights), weights)
    torch.testing.assert_close(back, scan, rtol=3e-7, atol=0)


def test_the_smallest_strength_is_taken_whatever_the_rounding() -> None:
    assert attention_of([region(np.random.default_rng(0), a) for a in (1.0, -0.999)], LINES, 3).amin() > 0


def test_no_region_or_an_empty_mask_leaves_weights_of_one() -> None:
    assert torch.equal(attention_of([], LINES, 2), torch.ones(2, *BEAM.shape))
    weights = attention(torch.zeros(2, 32, 32), Projector(BEAM, BEAM.image_grid()), 2.0)
    assert torch.equal(weights, torch.ones(2, *BEAM.shape))


def test_the_maximum_is_that_of_the_scan_and_not_of_each_plane() -> None:
    mask = np.zeros(SHAPE, np.float32)
    mask[0, 10:22, 10:22] = 1
    mask[1, 10:22, 10:22] = 0.5
    weights = attention_of([Region.from_mask("r", mask, strength=2.0)], LINES, 3)
    assert float(weights[0].max()) == pytest.approx(3.0, rel=1e-6)
    assert float(weights[1].max()) == pytest.approx(2.0, rel=5e-3)
    assert torch.equal(weights[2], torch.ones(BEAM.shape))


@pytest.mark.parametrize(("x", "y", "radius"), [(0.0, 0.0, 30.0), (25.0, -18.0, 14.0)])
def test_all_lines_through_a_disk_are_weighted_and_no_others(x: float, y: float, radius: float) -> None:
    beam = ParallelBeam(60, 128, 1.0)
    lines = Lines(beam)
    disk = draw({"type": "ellipse", "centre_mm": [x, y], "axes_mm": [radius, radius]}, lines.grid)
    share = lines.share(Region.from_mask("disk", disk))[0]
    phi, s = beam.angles[:, None], beam.radii[None, :]
    off = np.abs(s - x * np.cos(phi) - y * np.sin(phi))
    assert bool((share.numpy()[off < radius - 1.5] > 0).all())
    assert bool((share.numpy()[off > radius + 1.5] == 0).all())
    chord = np.sqrt(np.clip(radius**2 - off**2, 0, None)) / radius
    inner = off < 0.9 * radius
    assert np.abs(share.numpy() - chord)[inner].max() < 0.03


def test_on_a_ring_the_lines_of_a_disk_are_weighted_and_no_others() -> None:
    ring = RingBeam(views=48, bins=65, radius_mm=160.0)
    lines = Lines(ring)
    disk = draw({"type": "ellipse", "centre_mm": [30, 20], "axes_mm": [25, 25]}, lines.grid)
    share = lines.share(Region.from_mask("disk", disk))[0].numpy()
    from allpet.scan.arc import line_coordinates

    phi, s = line_coordinates(ring)
    off = np.abs(s - 30 * np.cos(phi) - 20 * np.sin(phi))
    step = 2 * math.pi * 160 / 96
    assert bool((share[off < 25 - step] > 0).all()) and bool((share[off > 25 + 2 * step] == 0).all())
    assert share.max() <= 1


def test_strengths_of_overlapping_regions_add_up() -> None:
    mask = np.zeros(SHAPE, np.float32)
    mask[:, 12:20, 12:20] = 1
    one, two = (Region.from_mask("r", mask, strength=a) for a in (1.5, -0.6))
    both = attention_of([one, two], LINES, 3)
    assert float(both.max()) == pytest.approx(1.9, rel=1e-6)
    with pytest.raises(AllpetError, match=r"overlapping regions sum to -1\.2"):
        attention_of([two, two], LINES, 3)


@pytest.mark.parametrize("strength", [-1.0, -3.0, math.nan, math.inf])
def test_a_strength_that_cannot_be_undone_is_refused(strength: float) -> None:
    with pytest.raises(AllpetError, match="above -1"):
        Region.from_mask("r", np.ones((1, 4, 4)), strength=strength)


def test_union_intersection_and_difference() -> None:
    one, two = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    one[0, 5:15, 5:15] = 1
    two[0, 10:20, 10:20] = 0.6
    parts = [Region.from_mask("a", one, kind="hot", strength=2.0), Region.from_mask("b", two)]
    whole = united("u", parts, SHAPE)
    assert (whole.kind, whole.strength) == ("hot", 2.0)
    assert np.allclose(whole.on(SHAPE), np.maximum(one, two))
    assert np.allclose(intersection("i", parts, SHAPE).on(SHAPE), np.minimum(one, two))
    assert np.allclose(difference("d", parts, SHAPE).on(SHAPE), np.minimum(one, 1 - two), atol=1 / 255)
    with pytest.raises(AllpetError, match="covers no voxel"):
        difference("d", [parts[0], parts[0]], SHAPE)


def test_a_region_keeps_its_weights_wherever_its_box_is() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.float32)
    mask[1:, 3:9, 20:31] = np.round(rng.uniform(0, 1, (2, 6, 11)) * 255) / 255
    found = Region.from_mask("r", mask)
    assert np.allclose(found.on(SHAPE), mask) and found.planes == range(1, 3)
    assert np.allclose(found.plane(2, SHAPE), mask[2]) and not found.plane(0, SHAPE).any()
    cut = found.only(range(2, 3))
    assert cut is not None and np.allclose(cut.on((1, 32, 32)), mask[2:])
    assert found.only(range(0, 1)) is None
    assert found.voxels == pytest.approx(mask.sum(), rel=1e-6)
    with pytest.raises(AllpetError, match="reaches to"):
        found.on((2, 32, 32))


def test_the_hash_follows_what_is_covered_and_how_strongly() -> None:
    mask = np.zeros(SHAPE, np.float32)
    mask[0, 4:8, 4:8] = 1
    first = Region.from_mask("a", mask)
    assert first.hash == Region.from_mask("another name", mask).hash
    assert first.hash != Region.from_mask("a", mask, strength=1.5).hash
    assert first.hash != Region.from_mask("a", np.roll(mask, 1, axis=2)).hash


def test_a_label_map_shows_the_later_region_on_top() -> None:
    mask = np.zeros(SHAPE, np.float32)
    mask[0, 4:8, 4:8] = 1
    other = np.roll(mask, 2, axis=1)
    labels = label_map([Region.from_mask("a", mask), Region.from_mask("b", other)], SHAPE)
    assert labels[0, 4, 4] == 1 and labels[0, 6, 4] == 2 and labels[0, 9, 4] == 2 and labels.sum() == 8 + 32


def test_regridding_keeps_place_and_size() -> None:
    fine, coarse = ParallelBeam(8, 96, 2.0).image_grid(), ParallelBeam(8, 40, 5.0).image_grid()
    disk = {"type": "ellipse", "centre_mm": [31, -22], "axes_mm": [20, 20]}
    moved = Region.from_mask("r", draw(disk, fine)).regridded(fine, coarse)
    assert moved is not None
    wanted = draw(disk, coarse)
    assert np.abs(moved.on((1, 40, 40))[0] - wanted).max() < 0.35
    assert moved.voxels * 25 == pytest.approx(math.pi * 400, rel=0.03)


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ({"type": "ellipse", "centre_mm": [5, -3], "axes_mm": [20, 10], "angle_deg": 30}, math.pi * 200),
        ({"type": "rectangle", "centre_mm": [5, -3], "axes_mm": [20, 10], "angle_deg": 30}, 800),
        ({"type": "polygon", "points_mm": [[0, 0], [20, 0], [20, 30], [0, 30]]}, 600),
        ({"type": "pen", "points_mm": [[-10, 0], [20, 0]], "width_mm": 6}, 180 + math.pi * 9),
    ],
)
def test_outlines_cover_their_area_where_they_are(shape: dict, area: float) -> None:
    grid = ParallelBeam(8, 64, 2.0).image_grid()
    drawn = draw(shape, grid)
    assert drawn.sum() * 4 == pytest.approx(area, rel=0.02)
    x, y = np.meshgrid(grid.x, grid.y)
    middle = np.array([(drawn * x).sum(), (drawn * y).sum()]) / drawn.sum()
    centre = shape.get("centre_mm", np.mean(shape.get("points_mm", [[0, 0]]), axis=0))
    assert np.abs(middle - centre).max() < 0.3


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"type": "star"}, "unknown; known"),
        ({"type": "ellipse", "centre_mm": [0, 0], "axes_mm": [0, 4]}, "above 0"),
        ({"type": "ellipse", "centre_mm": [0, math.nan], "axes_mm": [3, 4]}, "must be a number"),
        ({"type": "ellipse", "centre_mm": [0, 0, 0], "axes_mm": [3, 4]}, "2 numbers"),
        ({"type": "polygon", "points_mm": [[0, 0], [1, 1]]}, "3 to"),
        ({"type": "pen", "points_mm": [[0, 0]], "width_mm": -1}, "above 0"),
        ({"type": "pen", "points_mm": "here", "width_mm": 1}, "pairs of numbers"),
    ],
)
def test_shapes_that_cannot_be_drawn_are_refused(shape: dict, message: str) -> None:
    with pytest.raises(AllpetError, match=message):
        draw(shape, BEAM.image_grid())


def test_growing_fills_what_is_hot_and_joined() -> None:
    planes = np.ones((2, 32, 32), np.float32)
    planes[0, 8:14, 8:14] = 10
    planes[1, 8:14, 8:14] = 6
    planes[0, 24:28, 24:28] = 10
    grown = grow(planes, (0, 7, 7))
    assert grown.sum() == 72 and not grown[0, 24:28].any()
    assert grow(planes, (0, 10, 10), share=0.8).sum() == 36
    with pytest.raises(AllpetError, match="outside"):
        grow(planes, (0, 40, 0))
    with pytest.raises(AllpetError, match="no uptake"):
        grow(np.zeros((1, 8, 8)), (0, 2, 2))


def test_attending_scales_all_that_is_in_counts_and_undoes_it() -> None:
    rng = np.random.default_rng(1)
    counts, background = (torch.from_numpy(rng.poisson(20, (3, *BEAM.shape)).astype(np.float32)) for _ in range(2))
    scan = Scan(counts, BEAM, background=background, counts_per_unit=3.0, tracer="FDG", plane_mm=2.0)
    found = attend(scan, [region(rng, 1.0)], strength=2.5)
    assert found.regions[0].strength == 2.5
    assert torch.equal(found.emphasised.sinogram, counts * found.weights)
    assert torch.equal(found.emphasised.background, background * found.weights)
    back = found.undone()
    torch.testing.assert_close(back.sinogram, counts, rtol=3e-7, atol=0)
    torch.testing.assert_close(back.background, background, rtol=3e-7, atol=0)
    assert (found.weights_scan.unit, found.weights_scan.tracer) == ("1", "FDG")
