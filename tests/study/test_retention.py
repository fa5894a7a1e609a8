"""The retention study: truths that are those of the kinetics, a guess that learns what can be learnt, right means."""

from __future__ import annotations

import numpy as np
import pytest

from allpet.scan.kinetics import ISOTOPES
from allpet.scan.phantom import LABELS
from allpet.scan.simulate import make_plan
from allpet.scan.tracer_tables import TISSUES
from allpet.study import retention
from allpet.study.cases import Case
from allpet.study.retention import METHODS, change, guess, insides, judge, kinetics, markdown
from model_support import tiny

CASE = Case("delayed", "FDG", "abdomen", {"delay_minutes": 60.0})


def test_organs_are_looked_at_away_from_their_edges():
    labels = np.zeros((40, 40), int)
    labels[5:25, 5:25], labels[30:39, 30:39], labels[0, :5] = (LABELS.index(n) for n in ("liver", "lesion", "blood"))
    found = insides(labels, 4.0)
    assert list(found) == ["liver"] and found["liver"].sum() == 18**2
    early, late = np.full((40, 40), 2.0), np.full((40, 40), 1.5)
    assert change(early, late, found, 0.5) == {"liver": pytest.approx(50)}


def test_the_images_change_as_the_kinetics_say():
    data = CASE.simulate(2, "test", 5, (64, 64))
    plan = make_plan(tracer="FDG", region="abdomen", task="delayed", delay_minutes=60.0, seed=5, split="test")
    curves, decay = kinetics(plan, data["subject"].tolist()), float(ISOTOPES["18F"].decay(3600))
    compared = 0
    for k in range(2):
        inside = insides(data["labels"][k], data.grid.pixel_mm)
        for name, value in change(data["image_observed"][k], data["image"][k], inside, decay).items():
            early, late = curves[k, TISSUES.index(name)]
            compared += abs(value - 100 * (late / early - 1)) < 1
    assert compared >= 6


def test_a_guess_finds_what_early_uptakes_say_and_else_the_mean():
    rng = np.random.default_rng(0)
    early = np.exp(rng.normal(size=(300, 3)))
    x = np.log(early) - np.log(early).mean(axis=1, keepdims=True)
    late = np.exp(np.stack([0.3 + 0.4 * x[:, 0], rng.normal(0.1, 0.05, 300), 0.2 * x[:, 1] ** 2], axis=1))
    new = np.array([4.0, 1.0, 0.5])
    true = np.log(new) - np.log(new).mean()
    found = guess(early, new, late)
    assert found[0] == pytest.approx(0.3 + 0.4 * true[0], abs=0.01)
    assert found[1] == pytest.approx(0.1, abs=0.03)
    assert found[2] == pytest.approx(0.2 * true[1] ** 2, abs=0.02)
    assert guess(early, 7 * new, late) == pytest.approx(found)  # only relative uptakes count


def test_a_row_for_every_organ_and_means_over_people(monkeypatch):
    monkeypatch.setattr(retention, "TRAINING", 3)
    monkeypatch.setattr(retention, "KNOWN", 60)
    model = tiny()
    model.config["regions"] = ["abdomen"]
    rows = judge(model, 1, (5, 6), [CASE])
    assert {row["seed"] for row in rows} == {5, 6} and all(np.isfinite(row[name]) for row in rows for name in METHODS)
    assert all(row["copy"] == 0 for row in rows) and any(row["truth"] != 0 for row in rows)
    off = {name: np.mean([abs(row[name] - row["truth"]) for row in rows]) for name in METHODS}
    assert off[METHODS[-1]] < off["copy"]


def test_errors_are_means_of_people():
    rows = []
    for person, offs in enumerate(([1.0, 3.0], [4.0])):
        for k, off in enumerate(offs):
            found = dict.fromkeys(METHODS, 10 - off)
            rows.append(dict(case="c", seed=1, person=person, organ=TISSUES[k], truth=10.0, **found))
    text = markdown(rows).splitlines()
    assert text[2] == "| c |" + " 3.0 ± 1.0 |" * len(METHODS) + " 2 |"
    assert text[6].startswith(f"| c | {min(TISSUES[:2])} | +10.0 | 2.5 |")
