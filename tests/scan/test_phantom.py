"""Bodies: deformation, uptake, attenuation and slices of brains and trunks."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from allpet.scan.brain import Brain, random_brain, template
from allpet.scan.phantom import LABEL, LABELS, Canvas, Lesion, Waves, draw_levels
from allpet.scan.trunk import RANGE_MM, random_trunk


@cache
def _slices(region: str, seed: int, size: int = 128) -> tuple[Canvas, ...]:
    rng = np.random.default_rng(seed)
    body = random_brain(rng, 4) if region == "brain" else random_trunk(rng, 4, region)
    fov = 256.0 if region == "brain" else 512.0
    x = (np.arange(size) - (size - 1) / 2) * fov / size
    return tuple(body.render(x, -x, float(z)) for z in body.levels)


def _head_points(brain: Brain) -> tuple[np.ndarray, np.ndarray]:
    """Template points and where they lie in the head (fixed-point inversion of the warp)."""
    points = template().points
    matrix, shift = brain.affine[:, :3], brain.affine[:, 3]
    head = np.linalg.solve(matrix, (points - shift).T).T
    for _ in range(20):
        head = np.linalg.solve(matrix, (points - shift - brain.displacement(head)).T).T
    return points, head


@pytest.mark.parametrize("seed", range(12))
def test_brain_deforms_beyond_any_affine_map_by_5_mm_without_folding(seed: int) -> None:
    brain = random_brain(np.random.default_rng(seed), 4)
    points, head = _head_points(brain)
    design = np.column_stack((head, np.ones(len(head))))
    rest = points - design @ np.linalg.lstsq(design, points, rcond=None)[0]
    rms = np.sqrt(np.mean(np.sum(rest**2, axis=1)))
    assert 5.0 <= rms < 10.0
    steps = [(brain.displacement(head + e) - brain.displacement(head - e)) / 2 for e in np.eye(3)]
    volume = np.linalg.det(brain.affine[:, :3] + np.stack(steps, axis=2))
    assert (volume * np.sign(np.median(volume)) > 0).mean() > 0.995


def test_brain_has_ventricles_grey_white_skull_and_scalp() -> None:
    middle = _slices("brain", 1)[2]
    for name in ("grey matter", "white matter", "csf", "bone", "scalp"):
        assert (middle.labels == LABEL[name]).sum() > 50
    grey = np.median(middle.suv[middle.labels == LABEL["grey matter"]])
    white = np.median(middle.suv[middle.labels == LABEL["white matter"]])
    assert 2.0 < grey / white < 5.0


def test_ventricle_growth_grows_csf() -> None:
    brain = random_brain(np.random.default_rng(5), 4)
    x = (np.arange(128) - 63.5) * 2
    areas = []
    for growth in (-0.3, 0.6):
        grown = Brain(**{**brain.__dict__, "ventricles": growth, "lesions": ()})
        near = grown.render(x, -x, 12.0).labels[44:84, 44:84]
        areas.append((near == LABEL["csf"]).sum())
    assert areas[1] > 1.3 * areas[0]


@pytest.mark.parametrize("region", ["brain", "chest", "abdomen"])
def test_values_are_physical(region: str) -> None:
    for seed in range(3):
        for canvas in _slices(region, seed):
            assert np.isfinite(canvas.suv).all() and canvas.suv.min() >= 0 and canvas.suv.max() < 40
            assert canvas.mu.min() >= 0 and canvas.mu.max() <= 0.0175
            air = canvas.labels == LABEL["air"]
            if region != "brain":
                assert not canvas.suv[air].any() and not canvas.mu[air].any()
            soft = np.isin(canvas.labels, [LABEL["liver"], LABEL["muscle"], LABEL["grey matter"], LABEL["spleen"]])
            assert np.all((canvas.mu[soft] > 0.0088) & (canvas.mu[soft] < 0.0104))


def test_trunks_hold_their_organs() -> None:
    found = {region: set() for region in RANGE_MM}
    for region, names in found.items():
        for seed in range(4):
            for canvas in _slices(region, seed):
                names.update(LABELS[value] for value in np.unique(canvas.labels))
    assert found["chest"] >= {"lung", "blood pool", "myocardium", "mediastinum", "bone", "muscle", "fat", "arm"}
    assert found["abdomen"] >= {"liver", "spleen", "kidney", "bowel", "stomach", "bone", "muscle", "fat", "arm"}


def test_liver_is_on_the_patients_right_and_spine_at_the_back() -> None:
    rows, columns = np.indices((128, 128))
    for canvas in (c for seed in range(4) for c in _slices("abdomen", seed)):
        liver, bone = canvas.labels == LABEL["liver"], canvas.labels == LABEL["bone"]
        if liver.sum() > 200:
            assert columns[liver].mean() < 64
        if bone.sum() > 20:
            assert rows[canvas.labels != 0].mean() < np.percentile(rows[bone], 90)


def test_waves_agree_on_grid_and_at_points_and_keep_their_rms() -> None:
    waves = Waves.draw(np.random.default_rng(2), 10, 30, rms=2.0, count=12)
    x, y = np.linspace(-300, 300, 61), np.linspace(300, -300, 41)
    grid = waves.on_grid(x, y, 7.0)
    points = np.stack([*np.meshgrid(x, y), np.full((41, 61), 7.0)], axis=-1).reshape(-1, 3)
    assert np.allclose(grid.ravel(), waves.at(points), atol=1e-4)
    assert np.sqrt(np.mean(grid**2)) == pytest.approx(2.0, rel=0.25)
    mirror = waves.mirrored(1.0).on_grid(x, y, 7.0)
    assert np.allclose(mirror, mirror[:, ::-1], atol=1e-3)


def test_lesion_has_its_size_uptake_and_necrotic_centre() -> None:
    x = (np.arange(101) - 50) * 0.5
    canvas = Canvas.blank(x, -x, 0.0)
    canvas.labels[:] = LABEL["liver"]
    flat = Waves(np.zeros((1, 3)), np.zeros(1), np.zeros(1))
    canvas.add_lesion(Lesion((3.0, -2.0, 0.0), (10.0, 10.0, 10.0), 8.0, 0.5, flat))
    whole = np.isin(canvas.labels, (LABEL["lesion"], LABEL["lesion centre"]))
    assert whole.sum() * 0.25 == pytest.approx(np.pi * 100, rel=0.03)
    assert np.all(canvas.suv[canvas.labels == LABEL["lesion"]] == 8.0)
    core = canvas.labels == LABEL["lesion centre"]
    assert core.sum() == pytest.approx(whole.sum() / 4, rel=0.05)
    assert canvas.suv[core] == pytest.approx(0.8)


def test_levels_are_sorted_apart_and_in_range() -> None:
    for seed in range(20):
        levels = draw_levels(np.random.default_rng(seed), -30, 60, 4)
        assert np.all(np.diff(levels) >= 0.2 * 22.5 - 1e-9)
        assert levels[0] >= -30 and levels[-1] <= 60
