"""simulate(): determinism, splits, units, counts and errors."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from allpet.errors import AllpetError
from allpet.io.store import open_store
from allpet.project import Projector
from allpet.scan.dataset import Dataset
from allpet.scan.phantom import LABEL
from allpet.scan.simulate import REGIONS, simulate

SMALL = {"views": 24, "bins": 32}


@pytest.fixture(scope="module")
def counted() -> Dataset:
    return simulate(9, region="chest", task="low-dose", counts=100_000.0, **SMALL)


def test_a_sample_depends_neither_on_n_nor_on_workers(counted: Dataset) -> None:
    few = simulate(3, region="chest", task="low-dose", counts=100_000.0, **SMALL)
    processes = simulate(9, region="chest", task="low-dose", counts=100_000.0, workers=2, **SMALL)
    assert set(few) == set(counted) == set(processes)
    for name in counted:
        assert np.array_equal(few[name], counted[name][:3]), name
        assert np.array_equal(processes[name], counted[name]), name


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
    assert np.all((counted.randoms >= 0) & (counted.randoms <= counted.background))
    assert np.array_equal(ideal.image, counted.image)


def test_attenuation_background_and_mumap_ranges(counted: Dataset) -> None:
    assert counted.attenuation.min() > 0 and counted.attenuation.max() <= 1
    assert counted.attenuation.min() < 0.3
    assert counted.background.min() > 0
    assert counted.mumap.min() >= 0 and 0.009 < counted.mumap.max() < 0.0175


def test_a_dose_without_a_task_is_refused() -> None:
    with pytest.raises(AllpetError, match="needs a task"):
        simulate(1, dose_fraction=0.1, **SMALL)


def test_given_dose_fraction_and_count_range_are_kept() -> None:
    data = simulate(4, task="low-dose", dose_fraction=0.25, counts=(1e4, 1e5), **SMALL)
    assert np.all(data.dose_fraction == 0.25)
    totals = data.sinogram.sum(axis=(1, 2))
    assert np.all((totals > 0.99e4) & (totals < 1.01e5)) and np.ptp(totals) > 100


def test_pitch_and_field_of_view() -> None:
    assert simulate(1, **SMALL).beam.bin_mm == 8.0
    assert simulate(1, region="abdomen", **SMALL).beam.bin_mm == 16.0
    assert simulate(1, region="head-neck", **SMALL).beam.bin_mm == 10.0
    zoomed = simulate(1, bin_mm=2.0, **SMALL)
    assert zoomed.grid.pixel_mm == 2.0
    rows, columns = np.indices((32, 32)) - 15.5
    assert not zoomed.image[0][rows**2 + columns**2 > 17**2].any()


def test_slices_fall_from_head_to_feet() -> None:
    data = simulate(8, region="brain", **SMALL)
    assert np.all(np.diff(data.level_mm.reshape(2, 4), axis=1) < 0)


@pytest.mark.parametrize("region", REGIONS)
def test_neighbouring_slices_of_a_3d_subject_belong_together(region: str) -> None:
    """Planes 3 mm apart differ far less than the same planes of another subject, and the less the closer they are."""
    data = simulate(16, region=region, slices_per_subject=8, slice_mm=3.0, views=24, bins=64)
    assert np.allclose(np.diff(data.level_mm[:8]), -3.0, atol=1e-4)
    stack = data.sinogram.reshape(2, 8, -1)

    def difference(a: np.ndarray, b: np.ndarray) -> float:
        return float((np.linalg.norm(a - b, axis=-1) / np.linalg.norm(a, axis=-1)).mean())

    near, far = difference(stack[:, :-1], stack[:, 1:]), difference(stack[:, :-4], stack[:, 4:])
    assert near < far < difference(stack[0], stack[1])
    assert near < 0.25


def test_the_same_people_whatever_the_tracer_task_and_spacing() -> None:
    fdg, psma = (simulate(2, region="abdomen", tracer=tracer, **SMALL) for tracer in ("FDG", "PSMA"))
    assert np.array_equal(fdg.mumap, psma.mumap) and np.array_equal(fdg.labels, psma.labels)
    assert np.abs(fdg.image - psma.image).max() > 1
    convert = simulate(2, region="abdomen", task="convert", to="PSMA", **SMALL)
    assert np.array_equal(convert.image, psma.image) and np.array_equal(convert.image_observed, fdg.image)
    assert np.array_equal(convert.frames[:, 1], psma.sinogram)


def test_delayed_frames_decay_and_follow_their_tracer() -> None:
    """The delayed frame of blood and liver falls faster than decay alone, that of a hot lesion slower."""
    early = simulate(12, region="abdomen", task="delayed", delay_minutes=60.0, **SMALL)
    decay = 2 ** (-60 / 109.77)
    liver = early.labels == LABEL["liver"]
    late_to_first = early.image[liver].mean() / early.image_observed[liver].mean()
    assert 0.6 * decay < late_to_first < 0.97 * decay
    share = early.frames[:, 1].sum() / early.frames[:, 0].sum()
    assert 0.5 * decay < share < 1.1 * decay
    assert early.attributes["frame_start_s"][1] - early.attributes["frame_start_s"][0] == 3600
    model = early.counts_per_unit[:, None, None] * early.attenuation * early.frames[:, 1]
    assert np.allclose(early.sinogram, model, rtol=1e-4, atol=1e-3 * model.max())


def test_attenuation_task_gives_the_scan_without_attenuation() -> None:
    data = simulate(2, region="chest", task="attenuation", **SMALL)
    ideal = simulate(2, region="chest", **SMALL)
    assert np.allclose(data.sinogram, data.counts_per_unit[:, None, None] * ideal.sinogram, rtol=1e-4)
    assert np.all(data.dose_fraction == 1)
    expected = data.sinogram * data.attenuation + data.background
    assert data.observed.sum() == pytest.approx(expected.sum(), rel=5 / float(np.sqrt(expected.sum())))


def test_two_tracers_add_up_frame_by_frame() -> None:
    options = dict(region="abdomen", tracer="FDG + PSMA", task="separate", counts=2e6, **SMALL)
    data = simulate(2, stagger_minutes=30.0, ratio=1.0, **options)
    both = data.sinogram + data.second + data.background
    assert data.observed.sum() == pytest.approx(both.sum(), rel=5 / float(np.sqrt(both.sum())))
    assert data.frames.shape[:2] == data.frames_background.shape[:2] == (2, 6)
    starts, lengths = data.attributes["frame_start_s"], data.attributes["frame_duration_s"]
    assert starts[0] == 0 and np.allclose(np.add(starts, lengths)[:-1], starts[1:])
    # the second tracer is injected at the end of the second frame: till then there is none of it
    with pytest.raises(AllpetError, match="stagger_minutes is for task separate; this one is delayed"):
        simulate(1, region="brain", task="delayed", stagger_minutes=30.0)
    wide = simulate(2, stagger_minutes=30.0, ratio=1e-6, **options)
    ratio = data.frames[:, 0].sum() / wide.frames[:, 0].sum()
    trues = [(d.frames - d.frames_background).sum(axis=(0, 2, 3)) / (d.counts_per_unit.sum()) for d in (data, wide)]
    assert ratio > 0
    assert trues[0][0] == pytest.approx(trues[1][0], rel=0.05)
    assert trues[0][4] > 1.2 * trues[1][4]
    assert np.all(data.second_injected_mbq == data.injected_mbq)


def test_less_activity_makes_fewer_randoms_than_less_time() -> None:
    options = dict(region="chest", task="low-dose", dose_fraction=0.1, counts=5e6, **SMALL)
    time, activity = (simulate(4, thinning=how, **options) for how in ("time", "activity"))
    randoms = time.randoms.sum()
    assert activity.sinogram.sum() == pytest.approx(time.sinogram.sum(), rel=1e-6)
    lost = time.observed.sum() - activity.observed.sum()
    assert lost == pytest.approx(randoms * (0.1 - 0.01), rel=0.05)


def test_a_scanner_brings_its_gaps_and_resolution() -> None:
    data = simulate(2, region="brain", task="low-dose", scanner="mMR", views=252, bins=128, bin_mm=2.0445)
    assert data.attributes["acquisition"]["scanner"] == "Siemens mMR"
    gap = data.normalisation == 0
    assert 0.0 < gap.mean() < 0.3
    assert not data.observed[gap].any() and not data.sinogram[gap].any()
    plain = simulate(2, region="brain", task="low-dose", views=252, bins=128, bin_mm=2.0445)
    assert "normalisation" not in plain


def test_quick_background_is_close_in_total() -> None:
    options = dict(region="abdomen", task="low-dose", **SMALL)
    exact, quick = (simulate(4, background=how, **options) for how in ("simulated", "quick"))
    assert np.array_equal(exact.image, quick.image) and np.array_equal(exact.attenuation, quick.attenuation)
    shares = [(d.background.sum() / d.sinogram.sum()) for d in (exact, quick)]
    assert abs(shares[0] - shares[1]) < 0.3


def test_prompt_and_tracer_spellings() -> None:
    for tracer in ("FDG", "18F-FDG", "fdg"):
        data = simulate(1, tracer=tracer, **SMALL)
        assert data.prompt == {"tracer": "FDG", "isotope": "18F", "region": "brain", "task": None}
    assert data.unit == "kBq/mL*mm"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"tracer": "FDGG"}, "known are FDG"),
        ({"tracer": "FDG + PSMA"}, "needs one tracer"),
        ({"tracer": "FDG + FDG", "task": "separate"}, "twice"),
        ({"task": "separate"}, "two tracers"),
        ({"task": "convert"}, "convert to"),
        ({"task": "convert", "to": "FDG"}, "already"),
        ({"scanner": "mMR2"}, "known are"),
        ({"scanner": "mMR", "bin_mm": 9.0}, "does not fit"),
        ({"labels": "x.nii.gz"}, "table"),
        ({"slice_mm": 0.0}, "positive"),
        ({"thinning": "dose"}, "time, activity"),
        ({"background": "none"}, "simulated, quick"),
        ({"region": "leg"}, "brain, head-neck, chest"),
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


def test_killed_in_the_middle_the_same_command_goes_on(tmp_path: Path) -> None:
    """kill -9 after the first finished block; the store is then that of an undisturbed run, sample by sample."""
    path = tmp_path / "people.zarr"
    words = f"simulate {path} --region pelvis -n 150 --views 16 --bins 16 --task low-dose --workers 1".split()
    process = subprocess.Popen([sys.executable, "-m", "allpet", *words], stdout=subprocess.DEVNULL)
    done = path.with_name(".people.zarr.building") / "done"
    for _ in range(1200):
        if done.is_dir() and any(done.glob("*.json")):
            break
        time.sleep(0.05)
    process.kill()
    assert process.wait() != 0 and not path.exists()
    subprocess.run([sys.executable, "-m", "allpet", *words[:-1], "2"], check=True, stdout=subprocess.DEVNULL)
    store = open_store(path).load()
    assert [p.name for p in tmp_path.iterdir()] == ["people.zarr"]
    again = simulate(150, region="pelvis", views=16, bins=16, task="low-dose")
    for name in again:
        assert np.array_equal(store[name], again[name]), name
