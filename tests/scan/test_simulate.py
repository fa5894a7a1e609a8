"""simulate(): determinism, splits, units, counts and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.project import Projector
from allpet.scan.dataset import Dataset
from allpet.scan.simulate import REGIONS, simulate

SMALL = {"views": 24, "bins": 32}


@pytest.fixture(scope="module")
def counted() -> Dataset:
    return simulate(9, region="chest", task="low-dose", counts=100_000.0, **SMALL)


def test_a_sample_depends_neither_on_n_nor_on_workers(counted: Dataset) -> None:
    few = simulate(3, region="chest", task="low-dose", counts=100_000.0, **SMALL)
    threads = simulate(9, region="chest", task="low-dose", counts=100_000.0, workers=2, **SMALL)
    assert set(few) == set(counted) == set(threads)
    for name in counted:
        assert np.array_equal(few[name], counted[name][:3]), name
        assert np.array_equal(threads[name], counted[name]), name


def test_subjects_differ_between_splits_seeds_and_subjects() -> None:
    images = [
        simulate(1, split=split, seed=seed, **SMALL).image
        for split in ("train", "validation", "test")
        for seed in (0, 1)
    ]
    images.append(simulate(5, **SMALL).image[4:])
    for i, one in enumerate(images):
        for other in images[:i]:
            assert np.abs(one - other).max() > 1


def test_default_makes_500_sinograms_from_100_subjects_or_more(counted: Dataset) -> None:
    assert counted.subject.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("region", REGIONS)
def test_ideal_sinograms_obey_the_first_two_moment_conditions(region: str) -> None:
    data = simulate(4, region=region, views=32, bins=64)
    sino = data.sinogram.astype(np.float64)
    mass = sino.sum(axis=2) * data.beam.bin_mm
    total = data.image.sum(axis=(1, 2), dtype=np.float64) * data.grid.pixel_mm**2
    assert np.all(np.abs(mass / total[:, None] - 1) < 0.005)
    grid, phi = data.grid, data.beam.angles
    x = (data.image * grid.x).sum(axis=(1, 2)) / data.image.sum(axis=(1, 2))
    y = (data.image * grid.y[:, None]).sum(axis=(1, 2)) / data.image.sum(axis=(1, 2))
    centre = (sino * data.beam.radii).sum(axis=2) / sino.sum(axis=2)
    wanted = x[:, None] * np.cos(phi) + y[:, None] * np.sin(phi)
    assert np.abs(centre - wanted).max() < 0.5  # mm


@pytest.mark.parametrize("region", REGIONS)
def test_ideal_sinograms_lie_on_the_projector_grid(region: str) -> None:
    data = simulate(4, region=region, views=32, bins=128)
    again = Projector(data.beam, data.grid)(torch.from_numpy(data.image)).numpy()
    off = np.linalg.norm(again - data.sinogram) / np.linalg.norm(again)
    assert 1e-3 < off < 0.04  # resolution and sampling differ, geometry and scale do not


def test_low_dose_arrays_fit_together(counted: Dataset) -> None:
    assert counted.unit == "counts"
    assert np.allclose(counted.sinogram.sum(axis=(1, 2)), 100_000, rtol=1e-3)
    assert np.all((counted.dose_fraction >= 0.01) & (counted.dose_fraction <= 0.5))
    assert len(np.unique(counted.dose_fraction)) == 9
    expected = counted.sinogram.sum(axis=(1, 2)) * counted.dose_fraction
    assert np.all(np.abs(counted.observed.sum(axis=(1, 2)) - expected) < 5 * np.sqrt(expected))
    ideal = simulate(9, region="chest", **SMALL)
    scale = counted.counts_per_unit[:, None, None]
    model = scale * counted.attenuation * ideal.sinogram + counted.background
    assert np.allclose(model, counted.sinogram, rtol=1e-4, atol=1e-3)
    assert np.array_equal(ideal.image, counted.image)


def test_attenuation_background_and_mumap_ranges(counted: Dataset) -> None:
    assert counted.attenuation.min() > 0 and counted.attenuation.max() <= 1
    assert counted.attenuation.min() < 0.3
    assert counted.background.min() > 0
    assert counted.mumap.min() >= 0 and 0.009 < counted.mumap.max() < 0.0175


def test_given_dose_fraction_and_count_range_are_kept() -> None:
    data = simulate(4, task="low-dose", dose_fraction=0.25, counts=(1e4, 1e5), **SMALL)
    assert np.all(data.dose_fraction == 0.25)
    totals = data.sinogram.sum(axis=(1, 2))
    assert np.all((totals > 0.99e4) & (totals < 1.01e5)) and np.ptp(totals) > 100


def test_pitch_and_field_of_view() -> None:
    assert simulate(1, **SMALL).beam.bin_mm == 8.0
    assert simulate(1, region="abdomen", **SMALL).beam.bin_mm == 16.0
    zoomed = simulate(1, bin_mm=2.0, **SMALL)
    assert zoomed.grid.pixel_mm == 2.0
    rows, columns = np.indices((32, 32)) - 15.5
    assert not zoomed.image[0][rows**2 + columns**2 > 17**2].any()


def test_neighbouring_slices_belong_together() -> None:
    data = simulate(8, region="brain", **SMALL)
    assert np.all(np.diff(data.level_mm.reshape(2, 4), axis=1) > 0)
    heads = (data.mumap > 0.005).reshape(2, 4, -1)

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        return (a & b).sum() / (a | b).sum()

    assert overlap(heads[0, 1], heads[0, 2]) > 0.7


def test_prompt_and_tracer_spellings() -> None:
    for tracer in ("FDG", "18F-FDG", "fdg"):
        data = simulate(1, tracer=tracer, **SMALL)
        assert data.prompt == {"tracer": "FDG", "isotope": "18F", "region": "brain", "task": None}
    assert data.unit == "kBq/mL*mm"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"tracer": "FDGG"}, "known are FDG"),
        ({"region": "leg"}, "brain, chest, abdomen"),
        ({"task": "magic"}, "low-dose"),
        ({"split": "all"}, "train, validation, test"),
        ({"n": 0}, "at least 1"),
        ({"views": 2}, "at least 8"),
        ({"seed": -1}, "negative"),
        ({"dose_fraction": 1.5, "task": "low-dose"}, "at most 1"),
        ({"counts": 0.0, "task": "low-dose"}, "positive"),
        ({"bin_mm": -2.0}, "positive"),
    ],
)
def test_bad_values_end_in_one_line(bad: dict[str, object], says: str) -> None:
    with pytest.raises(AllpetError, match=says) as caught:
        simulate(**{"n": 1, **bad})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
