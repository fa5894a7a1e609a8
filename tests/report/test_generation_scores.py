"""Scores of a prompt: a perfect generator is at its floors, noise and copies are far from them."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam
from allpet.metrics import PromptClassifier, prompt_features
from allpet.report.generation_scores import score, summary
from allpet.scan.simulate import simulate
from allpet.train.augment import turn

BEAM = ParallelBeam(48, 48, 256 / 48)


@lru_cache
def _people(split: str, n: int) -> torch.Tensor:
    data = simulate(n, tracer="FDG", region="brain", views=48, bins=48, seed=2, split=split, slices_per_subject=1)
    return torch.from_numpy(data["sinogram"])


@lru_cache
def _rows() -> dict[str, dict]:
    test = _people("test", 72)
    fresh, a, b, train = test[:24], test[24:48], test[48:], _people("train", 24)
    noise = torch.rand(24, 48, 48, generator=torch.Generator().manual_seed(0))
    features = prompt_features(torch.cat([train, train.flip(-1) + 5 * train.mean()]), BEAM)
    classifier = PromptClassifier.fit(features, ["FDG brain"] * 24 + ["other"] * 24)
    copies = torch.stack([turn(s, 5 * k) for k, s in enumerate(train)])
    sets = {"fresh": fresh, "noise": noise, "copies": copies}
    return {name: score(s, a, b, train, BEAM, classifier, "FDG brain") for name, s in sets.items()}


def test_fresh_people_are_at_the_floor():
    row = _rows()["fresh"]
    assert row["n"] == 24 and row["label"] == "FDG brain" and row["passed"] and row["accuracy"] > 0.9
    for kind in ("sinogram", "image"):
        assert 0.4 < row[f"{kind}_distance_ratio"] < 2.5 and row[f"{kind}_coverage"] > 0.7
        ratio = row[f"{kind}_distance"] / row[f"{kind}_distance_floor"]
        assert row[f"{kind}_distance_ratio"] == pytest.approx(ratio)
    assert row["mirror_seam_ratio"] == pytest.approx(1, abs=0.2)
    assert row["range_residual_ratio"] == pytest.approx(1, abs=0.2)
    assert row["range_residual_noise"] > 5 * row["range_residual_floor"]
    assert row["moment_residual_noise"] > 100 * row["moment_residual_floor"]


def test_noise_is_far_from_it():
    row = _rows()["noise"]
    assert row["sinogram_distance_ratio"] > 3 and row["image_distance_ratio"] > 3
    assert row["sinogram_precision"] < 0.1 and row["sinogram_coverage"] < 0.2 < row["sinogram_coverage_floor"]
    assert row["sinogram_kernel"] > row["sinogram_kernel_floor"]
    assert row["range_residual_ratio"] > 5 and row["moment_residual_median_ratio"] > 100


def test_copies_are_found_and_nothing_else_gives_them_away():
    row = _rows()["copies"]
    assert not row["passed"] and row["audit_closest"] < 0.02 and row["audit_p_value"] < 0.01
    assert row["mirror_seam_ratio"] == pytest.approx(1, abs=0.3)


def test_every_number_is_finite_and_summed_up():
    rows = list(_rows().values())
    for row in rows:
        assert all(math.isfinite(v) for v in row.values() if not isinstance(v, str))
    out = summary(rows)
    assert out["passed"] == {"mean": pytest.approx(sum(r["passed"] for r in rows) / 3), "worst": 0}
    assert "label" not in out
    assert out["sinogram_distance"]["worst"] == max(r["sinogram_distance"] for r in rows)
    assert out["image_recall"]["worst"] == min(r["image_recall"] for r in rows)
    assert out["accuracy"]["mean"] == pytest.approx(sum(r["accuracy"] for r in rows) / 3)
    assert "accuracy" not in summary([rows[0], {k: v for k, v in rows[1].items() if k != "accuracy"}])


def test_bad_input_says_what_is_wrong():
    s = _people("train", 24)
    with pytest.raises(AllpetError, match="real_b holds 7"):
        score(s[:8], s, s[:7], s, BEAM)
    with pytest.raises(AllpetError, match="train has shape"):
        score(s, s, s, s[..., :-1], BEAM)
    with pytest.raises(AllpetError, match="no rows"):
        summary([])
