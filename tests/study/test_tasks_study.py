"""The tasks' evaluation: baselines that are what they say, scores that are right, tables that are whole."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from allpet.report.figures import png
from allpet.report.tasks_figures import case_figure
from allpet.report.tasks_table import doubt, evaluate_tasks, markdown, score
from allpet.scan.simulate import simulate
from allpet.study.cases import CASES, Case
from allpet.study.data import pair_stores
from allpet.study.heldout import judge as heldout_judge
from allpet.study.heldout import log_likelihood
from allpet.study.heldout import markdown as heldout_markdown
from allpet.study.lowshot import curve, without
from allpet.study.plain import Plain, PlainNet, PlainPairs, load_plain
from allpet.study.strange import auc, cut_off, judge, rods
from allpet.study.strange import markdown as strange_markdown
from allpet.task.rivals import RIVALS, share_of, truth
from allpet.train import train
from allpet.train.calibrate import familiar
from allpet.train.pairs import PairSet
from model_support import tiny

SHAPE = (32, 32)
FEW = {case.task: case for case in reversed(CASES)}


@pytest.mark.parametrize("task", FEW)
def test_every_baseline_gives_trues_of_the_right_size(task):
    case = FEW[task]
    data, training = case.simulate(2, "test", 3, SHAPE), case.simulate(4, "train", 1, SHAPE)
    true = truth(data)
    for name, rival in RIVALS[task].items():
        made = rival(data, training)
        assert made.shape[0] == 2 and made.shape[2:] == true.shape[2:], name
        assert bool(torch.isfinite(made).all()), name
        if name in ("scaled", "organ ratios", "organ shares", "early frame"):
            assert made.shape == true.shape
            assert 0.4 < float(made.sum() / true.sum()) < 2.5, name


def test_scores_of_the_truth_are_perfect_and_of_a_scaled_one_are_not():
    data = FEW["separate"].simulate(2, "test", 3, (64, 64))
    for facts in score(truth(data), data):
        assert facts["nrmse_sinogram"] == 0 and facts["organ_error"] == pytest.approx(0, abs=1e-6)
    for facts in score(1.1 * truth(data), data):
        assert facts["nrmse_sinogram"] == pytest.approx(0.1, abs=1e-3)
        assert facts["organ_error"] == pytest.approx(0.1, abs=0.01) and facts["cross_talk"] > 0


def test_uniform_mu_is_nearly_right_where_mu_is_uniform():
    case = Case("attenuation", "FDG", "brain")
    data = case.simulate(2, "test", 3, (64, 64))
    rough = RIVALS["attenuation"]["uncorrected"](data, data)
    better = RIVALS["attenuation"]["uniform mu"](data, data)
    assert float((better - truth(data)).norm()) < 0.5 * float((rough - truth(data)).norm())


def test_static_cases_have_no_frames_and_names_say_what_they_are():
    static = next(case for case in CASES if case.static)
    assert "frames" not in static.simulate(1, shape=SHAPE)
    assert static.name == "separate, static: FDG + PSMA abdomen"
    assert CASES[1].name == "low-dose 1/20: FDG brain" and len({case.name for case in CASES}) == len(CASES)


def test_the_table_has_every_method_and_its_intervals():
    model, cases = tiny(), [FEW["attenuation"], FEW["separate"]]
    table = evaluate_tasks(model, 2, (3,), cases, PlainNet((8, 16), 16))
    methods = [row["method"] for row in table]
    assert methods[:4] == ["uncorrected", "uniform mu", "U-Net", "allpet"] and methods[-1] == "allpet"
    assert "early frame" in methods  # there are frames
    assert table[3]["n"] == 2 and 0 <= table[3]["coverage"] <= 1
    text = markdown(table)
    assert "cross-talk (%)" in text and text.count("| allpet |") == 2
    picture = png(case_figure(model, FEW["attenuation"]))
    assert len(picture) > 10_000


def test_coverage_is_of_the_stated_interval():
    model = tiny(idle=True)
    data = FEW["low-dose"].simulate(2, "test", 3, SHAPE)
    model.config["calibration"] = {"low-dose": {"image": 1e6}}
    assert doubt(model, data)["coverage"] == 1.0
    model.config["calibration"] = {"low-dose": {"image": 1e-9}}
    assert doubt(model, data)["coverage"] < 0.05


def test_the_u_net_learns_and_is_told_the_same(tmp_path):
    data = FEW["delayed"].simulate(6, "train", 1, SHAPE)
    pairs = PlainPairs.from_dataset(data, tiny().restorer)
    asked = PairSet.from_dataset(data, tiny().restorer).question
    assert torch.equal(pairs.question.task, asked.task) and torch.equal(pairs.question.decay, asked.decay)
    again = pairs.target[:, :1].float() * (pairs.unit[:, None, None] / share_of(data))[:, None]
    assert torch.allclose(again, truth(data), rtol=2e-3, atol=1e-3)
    train(pairs, tmp_path, Plain, max_steps=12, report_steps=6, tensorboard=False)
    assert sum(p.numel() for p in load_plain(tmp_path).parameters()) < 2e6


def test_few_pairs_end_to_end(tmp_path):
    tiny().save_pretrained(tmp_path / "base")
    case = Case("convert", "FDG", "abdomen", {"to": "PSMA"})
    rows = curve(tmp_path / "base", tmp_path, counts=(4,), minutes=0.02, people=2, case=case)
    assert [row["method"] for row in rows][-3:] == ["base, not adapted", "adapted", "U-Net from scratch"]
    data = case.simulate(2, "train", 1, SHAPE)
    pairs = PairSet.from_dataset(data, tiny().restorer)
    assert len(without(pairs, "convert")) == 0 and len(without(pairs, "delayed")) == 2


def test_pairs_of_the_shipped_translator_share_no_body(tmp_path):
    stores = pair_stores(tmp_path)
    assert len({options["seed"] for _, _, options in stores}) == len(stores) == len({path for path, _, _ in stores})
    by_task = {}
    for _, count, options in stores:
        by_task[options["task"]] = by_task.get(options["task"], 0) + count
    assert by_task == {"low-dose": 510, "attenuation": 510, "delayed": 540, "convert": 540, "separate": 510}


def test_strange_scans_are_made_as_said_and_judged():
    model = tiny(idle=True)
    model.familiar = familiar(model, people=4, components=6)
    assert auc(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])) == 1
    assert auc(torch.ones(3), torch.ones(2)) == 0.5
    data = simulate(2, region="chest", task="low-dose", views=32, bins=32)
    scan = data.scan()
    less = cut_off(scan)
    assert 0 < float((less.sinogram > 0).float().sum()) < float((scan.sinogram > 0).float().sum())
    assert float(rods(scan).sinogram.sum()) == pytest.approx(float(scan.sinogram[0].sum()), rel=0.05)
    rows = judge(model, people=2)
    assert len(rows) == 15 and all(0 <= row["wrong_tracer"] <= 1 for row in rows)
    assert strange_markdown(rows).count("\n") == 17 and np.isfinite(rows[0]["cut_off"])


def test_the_right_mean_is_the_most_likely():
    rng = torch.Generator().manual_seed(0)
    mean = 3 + torch.rand(1, 40, 40, generator=rng)
    counts, live = torch.poisson(mean, generator=rng), torch.ones(1, 40, 40, dtype=torch.bool)
    right = log_likelihood(counts, mean, live)
    assert right > log_likelihood(counts, 0.8 * mean, live) and right > log_likelihood(counts, 1.2 * mean, live)
    assert right > log_likelihood(counts, mean.flip(-1), live)


@pytest.mark.skipif("ALLPET_DATA" not in os.environ, reason="ALLPET_DATA is not set: real list mode is elsewhere")
def test_a_measured_half_is_more_likely_given_a_smooth_estimate_than_given_the_other_half_s_counts():
    path = Path(os.environ["ALLPET_DATA"]) / "mmr_fdg_listmode" / "small_listmode_file.l"
    rows, cost = heldout_judge(tiny(idle=True), path, 0.3, slice(60, 62))
    gain = {row["method"]: row["gain"] for row in rows}
    assert gain["randoms alone"] == 0 and gain["input"] < 0 < gain["Gaussian, 8 bins"]
    assert cost["planes"] == 2 and "2 planes restored" in heldout_markdown(rows, cost)
