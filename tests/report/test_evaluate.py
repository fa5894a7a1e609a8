"""Scores of scans and images by name, and what cannot be compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ImageGrid, ParallelBeam
from allpet.io import write
from allpet.io.store import write_store
from allpet.metrics import psnr
from allpet.project import Projector
from allpet.report.evaluate import evaluate_file, scores
from allpet.scan import Image, Scan
from allpet.scan.simulate import simulate

BEAM, GRID = ParallelBeam(40, 32, 4.0), ImageGrid(32, 4.0)


def _scan() -> Scan:
    x = torch.zeros(2, *GRID.shape)
    x[0, 8:20, 10:25] = 1
    x[1, 12:14, 5:9] = 3
    return Scan(Projector(BEAM, GRID)(x), BEAM)


def test_a_projection_is_consistent_and_noise_is_not():
    scan = _scan()
    noise = scan.with_sinogram(torch.rand(2, *BEAM.shape, generator=torch.Generator().manual_seed(0)))
    good, bad = scores(scan, None), scores(noise, None)
    assert set(good) == {"mirror_seam", "moment_residual", "range_residual"}
    for name in ("moment_residual", "range_residual"):
        assert (good[name] < 0.02).all() and (bad[name] > 0.1).all()


def test_truth_adds_image_scores():
    scan = _scan()
    estimate = scan.with_sinogram(scan.sinogram + 1)
    assert {"psnr", "ssim", "nrmse", "mirror_seam"} <= set(scores(estimate, scan))
    x = Image(torch.rand(2, 32, 32), GRID)
    out = scores(Image(x.array + 0.1, GRID), x, data_range=1.0)
    assert set(out) == {"psnr", "ssim", "nrmse"}
    torch.testing.assert_close(out["psnr"], psnr(x.array + 0.1, x.array, 1.0))


def test_what_cannot_be_compared_is_said():
    scan = _scan()
    for truth in (scan.planes(slice(1)), Image(torch.rand(2, 32, 32), GRID), Scan(scan.sinogram, BEAM, "kBq/mL*mm")):
        with pytest.raises(AllpetError, match="do not match"):
            scores(scan, truth)
    with pytest.raises(AllpetError, match="nothing to score"):
        scores(Image(torch.rand(2, 32, 32), GRID), None)


def test_truth_of_a_store_of_pairs_is_what_is_wanted_not_the_input(tmp_path: Path):
    pairs = simulate(2, region="chest", task="low-dose", dose_fraction=0.1, views=16, bins=24, background="quick")
    write_store(pairs, tmp_path / "pairs.zarr")
    write(Scan(torch.from_numpy(pairs.sinogram), pairs.beam), tmp_path / "restored.hs")
    result = evaluate_file(tmp_path / "restored.hs", tmp_path / "pairs.zarr", None, None)
    assert result["scores"]["nrmse"]["max"] < 1e-6


def test_an_exact_estimate_has_a_spread_that_is_a_number(tmp_path: Path):
    scan = _scan()
    write(scan, tmp_path / "a.hs")
    same = evaluate_file(tmp_path / "a.hs", tmp_path / "a.hs", None, None)["scores"]["psnr"]
    assert (same["mean"], same["sd"]) == (float("inf"), 0.0)
    values = scan.sinogram.clone()
    values[0] += 1
    write(scan.with_sinogram(values), tmp_path / "b.hs")
    assert evaluate_file(tmp_path / "b.hs", tmp_path / "a.hs", None, None)["scores"]["psnr"]["sd"] is None
