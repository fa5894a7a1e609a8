"""The tables of results: every row is there, baselines are right, real patients are read."""

import json
import os
from pathlib import Path

import pytest
import torch

from allpet.errors import AllpetError
from allpet.report.low_dose_table import evaluate_low_dose, markdown, patient_slices, simulated_people
from allpet.report.table import write_table


class Oracle:
    """A stand-in whose answer is a constant: 1 % too high everywhere."""

    def apply(self, task, scan, samples=0):
        truth = self.truths[round(float(scan.attenuation.sum()), 3)]

        class Result:
            expected = type("S", (), {"sinogram": truth * 1.01})

        return Result


def test_low_dose_rows_and_order_of_methods():
    oracle = Oracle()
    people = simulated_people(2, "test")
    oracle.truths = {round(float(t.efficiency.sum()), 3): t.expected for t in people}
    rows = evaluate_low_dose(oracle, people=2, fractions=(1 / 20,), linear=False)
    assert [(r["group"], r["method"]) for r in rows if r["group"] == "brain"] == [
        ("brain", "input"), ("brain", "Gaussian"), ("brain", "allpet"),
    ]  # fmt: skip
    by = {(r["group"], r["method"]): r for r in rows}
    for group in ("brain", "chest", "abdomen"):
        order = [by[group, m]["psnr_sinogram"] for m in ("input", "Gaussian", "allpet")]
        assert order == sorted(order) and order[2] > 40
        assert by[group, "Gaussian"]["width_bins"] > 0.5 and by[group, "allpet"]["subjects"] == 2
    assert markdown(rows).count("\n") == len(rows) + 1


def test_same_scan_for_every_method():
    truth = simulated_people(1, "test")[0]
    assert torch.equal(truth.scan(0.1, 3).sinogram, truth.scan(0.1, 3).sinogram)
    assert not torch.equal(truth.scan(0.1, 3).sinogram, truth.scan(0.1, 4).sinogram)


@pytest.mark.skipif("ALLPET_DATA" not in os.environ, reason="ALLPET_DATA is unset")
def test_patient_slices_are_whole_and_counted():
    slices = patient_slices(Path(os.environ["ALLPET_DATA"]) / "sts_fdg")
    assert len(slices) == 25 and len({t.subject for t in slices}) == 25
    for t in slices:
        assert float(t.expected.sum()) == pytest.approx(5e5, rel=1e-4)
        per_view = t.expected.sum(-1)
        assert float(per_view.std() / per_view.mean()) < 0.01  # nothing is cut off


def test_missing_patients_are_one_clear_line(tmp_path):
    with pytest.raises(AllpetError, match="holds no STS_"):
        patient_slices(tmp_path)


def test_table_on_disk(tmp_path):
    write_table("t", [{"a": 1}], "| a |", tmp_path / "new", {"seed": 0})
    assert json.loads((tmp_path / "new" / "t.json").read_text()) == {"rows": [{"a": 1}], "provenance": {"seed": 0}}
    assert (tmp_path / "new" / "t.md").read_text() == "| a |\n"
