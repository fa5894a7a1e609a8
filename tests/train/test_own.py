"""Pairs out of a user's own scans: independent halves of the counts, the mu map of the factors, any grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from allpet import AllPET, Scan, write
from allpet.cli import main
from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.scan.dataset import Dataset
from allpet.scan.simulate import simulate
from allpet.task import planes
from allpet.task.planes import working_beam
from allpet.train.own import KEPT, own_pairs, own_sets
from allpet.train.pairs import PairSet
from model_support import tiny


@pytest.fixture(scope="module")
def scans() -> list[Scan]:
    """Two people, as a scanner with another grid than the model's would give them."""
    options = dict(region="abdomen", task="attenuation", views=96, bins=80, counts=2e6, slices_per_subject=2, seed=2)
    scan = simulate(4, **options).scan()  # type: ignore[arg-type]
    return [scan.planes(slice(0, 2)), scan.planes(slice(2, 4))]


def test_the_two_parts_of_the_counts_are_independent_and_unbiased(scans: list[Scan]):
    data = own_pairs("low-dose", scans, dose_fraction=0.25, seed=1)
    assert data.observed.shape == (4, 128, 128) and set(data.subject) == {0, 1}
    ratio = data.observed.sum((1, 2)) / 0.25 / data.sinogram.sum((1, 2))
    assert np.abs(ratio - 1).max() < 0.01
    flat = scans[0].planes(slice(0, 1))
    flat = replace(flat, sinogram=torch.full_like(flat.sinogram, 40.0), background=None, randoms=None)
    same = own_pairs("low-dose", [flat], size=(96, 80), dose_fraction=0.5, seed=3)
    low, rest = same.observed[0].ravel() / 0.5, same.sinogram[0].ravel()
    assert abs(np.corrcoef(low, rest)[0, 1] + 1) < 1e-6  # given all counts, what one part has the other lacks
    poisson = replace(flat, sinogram=torch.poisson(flat.sinogram, torch.Generator().manual_seed(0)))
    drawn = own_pairs("low-dose", [poisson], size=(96, 80), dose_fraction=0.5, seed=3)
    assert abs(np.corrcoef(drawn.observed[0].ravel(), drawn.sinogram[0].ravel())[0, 1]) < 0.03


def test_each_scan_is_on_the_grid_that_it_will_be_worked_on(scans: list[Scan]):
    beam = scans[1].geometry
    assert isinstance(beam, ParallelBeam)
    small = replace(scans[1], geometry=replace(beam, bin_mm=beam.bin_mm / 2))
    sets = own_sets("low-dose", [scans[0], small], seed=1)
    assert [s.beam for s in sets] == [working_beam(scan, 128, 128) for scan in (scans[0], small)]
    assert sets[1].beam.bin_mm < 0.7 * sets[0].beam.bin_mm
    assert [set(s.subject) for s in sets] == [{0}, {1}]
    together = own_pairs("low-dose", [scans[0], small], seed=1)
    assert together.beam == sets[0].beam and np.array_equal(together.observed[:2], sets[0].observed)


def test_planes_that_will_be_restored_together_are_so_in_pairs(monkeypatch: pytest.MonkeyPatch):
    options = dict(region="abdomen", task="low-dose", views=32, bins=32, slices_per_subject=8, slice_mm=3.0, seed=2)
    scan = replace(simulate(8, dose_fraction=1.0, **options).scan(), neighbours=True)  # type: ignore[arg-type]
    sets = own_sets("low-dose", [scan, replace(scan, neighbours=False)], (32, 32), seed=1)
    assert len(sets) == 3 + 1 and [set(s.subject) for s in sets] == [{0}] * 3 + [{1}]
    shares = [np.unique(s.dose_fraction) for s in sets]
    assert [len(share) for share in shares] == [1, 1, 1, 8] and len(np.unique(np.concatenate(shares[:3]))) == 3
    assert all(np.array_equal(s.half <= s.observed, np.ones_like(s.half, bool)) for s in sets[:3])
    assert sets[0].half.sum() / sets[0].observed.sum() == pytest.approx(0.5, abs=0.02) and "half" not in sets[3]
    restorer = tiny().need("restorer")
    one = sets[0]
    applied = replace(
        scan, sinogram=torch.from_numpy(one.observed), background=scan.background * float(one.dose_fraction[0])
    )
    monkeypatch.setattr(planes, "half_of", lambda counts, first: torch.from_numpy(one.half[first : first + 4]))
    seen = torch.cat([part.seen.views.image for part in planes.parts(tiny(), applied, applied.attenuation)])
    pairs = PairSet.from_dataset(one, restorer)
    assert torch.allclose(pairs.views.image, seen, rtol=0.01, atol=0.01)
    arrays = {name: values for name, values in one.arrays.items() if name != "half"}
    alone = PairSet.from_dataset(replace(one, arrays=arrays), restorer)
    assert not torch.allclose(pairs.views.image, alone.views.image, rtol=0.05, atol=0.05)


