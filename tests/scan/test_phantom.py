"""Bodies: deformation, uptake, attenuation and slices of brains and trunks."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from allpet.scan.brain import Brain, _striatum, random_brain, template
from allpet.scan.neck import random_neck
from allpet.scan.phantom import LABEL, LABELS, MU, Canvas, Lesion, Waves, draw_levels
from allpet.scan.tracers import TRACERS, typical_uptake
from allpet.scan.trunk import random_trunk

REGIONS = ("brain", "head-neck", "chest", "abdomen", "pelvis")


@cache
def _slices(region: str, seed: int, size: int = 128) -> tuple[Canvas, ...]:
    rng = np.random.default_rng(seed)
    fov = 512.0
    if region == "brain":
        body, fov = random_brain(rng, 4), 256.0
    elif region == "head-neck":
        body, fov = random_neck(rng, 4), 320.0
    else:
        body = random_trunk(rng, 4, region)
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


def _suv(canvas: Canvas, tracer: str = "FDG", lesions: int = 8) -> np.ndarray:
    """SUV of a slice with the tracer's typical uptake; every lesion is 8, its centre 0.8."""
    start, length = TRACERS[tracer].first_s
    uptake = typical_uptake(tracer)
    values = {name: np.atleast_1d(uptake[name].suv(start, start + length)) for name in MU}
    return canvas.activity(values, [(np.array([8.0]), np.array([0.8]))] * lesions)[0]


def test_brain_has_ventricles_grey_white_striatum_cerebellum_skull_and_scalp() -> None:
    found: dict[str, int] = {}
    for canvas in (*_slices("brain", 1), *_slices("brain", 2)):
        for name in LABELS:
            found[name] = found.get(name, 0) + int((canvas.labels == LABEL[name]).sum())
    for name in ("grey matter", "white matter", "csf", "skull", "scalp", "striatum", "cerebellum"):
        assert found[name] > 50, name
    middle = _slices("brain", 1)[1]
    suv = _suv(middle)
    grey = np.median(suv[middle.labels == LABEL["grey matter"]])
    white = np.median(suv[middle.labels == LABEL["white matter"]])
    assert 1.7 < grey / white < 5.0


def test_striatum_is_where_an_atlas_has_basal_ganglia() -> None:
    """Centres of basal ganglia regions of Seitzman et al. 2020 (MNI), as shipped with nilearn."""
    from nilearn.datasets import fetch_coords_seitzman_2018

    atlas = fetch_coords_seitzman_2018(ordered_regions=False)
    rois = np.asarray(atlas["rois"], float)
    names = np.array([str(region) for region in atlas["regions"]])
    ganglia = rois[names == "basalGanglia"]
    upper = ganglia[(ganglia[:, 2] > -8) & (np.abs(ganglia[:, 0]) < 32)]
    inside = _striatum([upper[:, 0], upper[:, 1], upper[:, 2]])
    assert len(upper) >= 8 and (inside > 0.3).mean() > 0.5
    cortex = rois[np.isin(names, ("cortexL", "cortexR"))]
    assert (_striatum([cortex[:, 0], cortex[:, 1], cortex[:, 2]]) > 0.3).mean() < 0.02


def test_ventricle_growth_grows_csf() -> None:
    brain = random_brain(np.random.default_rng(5), 4)
    x = (np.arange(128) - 63.5) * 2
    areas = []
    for growth in (-0.3, 0.6):
        grown = Brain(**{**brain.__dict__, "ventricles": growth, "lesions": ()})
        near = grown.render(x, -x, 12.0).labels[44:84, 44:84]
        areas.append((near == LABEL["csf"]).sum())
    assert areas[1] > 1.3 * areas[0]


@pytest.mark.parametrize("tracer", sorted(TRACERS))
@pytest.mark.parametrize("region", REGIONS)
def test_values_are_physical(region: str, tracer: str) -> None:
    for seed in range(3):
        for canvas in _slices(region, seed):
            suv = _suv(canvas, tracer)
            assert np.isfinite(suv).all() and suv.min() >= 0 and suv.max() < 150
            assert canvas.mu.min() >= 0 and canvas.mu.max() <= 0.0175
            air = canvas.labels == LABEL["air"]
            assert not suv[air].any() and canvas.mu[air].max() <= 0.001
            soft = np.isin(canvas.labels, [LABEL["liver"], LABEL["muscle"], LABEL["grey matter"], LABEL["spleen"]])
            assert np.all((canvas.mu[soft] > 0.0088) & (canvas.mu[soft] < 0.0104))


