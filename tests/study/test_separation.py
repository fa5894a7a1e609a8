"""The separation study replaces one half of the estimate by the truth, and the other stays."""

from __future__ import annotations

import torch

from allpet.study.cases import Case
from allpet.study.separation import KEYS, NAMES, estimates, judge, markdown
from allpet.task.rivals import truth
from model_support import tiny


def test_true_sum_and_true_shares_are_true_and_all_else_is_as_applied():
    model = tiny()
    model.config["regions"], model.config["tracers"] = ["brain"], ["FDG", "DOPA", "PSMA"]
    case = Case("separate", "FDG + PSMA", "abdomen")
    data = case.simulate(2, seed=3, shape=(32, 32))
    found, right = estimates(model, data), truth(data)
    result = model.apply("separate", data.scan([1]), samples=0)
    applied = torch.stack([result.expected.sinogram, result.extras["-second"].sinogram], dim=1)
    assert torch.equal(found["allpet"][1:], applied)
    assert torch.allclose(found["true sum"].sum(dim=1), right.sum(dim=1), rtol=1e-5)
    assert torch.allclose(found["true shares"].sum(dim=1), found["allpet"].sum(dim=1), rtol=1e-5, atol=1e-4)
    error = {name: float((found[name] - right).square().mean()) for name in NAMES}
    assert max(error["true shares"], error["true sum"]) < error["allpet"]  # an untrained network splits in halves


def test_a_row_for_every_case_and_estimate():
    model = tiny()
    model.config["regions"], model.config["tracers"] = ["brain"], ["FDG", "DOPA", "PSMA"]
    rows = judge(model, 1, (5, 6), [Case("separate", "FDG + PSMA", "abdomen", static=True)])
    assert [row["estimate"] for row in rows] == list(NAMES) and all(row["n"] == 2 for row in rows)
    assert all(row[key] == row[key] for row in rows for key in KEYS)
    text = markdown(rows).splitlines()
    assert len(text) == 2 + len(NAMES) and all(line.count("|") == len(KEYS) + 4 for line in text)
