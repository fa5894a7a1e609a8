"""The shipped weights do what the results page says, on people they never saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from allpet import AllPET
from allpet.metrics import mirror_seam, moment_residual, psnr, range_residual, sinogram_features, sliced_wasserstein
from allpet.model.allpet import SHIPPED
from allpet.model.prompt import REGIONS, TRACERS
from allpet.project import Projector
from allpet.report import tasks_table
from allpet.report.low_dose_table import gaussian_full, simulated_people, tuned_width
from allpet.report.low_dose_table import score as low_dose_score
from allpet.report.tasks_table import score
from allpet.scan.simulate import simulate
from allpet.study.attention import compare
from allpet.study.cases import CASES
from allpet.study.strange import cut_off, rods
from allpet.task.rivals import RIVALS


@pytest.fixture(scope="module")
def model() -> AllPET:
    return AllPET.from_pretrained()


def test_size_and_words(model):
    parts = (model.denoiser, model.restorer, model.translator, model.focus)
    parameters = sum(p.numel() for part in parts for p in part.parameters())
    assert parameters <= 12_000_000
    files = SHIPPED.glob("*.safetensors")
    assert sum(file.stat().st_size for file in files) <= 24 * 2**20
    known = len(model.config["tracers"])  # others may have been added behind them since
    assert model.config["tracers"] == list(TRACERS)[:known] and known >= 3 and model.config["regions"] == list(REGIONS)
    assert model.config["data"]["sinograms"] == 500 and model.config["data"]["subjects"] >= 100


@pytest.mark.parametrize("prompt", ["FDG brain", "DOPA head-neck", "PSMA chest", "PSMA abdomen", "FDG pelvis"])
def test_generated_sinograms_are_sinograms_of_their_prompt(model, prompt):
    tracer, region = prompt.split()
    scan = model.generate(prompt, n=16, seed=11)
    s = scan.sinogram
    real = torch.from_numpy(simulate(32, tracer=tracer, region=region, split="test", slices_per_subject=1).sinogram)
    projector = Projector(scan.geometry, scan.geometry.image_grid())
    assert float(mirror_seam(s).mean()) < 1.2 * float(mirror_seam(real).mean())
    assert float(moment_residual(s, scan.geometry).mean()) < 1.2 * float(moment_residual(real, scan.geometry).mean())
    assert float(range_residual(s, projector).mean()) < 1.2 * float(range_residual(real, projector).mean())
    assert 0.4 < float(s.mean() / real.mean()) < 2.5
    sets = [sinogram_features(x) for x in (s, real[:16], real[16:])]
    floor = sliced_wasserstein(sets[1], sets[2])
    assert sliced_wasserstein(sets[0], sets[2]) < 2.5 * floor
    other = model.generate("FDG brain" if region != "brain" else "PSMA pelvis", n=16, seed=11).sinogram
    assert sliced_wasserstein(sinogram_features(other), sets[2]) > sliced_wasserstein(sets[0], sets[2])


@pytest.mark.parametrize("fraction", [1 / 4, 1 / 20, 1 / 100])
def test_low_dose_beats_input_and_tuned_gaussian(model, fraction):
    people = simulated_people(2, "test", seed=3)
    width = tuned_width(simulated_people(2, "validation", seed=3), fraction)
    ours, smooth, raw = [], [], []
    for truth in people:
        scan = truth.scan(fraction, 5)
        ours.append(low_dose_score(model.apply("low-dose", scan, samples=0).expected.sinogram, truth))
        smooth.append(low_dose_score(gaussian_full(scan, width), truth))
        raw.append(low_dose_score(scan.sinogram / fraction, truth))
    for name in ours[0]:
        mine = np.mean([s[name] for s in ours])
        assert mine > np.mean([s[name] for s in smooth]) and mine > np.mean([s[name] for s in raw]), name


def test_standard_deviation_is_of_the_error_s_size_and_in_its_place(model):
    ratios, places = [], []
    for truth in simulated_people(2, "test", seed=4):
        result = model.apply("low-dose", truth.scan(1 / 20, 1), samples=6)
        assert result.std is not None
        error, std = result.expected.sinogram - truth.expected, result.std.sinogram
        ratios.append(float(std.square().mean().sqrt() / error.square().mean().sqrt()))
        blocks = [avg_pool2d(x.square(), 8).sqrt().flatten() for x in (error, std)]
        places.append(float(torch.corrcoef(torch.stack(blocks))[0, 1]))
    assert 0.7 < np.mean(ratios) < 1.4
    assert np.mean(places) > 0.5


def test_a_coarser_grid_of_the_same_person_is_restored_too(model):
    data = simulate(1, region="brain", task="low-dose", dose_fraction=0.05, split="test", views=96, bins=90, seed=5)
    from allpet.scan import Scan

    observed, truth = torch.from_numpy(data.observed), torch.from_numpy(data.sinogram)
    background = torch.from_numpy(data.background) * 0.05
    scan = Scan(observed, data.beam, attenuation=torch.from_numpy(data.attenuation), background=background)
    result = model.apply("low-dose", scan, dose_fraction=0.05, samples=0).expected
    assert result.geometry == data.beam
    assert float(psnr(result.sinogram, truth)) > float(psnr(observed / 0.05, truth)) + 10


CASES_THAT_WIN = {
    "attenuation: FDG abdomen": ("uncorrected", "uniform mu"),
    "delayed 120 min: PSMA abdomen": ("copy", "scaled"),
    "convert to DOPA: FDG brain": ("copy", "scaled"),
    "separate, 6 frames: FDG + PSMA abdomen": ("scaled", "organ shares"),
}


@pytest.mark.parametrize("name", CASES_THAT_WIN)
def test_tasks_beat_what_a_user_would_otherwise_do(model, name):
    case = next(case for case in CASES if case.name == name)
    data, training = case.simulate(4, "test", seed=41), case.simulate(20, "train", seed=1)
    mine = score(tasks_table.ours(model, data), data)
    for rival in CASES_THAT_WIN[name]:
        theirs = score(RIVALS[case.task][rival](data, training), data)
        for key, sign in (("psnr_sinogram", 1), ("organ_error", -1)):
            gain = np.mean([sign * (a[key] - b[key]) for a, b in zip(mine, theirs, strict=True)])
            assert gain > 0, (rival, key)
    facts = tasks_table.doubt(model, data)
    assert 0.7 < facts["coverage"] <= 1


def test_usual_scans_are_usual_and_strange_ones_are_not(model):
    known = dict(region="chest", tracer="DOPA", task="low-dose", dose_fraction=0.25, split="test", seed=41)
    scan = simulate(4, slices_per_subject=1, **known).scan()
    result = model.apply("low-dose", scan, samples=0)
    assert not any("WARNING" in note for note in result.notes)
    wrong = model.apply("low-dose", replace(scan, tracer="FDG"), samples=0)
    assert any("look more like DOPA than like FDG" in note for note in wrong.notes)
    for strange in (rods(scan), cut_off(scan)):
        found = model.apply("low-dose", strange, samples=0)
        assert float(found.strangeness.median()) > float(result.strangeness.max())


def test_attention_lowers_the_error_in_lesions_and_leaves_the_rest(model):
    rows = compare(model, 12, 5, cases=(("FDG", "abdomen"), ("FDG", "chest")), fractions=(1 / 20,))
    assert len(rows) >= 8
    inside, outside = (
        np.mean([row[f"{where}_with"] for row in rows]) / np.mean([row[f"{where}_without"] for row in rows])
        for where in ("in", "out")
    )
    assert inside < 0.85 and outside < 1.02