@pytest.mark.parametrize(
    ("region", "organs"),
    [
        ("chest", "lung blood myocardium mediastinum marrow muscle fat breast spinal_cord mucosa"),
        ("abdomen", "liver spleen kidney_cortex kidney_medulla urine bowel colon stomach_wall pancreas duodenum bile"),
        ("pelvis", "urine prostate uterus colon marrow cortical_bone muscle blood fat"),
        (
            "head-neck",
            "salivary_gland submandibular_gland thyroid tonsil tongue mucosa eye spinal_cord cerebellum skull blood",
        ),
    ],
)
def test_bodies_hold_their_organs(region: str, organs: str) -> None:
    found = {
        LABELS[value] for seed in range(8) for canvas in _slices(region, seed) for value in np.unique(canvas.labels)
    }
    assert found >= {name.replace("_", " ") for name in organs.split()}


def test_bladders_and_breath_vary() -> None:
    trunks = [random_trunk(np.random.default_rng(seed), 4, "pelvis") for seed in range(12)]
    x = (np.arange(96) - 47.5) * 4
    urine = [(t.render(x, -x, -310.0).labels == LABEL["urine"]).sum() for t in trunks]
    assert max(urine) > 4 * (np.median(urine) + 1) or min(urine) * 3 < max(urine)
    assert np.ptp([t.breath_mm for t in trunks]) > 8
    assert np.ptp([t.weight_kg for t in trunks]) > 8
    assert 0 < np.mean([bool(random_trunk(np.random.default_rng(s), 1, "chest").arms) for s in range(20)]) < 1


def test_liver_is_on_the_patients_right_and_spine_at_the_back() -> None:
    rows, columns = np.indices((128, 128))
    for canvas in (c for seed in range(4) for c in _slices("abdomen", seed)):
        liver, bone = canvas.labels == LABEL["liver"], canvas.labels == LABEL["marrow"]
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
    canvas.paint(np.ones_like(canvas.tissue, bool), "liver")
    flat = Waves(np.zeros((1, 3)), np.zeros(1), np.zeros(1))
    canvas.add_lesion(Lesion((3.0, -2.0, 0.0), (10.0, 10.0, 10.0), "hot", "liver", 0.5, flat), 0)
    labels, suv = canvas.labels, _suv(canvas)
    whole = np.isin(labels, (LABEL["lesion"], LABEL["lesion centre"]))
    assert whole.sum() * 0.25 == pytest.approx(np.pi * 100, rel=0.03)
    assert np.all(suv[labels == LABEL["lesion"]] == 8.0)
    core = labels == LABEL["lesion centre"]
    assert core.sum() == pytest.approx(whole.sum() / 4, rel=0.05)
    assert suv[core] == pytest.approx(0.8)


def test_mixed_pixels_add_their_shares_and_lesions_cover_them() -> None:
    x = (np.arange(21) - 10) * 1.0
    canvas = Canvas.blank(x, -x, 0.0)
    index = np.arange(canvas.tissue.size)
    share = np.linspace(0, 1, index.size, dtype=np.float32)
    canvas.mix(index, {"grey matter": share, "white matter": 1 - share})
    flat = Waves(np.zeros((1, 3)), np.zeros(1), np.zeros(1))
    canvas.add_lesion(Lesion((0.0, 0.0, 0.0), (4.0, 4.0, 4.0), "hot", "grey matter", 0.0, flat), 0)
    values = {"grey matter": np.array([4.0, 1.0]), "white matter": np.array([1.0, 1.0])}
    out = canvas.activity(values, [(np.array([9.0, 2.0]), np.array([0.0, 0.0]))])
    hit = canvas.labels == LABEL["lesion"]
    assert out.shape == (2, 21, 21) and hit.sum() == pytest.approx(np.pi * 16, rel=0.15)
    assert np.all(out[0][hit] == 9) and np.allclose(out[1][~hit], 1)
    assert np.allclose(out[0][~hit], (1 + 3 * share.reshape(21, 21))[~hit])
    assert np.all(canvas.labels[~hit & (share.reshape(21, 21) > 0.51)] == LABEL["grey matter"])


def test_levels_fall_apart_and_in_range() -> None:
    for seed in range(20):
        levels = draw_levels(np.random.default_rng(seed), -30, 60, 4)
        assert np.all(np.diff(levels) <= -0.2 * 22.5 + 1e-9)
        assert levels[-1] >= -30 and levels[0] <= 60
        stack = draw_levels(np.random.default_rng(seed), -30, 60, 8, 3.0)
        assert np.allclose(np.diff(stack), -3.0) and stack[-1] >= -30 and stack[0] <= 60
    long = draw_levels(np.random.default_rng(0), -30, 60, 64, 3.0)
    assert long.mean() == pytest.approx(15.0)