def test_planes_of_few_counts_are_not_thinned_to_nothing(scans: list[Scan]):
    rng = torch.Generator().manual_seed(0)
    thin = [
        replace(scan, sinogram=torch.poisson(scan.sinogram * (2000 / float(scan.sinogram[0].sum())), rng))
        for scan in scans
    ]
    thin = [replace(scan, background=torch.full_like(scan.sinogram, 0.05)) for scan in thin]
    data = own_pairs("low-dose", thin, seed=1)
    left = (data.observed - data.dose_fraction[:, None, None] * data.background).sum((1, 2))
    assert len(data) and left.min() > KEPT - 4 * (2 * KEPT) ** 0.5
    pairs = PairSet.from_dataset(data, AllPET.from_pretrained().need("restorer"))
    assert float(pairs.target.abs().amax()) < 1000


def test_the_mu_map_is_that_of_the_factors(scans: list[Scan]):
    data = own_pairs("attenuation", scans)
    inner = data.mumap[:, 48:80, 48:80]
    assert inner.mean() == pytest.approx(0.0096, rel=0.1)
    assert np.isfinite(data.sinogram).all() and (data.sinogram >= 0).all()


def test_the_network_takes_them(scans: list[Scan]):
    restorer = AllPET.from_pretrained().need("restorer")
    for task in ("low-dose", "attenuation"):
        pairs = PairSet.from_dataset(own_pairs(task, scans), restorer)
        assert len(pairs) == 4 and pairs.tasks == (task,)
        assert torch.isfinite(pairs.stack).all() and torch.isfinite(pairs.target).all()
        assert float(pairs.target[:, 0].float().mean()) > 0.05


def test_reconstructions_are_not_blurred_once_more(scans: list[Scan]):
    data = own_pairs("low-dose", scans, dose_fraction=0.25, seed=1)
    restorer = AllPET.from_pretrained().need("restorer")
    assert data.attributes["image_fwhm_mm"] == data.attributes["acquisition"]["fwhm_mm"]

    def sharpness(data: Dataset) -> torch.Tensor:
        target = PairSet.from_dataset(data, restorer).target[:, 0].float()
        return target.square().sum(dim=(-2, -1)) / target.sum(dim=(-2, -1)).square()

    image = torch.from_numpy(data.image)
    own = image.square().sum(dim=(-2, -1)) / image.sum(dim=(-2, -1)).square()
    torch.testing.assert_close(sharpness(data), own, rtol=2e-3, atol=0)
    drawn = replace(data, attributes={k: v for k, v in data.attributes.items() if k != "image_fwhm_mm"})
    assert (sharpness(drawn) < 0.995 * own).all()
    with pytest.raises(AllpetError, match="image_fwhm_mm is nan"):
        PairSet.from_dataset(replace(data, attributes=data.attributes | {"image_fwhm_mm": float("nan")}), restorer)


def test_adapt_takes_files_of_scans(
    scans: list[Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    for k, scan in enumerate(scans):
        write(scan, Path(f"{k}.hs"))
    tiny().save_pretrained("base")
    words = "adapt low-dose --pairs 0.hs 1.hs --out mine --max-steps 2 --model base"
    assert main(words.split()) == 0, capsys.readouterr().err
    assert main("apply low-dose 0.hs --out better.hs --model mine --samples 2 --dose-fraction 1".split()) == 0
    assert main("adapt delayed --pairs 0.hs 1.hs --out other --model base".split()) == 2
    assert "two scans of the same person" in capsys.readouterr().err and not Path("other").exists()


def test_what_cannot_be_pairs_says_so(scans: list[Scan]):
    one, two = scans
    with pytest.raises(AllpetError, match="2 tracers and regions"):
        own_pairs("low-dose", [one, replace(two, tracer="PSMA")])
    with pytest.raises(AllpetError, match="attenuation factors"):
        own_pairs("attenuation", [replace(one, attenuation=None)])
    with pytest.raises(AllpetError, match="no plane has 1000 counts"):
        own_pairs("low-dose", [replace(one, sinogram=torch.zeros_like(one.sinogram), background=None, randoms=None)])
    with pytest.raises(AllpetError, match="kBq/mL"):
        own_pairs("low-dose", [replace(one, unit="kBq/mL*mm")])
