"""Coverage: every task has its row, and intervals as wide or narrow as can be cover all or nothing."""

import math

import pytest

from allpet.model import AllPET
from allpet.study import coverage
from allpet.study.cases import Case
from model_support import tiny
from study.test_patients import write_patients


def test_every_row_is_of_all_tracers_and_regions():
    rows = coverage.cases(["FDG", "DOPA", "PSMA"], ["brain", "chest"])
    assert list(rows)[:4] == ["low-dose 1/4", "low-dose 1/20", "low-dose 1/100", "attenuation"]
    assert list(rows)[-2:] == ["separate, 6 frames", "separate, static"]
    for several in rows.values():
        assert len({(case.tracer, case.region) for case in several}) == 6
    assert {case.options["delay_minutes"] for case in rows["delayed"]} == {30.0, 60.0, 120.0}
    assert all(case.options["to"] != case.tracer for case in rows["convert"])


@pytest.mark.parametrize(("factor", "least", "most"), [(1e6, 1.0, 1.0), (1e-9, 0.0, 0.05)])
def test_wide_intervals_cover_all_and_narrow_ones_nothing(factor, least, most, tmp_path):
    model = tiny(idle=True)
    model.config["calibration"] = {"low-dose": {"image": factor, "sinogram": factor}}
    people = coverage.person(model, Case("low-dose", "FDG", "brain", {"dose_fraction": 0.25}), 2, 3)
    write_patients(tmp_path)
    real = coverage.patient(model, coverage.patient_slices(tmp_path)[0], 0.25, 3)
    assert len(people) == 2
    for scores in (*people, real):
        assert least <= scores["coverage"] <= most and least <= scores["sinogram"] <= most
        assert math.isfinite(scores["correlation"])


def test_every_person_has_draws_of_their_own(monkeypatch):
    asked = []
    apply = AllPET.apply
    monkeypatch.setattr(
        AllPET, "apply", lambda model, task, scan, **o: asked.append(o) or apply(model, task, scan, **o)
    )
    model = tiny(idle=True)
    for region in ("brain", "chest"):
        coverage.person(model, Case("low-dose", "FDG", region, {"dose_fraction": 0.25}), 2, 3)
    streams = [(o["seed"], o["first_plane"]) for o in asked if o.get("samples")]
    assert len(streams) == len(set(streams)) == 4


def test_real_slices_are_judged_at_the_dose_of_the_result(tmp_path):
    write_patients(tmp_path)
    real = coverage.patient(AllPET.from_pretrained(), coverage.patient_slices(tmp_path)[0], 0.05, 3)
    assert real["coverage"] > 0.5 and real["sinogram"] > 0.5


def test_the_table_has_a_row_for_each_task_and_dose(monkeypatch, tmp_path):
    shown = [
        {"coverage": 0.9, "pixels": 300.0, "sinogram": 0.8, "correlation": 0.5},
        {"coverage": 0.7, "pixels": 100.0, "sinogram": 0.8, "correlation": 0.3},
    ]
    monkeypatch.setattr(coverage, "person", lambda *_: shown)
    monkeypatch.setattr(coverage, "patient", lambda *_: shown[0])
    write_patients(tmp_path)
    text = coverage.markdown(coverage.judge(tiny(), 2, 3, tmp_path))
    assert "| low-dose 1/4 | 85.0 | 80.0 ± 5.8 | 80.0 ± 0.0 | 0.40 ± 0.06 | 4 |" in text
    assert "| STS 1/100 | 90.0 | 90.0 ± 0.0 | 80.0 ± 0.0 | 0.50 ± 0.00 | 4 |" in text
