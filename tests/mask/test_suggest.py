"""Coarse segmentation: drawn disks are found, nothing is found where there is nothing, and it says why."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid
from allpet.mask.body import are_neighbours, find_body
from allpet.mask.suggest import fixed_limit, suggest
from allpet.scan.core import Image

SIZE, PIXEL = 96, 4.0
HOT, COLD, RIM = (-60.0, 30.0), (65.0, 20.0), (0.0, -45.0)
"""Middles of the drawn foci, x and y in mm."""


def disk(at=(0.0, 0.0), radius=10.0):
    """Bool ``(SIZE, SIZE)``."""
    grid = ImageGrid(SIZE, PIXEL)
    return np.hypot(grid.x[None, :] - at[0], grid.y[:, None] - at[1]) < radius


def phantom(noise=0.04, seed=0):
    """A body of 1 with a hot disk of 4, a cold one of 0.2 and a hot rim of 4 about a cold centre, 5 mm FWHM; truths."""
    plane = np.where(disk(radius=140), 1.0, 0.0)
    centre = disk(RIM, 14)
    truth = {"hot": disk(HOT, 14), "cold": disk(COLD, 18), "rim": disk(RIM, 28) & ~centre, "centre": centre}
    for name, value in (("hot", 4.0), ("cold", 0.2), ("rim", 4.0), ("centre", 0.3)):
        plane[truth[name]] = value
    rng = np.random.default_rng(seed)
    plane = ndimage.gaussian_filter(plane * (1 + 3 * noise * rng.normal(size=plane.shape)), 5 / 2.355 / PIXEL)
    return plane.astype(np.float32), truth


def image_of(array, unit="SUV", plane_mm=3.0, **known):
    array = torch.as_tensor(np.asarray(array, np.float32))
    return Image(array, ImageGrid(array.shape[-1], PIXEL), unit, plane_mm, **known)


def dice(region, truth):
    mask = region.on((1, *truth.shape))[0] > 0.5
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


@pytest.mark.parametrize("noise", [0.0, 0.04, 0.1])
@pytest.mark.parametrize("unit", ["SUV", "kBq/mL", "counts/mm"])
def test_drawn_foci_are_found_first(noise, unit):
    plane, truth = phantom(noise)
    found = suggest(image_of(plane, unit))
    for name, kind in (("hot", "hot"), ("rim", "hot"), ("cold", "cold"), ("centre", "cold")):
        best = max((r for r in found if r.kind == kind), key=lambda r: dice(r, truth[name]))
        assert dice(best, truth[name]) > 0.75, name
        assert found.index(best) < 6, name
    hot = [r for r in found if r.kind == "hot"]
    assert {max(("hot", "rim"), key=lambda name: dice(r, truth[name])) for r in hot[:2]} == {"hot", "rim"}
    centre = max((r for r in found if r.name.startswith("cold centre")), key=lambda r: dice(r, truth["centre"]))
    assert dice(centre, truth["centre"]) > 0.75 and "rays meet the rim" in centre.why


def test_ranked_named_and_limited():
    found = suggest(image_of(phantom()[0]))
    scores = [r.score for r in found]
    assert scores == sorted(scores, reverse=True) and all(0 < score <= 1 for score in scores)
    assert len({r.name for r in found}) == len(found)
    assert [r.hash for r in suggest(image_of(phantom()[0]), limit=2)] == [r.hash for r in found[:2]]
    assert suggest(image_of(phantom()[0]), limit=0) == []
    with pytest.raises(AllpetError, match="limit is -1"):
        suggest(image_of(phantom()[0]), limit=-1)


def test_why_gives_the_limits():
    plane, truth = phantom()
    found = suggest(image_of(plane))
    hot = max(found, key=lambda r: dice(r, truth["hot"]))
    mask = hot.on((1, SIZE, SIZE))[0] > 0.5
    assert f"Mean {plane[mask].mean():.3g} SUV against" in hot.why
    assert "% of the way" in hot.why or "SUV 2.5" in hot.why
    assert "SUV 2.5" in hot.why and hot.why.count(" z ") >= 1
    # it ends where it says
    limit = float(re.search(r"ends (?:at|where uptake falls below) ([0-9.]+) SUV", hot.why)[1])
    assert plane[mask].min() >= limit - 0.01 * limit
    assert "SUV 2.5" not in suggest(image_of(plane, "kBq/mL"))[0].why


def test_suv_limit_where_it_can_be_known():
    plane, _ = phantom()
    assert fixed_limit(image_of(plane)) == 2.5 and fixed_limit(image_of(plane, "counts/mm")) is None
    assert fixed_limit(image_of(plane, "kBq/mL")) is None
    known = dict(weight_kg=70.0, injected_mbq=350.0, decay_reference="injection", isotope="18F")
    assert fixed_limit(image_of(plane, "kBq/mL", **known)) == pytest.approx(2.5 * 350 / 70)
    low = suggest(image_of(np.where(disk(radius=140), 1.0, 0) + 4.0 * disk(HOT, 16), "SUV"))
    assert low[0].kind == "hot"


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, np.nan, np.inf])
@pytest.mark.parametrize("planes", [1, 3])
def test_nothing_without_contrast(value, planes):
    assert suggest(image_of(np.full((planes, SIZE, SIZE), value))) == []


def test_an_even_disk_has_no_foci():
    assert suggest(image_of(np.where(disk(radius=140), 1.0, 0.0))) == []


def test_no_planes_and_few_pixels():
    assert suggest(image_of(np.zeros((0, SIZE, SIZE)))) == []
    for size in (1, 2, 5):
        array = np.random.default_rng(size).random((2, size, size))
        assert isinstance(suggest(image_of(array)), list)


def test_negative_values_change_nothing_much():
    plane, truth = phantom()
    outside = ~disk(radius=150)
    ringing = np.where(outside, -0.3 * np.abs(np.random.default_rng(1).normal(size=plane.shape)), plane)
    found = suggest(image_of(ringing))
    assert max(dice(r, truth["hot"]) for r in found[:4]) > 0.75
    assert all(np.isfinite(r.score) for r in found)


def test_outline_is_the_body():
    body = find_body(phantom()[0], PIXEL)
    truth = disk(radius=140)
    assert 2 * (body.mask & truth).sum() / (body.mask.sum() + truth.sum()) > 0.97
    assert body.level == pytest.approx(1.0, rel=0.1)


def volume(planes=9, noise=0.06):
    """A hot ball (radius 12 mm) in a cylinder, planes 4 mm apart, and its mask."""
    rng = np.random.default_rng(3)
    truth = np.stack([disk(HOT, max(12**2 - (4.0 * (k - planes // 2)) ** 2, 0) ** 0.5) for k in range(planes)])
    array = np.where(disk(radius=140), 1.0, 0.0) * (1 + 3 * noise * rng.normal(size=truth.shape)) + 4 * truth
    return ndimage.gaussian_filter(array, (0, 0.6, 0.6)), truth


def test_neighbouring_planes_are_linked():
    array, truth = volume()
    found = suggest(image_of(array, plane_mm=4.0))
    mask = found[0].on(truth.shape) > 0.5
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.7
    assert len(found[0].planes) >= 5 and "in planes" in found[0].why
    apart = suggest(image_of(array, plane_mm=4.0), linked=False)
    assert all(len(r.planes) == 1 for r in apart)
    assert len(found) <= 12 < len(apart)
    assert max(len(r.planes) for r in suggest(image_of(array, plane_mm=40.0))) == 1


def test_unrelated_planes_are_not_neighbours():
    array, _ = volume()
    assert are_neighbours(array, 4.0, PIXEL)
    assert not are_neighbours(array, 12.0, PIXEL) and not are_neighbours(array[:1], 4.0, PIXEL)
    rng = np.random.default_rng(0)
    others = np.stack([np.where(disk(rng.uniform(-60, 60, 2), 60), 1.0, 0) for _ in range(8)])
    assert not are_neighbours(others, 4.0, PIXEL)
    # simulated slices of several people, which say nothing of their distance
    from allpet.scan.simulate import simulate

    data = simulate(8, region="abdomen", split="train", seed=1, views=48, bins=48, slices_per_subject=2)
    assert not are_neighbours(data.image, 1.0, data.grid.pixel_mm)


blob = st.tuples(
    st.floats(-150, 150), st.floats(-150, 150), st.floats(2, 90), st.floats(-3, 50) | st.sampled_from([0.0, 1e-6, 1e6])
)


@settings(max_examples=40)
@given(st.lists(st.lists(blob, max_size=6), min_size=1, max_size=3), st.integers(0, 99), st.floats(0, 1))
def test_any_blobs(planes, seed, noise):
    rng = np.random.default_rng(seed)
    size = 40
    grid = ImageGrid(size, 8.0)
    array = np.zeros((len(planes), size, size), np.float32)
    for plane, blobs in zip(array, planes, strict=True):
        for x, y, radius, value in blobs:
            plane[np.hypot(grid.x[None, :] - x, grid.y[:, None] - y) < radius] += value
    array *= 1 + noise * rng.normal(size=array.shape)
    image = Image(torch.from_numpy(array.astype(np.float32)), grid, "SUV", 4.0)
    found = suggest(image)
    for region in found:
        region.check(array.shape)
        assert region.kind in ("hot", "cold") and 0 <= region.score <= 1 and region.why.endswith(".")
        assert "nan" not in region.why and "inf" not in region.why.split()
    again = suggest(image)
    assert [(r.hash, r.score, r.why) for r in found] == [(r.hash, r.score, r.why) for r in again]
    assert torch.equal(image.array, torch.from_numpy(array.astype(np.float32)))
