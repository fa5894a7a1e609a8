"""The study of neighbouring planes: the same counts for all methods, the right planes judged, gains as printed."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from allpet.report.low_dose_table import patient_slices
from allpet.scan import Scan
from allpet.study import __main__ as study
from allpet.study import neighbours, neighbours_figure, plain
from allpet.study import patients as patients_study
from allpet.study.heldout import across
from allpet.study.neighbours import APART, TOGETHER, fits, images, judged, model_estimate, stack, widths
from allpet.study.neighbours_figure import draw, figure_of
from allpet.study.plain import PlainNet
from model_support import tiny
from study.test_patients import write_patients

OFFSETS = (-2, -1, 0, 1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("patients")
    write_patients(path)
    return path


@pytest.fixture(scope="module")
def patients(folder):
    return list(zip(*(patient_slices(folder, k, relative=True) for k in OFFSETS), strict=True))


@pytest.fixture(autouse=True)
def three_in_the_middle(monkeypatch):
    monkeypatch.setattr(neighbours, "MIDDLE", slice(1, 4))


def test_planes_of_a_patient_keep_their_share_of_the_counts(folder, patients):
    alone = [float(truth.expected.sum()) for truth in patient_slices(folder, 2)]
    assert alone == pytest.approx([500_000] * len(alone), rel=1e-4)
    for planes in patients:
        sums = [float(truth.expected.sum()) for truth in planes]
        assert sums[2] == pytest.approx(500_000, rel=1e-4) and max(sums) == sums[2]  # the tumour is in it
        assert 0.5 < min(sums) / sums[2] < 0.98
    scan = stack(patients[0], 0.1, 3)
    assert isinstance(scan, Scan) and scan.neighbours and len(scan) == 5 and scan.dose_fraction == 0.1
    assert len({float(plane.sum()) for plane in scan.sinogram}) == 5


def test_smoothing_across_planes_keeps_a_constant_and_halves_noise():
    flat = torch.full((7, 2, 2), 3.0)
    assert torch.allclose(across(flat, 1.5), flat) and across(flat, 0) is flat
    spike = torch.zeros(7, 1, 1)
    spike[3] = 1
    assert float(across(spike, 1.0)[3]) == pytest.approx(0.399, abs=0.01)
    assert torch.allclose(across(spike, 1.0), across(spike, 1.0).flip(0))


def test_scores_are_of_the_middle_planes_and_roughness_is_over_the_truths(patients):
    planes = patients[0]
    exact = torch.cat([truth.expected for truth in planes])
    true = images(exact, planes)
    right = judged(exact, planes, true)
    assert right["rough"] == pytest.approx(1, abs=1e-4) and right["bias"] == pytest.approx(0, abs=1e-4)
    off = exact.clone()
    off[0] *= 3  # not in the middle
    other = judged(off, planes, true)
    assert other["psnr_sinogram"] > 100 and other["rough"] > 1.1
    jagged = exact * (1 + 0.1 * (-1.0) ** torch.arange(5))[:, None, None]
    assert judged(jagged, planes, true)["rough"] > 1.1
    assert widths(patients[:2], 0.01, 0)[0] >= widths(patients[:2], 1.0, 0)[0]


def test_the_figure_shows_all_cuts_in_one_window(tmp_path, monkeypatch):
    figure = figure_of(tiny(), planes=4)
    shown = [axis.images[0] for axis in figure.axes if axis.images]
    assert len(shown) == 6 and len({image.get_clim() for image in shown}) == 1
    cuts = [np.asarray(image.get_array()) for image in shown]
    assert all(cut.shape == (4, 32) for cut in cuts) and not np.array_equal(cuts[1], cuts[2])
    assert [axis.get_title() for axis in figure.axes][:3] == [f"{n}, coronal" for n in ("truth", APART, TOGETHER)]
    monkeypatch.setattr(neighbours_figure, "figure_of", lambda *_: figure)
    draw(tmp_path / "a" / "f.png", tiny())
    assert (tmp_path / "a" / "f.png").stat().st_size > 10_000


def test_what_is_learnt_for_a_patient_is_learnt_from_others(patients, monkeypatch, tmp_path):
    learned = {}

    def adapted(model, scans, out, minutes, seed):
        assert minutes == 3.0 and all(scan.neighbours and scan.dose_fraction == 1.0 for scan in scans)
        learned[out.name] = [float(scan.sinogram.sum()) for scan in scans]
        own = tiny(seed=1)
        own.adapted = {"low-dose": own.translator}
        return own

    torch.manual_seed(0)
    monkeypatch.setattr(patients_study, "FOLDS", 2)
    monkeypatch.setattr(patients_study, "adapted", adapted)
    monkeypatch.setattr(plain, "load_plain", lambda folder: PlainNet() if folder.parent == tmp_path else None)
    model = tiny()
    found = fits(model, patients, tmp_path, 3.0, 0)
    totals = [float(stack(planes, 1.0, 0).sinogram.sum()) for planes in patients]
    assert learned == {"neighbours-0": totals[1::2], "neighbours-1": totals[0::2]}
    scan = stack(patients[0], 0.1, 0)
    made = {name: method(scan) for name, method in found[0].items()}
    assert set(made) == {neighbours.PLAIN, neighbours.ADAPTED}
    assert not torch.equal(made[neighbours.ADAPTED], model_estimate(model, scan))
    alone = patients_study.plainly_restored(PlainNet(), model, scan)
    assert not torch.equal(alone, made[neighbours.PLAIN])
    assert torch.allclose(alone.mean(dim=(1, 2)), made[neighbours.PLAIN].mean(dim=(1, 2)), rtol=0.1)
    restored = patients_study.plainly_restored
    monkeypatch.setattr(patients_study, "plainly_restored", lambda *given: restored(*given)[:1].expand(5, -1, -1))
    same = fits(model, patients, tmp_path, 3.0, 0)[0][neighbours.PLAIN](scan)
    assert torch.allclose(same, alone[:1].expand(5, -1, -1), rtol=1e-3, atol=1e-3)  # nothing to share, nothing changed


def test_the_table_says_what_neighbours_bring(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(neighbours, "OFFSETS", OFFSETS)
    monkeypatch.setattr(neighbours, "WIDTHS", (1.0, 2.0))
    monkeypatch.setattr(neighbours, "DEPTHS", (0.0, 1.0))
    monkeypatch.setattr(neighbours, "PEOPLE", (("FDG", "brain"),))
    judge = neighbours.judge
    monkeypatch.setattr(neighbours, "judge", lambda model, *given: judge(model, *given[:3], (0.05,), *given[4:]))
    words = ["study", "neighbours", "--patients", str(folder), "--people", "2", "--out", str(tmp_path / "o")]
    monkeypatch.setattr(sys, "argv", words)
    assert study.main() == 0
    text = capsys.readouterr().out
    rows = json.loads((tmp_path / "o" / "neighbours.json").read_text())["rows"]
    gain = {
        name: np.array([row["psnr_sinogram"] for row in rows if row["method"] == name and row["group"] == "STS"])
        for name in ("Gaussian", APART, TOGETHER)
    }
    assert all(len(values) == 4 for values in gain.values()) and {row["fraction"] for row in rows} == {0.05}
    more = gain[TOGETHER] - gain[APART]
    assert more.mean() > 0 and f"1/20, all (4): sinogram {more.mean():+.2f} ±" in text
    people = [row for row in rows if row["group"] == "FDG brain"]
    assert len(people) == 4 and len({row["subject"] for row in people}) == 2
    assert all(0 <= row["covered"] <= 100 for row in people) and "| FDG brain | 1/20 |" in text
    assert f"not looked at before (2): sinogram {more[1::2].mean():+.2f} ±" in text
