"""The shipped weights do what the results page says, on people they never saw."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from allpet import AllPET
from allpet.metrics import mirror_seam, moment_residual, psnr
from allpet.report.low_dose_table import gaussian_full, score, simulated_people, tuned_width
from allpet.scan.simulate import simulate


@pytest.fixture(scope="module")
def model() -> AllPET:
    return AllPET.from_pretrained()


def test_size_and_words(model):
    parameters = sum(p.numel() for part in (model.denoiser, model.restorer) for p in part.parameters())
    assert parameters <= 12_000_000
    assert model.config["tracers"] == ["FDG"] and model.config["regions"] == ["brain", "chest", "abdomen"]
    assert model.config["data"]["sinograms"] == 500 and model.config["data"]["subjects"] >= 100


@pytest.mark.parametrize("region", ["brain", "chest", "abdomen"])
def test_generated_sinograms_are_sinograms(model, region):
    scan = model.generate(f"18F-FDG {region}", n=3, seed=11)
    s = scan.sinogram
    assert float(mirror_seam(s).median()) < 1.5 and float(moment_residual(s, scan.geometry).max()) < 0.002
    unseen = torch.from_numpy(simulate(24, region=region, split="test", slices_per_subject=1).sinogram)
    assert 0.4 < float(s.mean() / unseen.mean()) < 2.5

    def width(x: torch.Tensor) -> torch.Tensor:
        """Root mean square radius of each sinogram, in bins."""
        radius = torch.arange(x.shape[-1]) - (x.shape[-1] - 1) / 2
        return ((x * radius**2).sum(dim=(-2, -1)) / x.sum(dim=(-2, -1))).sqrt()

    low, high = width(unseen).min(), width(unseen).max()
    assert bool((width(s) > 0.8 * low).all()) and bool((width(s) < 1.2 * high).all())


@pytest.mark.parametrize("fraction", [1 / 4, 1 / 20, 1 / 100])
def test_low_dose_beats_input_and_tuned_gaussian(model, fraction):
    people = simulated_people(2, "test", seed=3)
    width = tuned_width(simulated_people(2, "validation", seed=3), fraction)
    ours, smooth, raw = [], [], []
    for truth in people:
        scan = truth.scan(fraction, 5)
        ours.append(score(model.apply("low-dose", scan, samples=0).expected.sinogram, truth))
        smooth.append(score(gaussian_full(scan, width), truth))
        raw.append(score(scan.sinogram / fraction, truth))
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
