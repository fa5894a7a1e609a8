"""The study of the coarse segmentation: its scoring by hand, a few people, two patients."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from allpet.errors import AllpetError
from allpet.study import regions
from allpet.study.froc import Marked, operating_point, score_slice, summary


def square(row, column, side, shape=(30, 30)):
    out = np.zeros(shape, bool)
    out[row : row + side, column : column + side] = True
    return out


def marked(row, column, side, score):
    return Marked("hot", (row, column), np.ones((side, side), bool), score)


def test_a_slice_scored_by_hand():
    truth, other = square(5, 5, 4), square(20, 20, 6)
    found = [
        marked(5, 5, 4, 0.9),  # the first lesion exactly
        marked(0, 15, 3, 0.8),  # nothing there
        marked(5, 5, 3, 0.7),  # the first one again
        marked(22, 22, 2, 0.6),  # wholly inside of a lesion of another sort: not false
        marked(0, 0, 12, 0.5),  # Dice 2 * 16 / 160 = 0.2 with the first: a hit
        marked(0, 0, 13, 0.4),  # just below: false
    ]
    s = score_slice("somebody", found, [truth], truth | other)
    assert s.found == [(0.9, 1.0)] and s.false == [0.8, 0.4]
    assert score_slice("x", [found[2]], [truth], truth).found == [(0.7, pytest.approx(18 / 25))]
    assert score_slice("x", [], [truth], truth).found == [(-np.inf, 0.0)]


def test_the_limit_is_where_false_ones_are_one_a_slice():
    truth = square(5, 5, 4)
    slices = [
        score_slice("a", [marked(5, 5, 4, 0.9), marked(0, 15, 3, 0.8), marked(0, 20, 3, 0.6)], [truth], truth),
        score_slice("b", [marked(5, 5, 4, 0.55), marked(0, 15, 3, 0.7)], [truth], truth),
    ]
    one = operating_point(slices, 1.0)  # the third false one, of 0.6, is too many
    assert one == {"sensitivity": 0.5, "dice": 1.0, "false": 1.0}
    assert operating_point(slices, 2.0)["sensitivity"] == 1.0 and operating_point(slices, 0.0)["sensitivity"] == 0.5
    out = summary(slices, seed=1, resamples=50)
    assert out["lesions"] == 2 and out["people"] == 2 and out["sensitivity_95"] == [0.5, 1.0]  # both, or one twice
    assert summary(slices, seed=1, resamples=50) == out


def test_sorts_of_lesions():
    names = ["air", "soft", "lesion", "lesion centre"]
    labels, activity = np.ones((40, 40), int), np.ones((40, 40))
    for row, value in ((4, 3.0), (16, 0.3), (28, 1.1)):
        labels[row : row + 6, 4:10], activity[row : row + 6, 4:10] = 2, value
    labels[6:8, 6:8] = 3
    sorts = [sort for sort, _ in regions.lesions_of(labels, activity, names, 4.0)]
    assert sorts == ["hot", "centre", "cold", "none"]
    assert [s for s, _ in regions.lesions_of(labels, activity, names, 0.5)] == ["none"] * 4  # all too small


def test_few_people(tmp_path):
    known = dict(people=2, seed=3, doses=(1.0,), split="validation", size=64, slices=2, resamples=20)
    rows = regions.judge(**known)
    few = known | dict(people=1, size=32, slices=1, resamples=5)
    assert regions.judge(**few) == regions.judge(**few)
    found = {(row["method"], row["sort"]): row for row in rows if row["group"] == "all"}
    hot = found["suggest", "hot"]
    assert hot["slices"] == 60 and hot["people"] == 10 and hot["lesions"] >= 5
    assert hot["false"] <= 1 and 0.2 < hot["sensitivity"] <= 1 and hot["dice"] > 0.4
    low, high = hot["sensitivity_95"]
    assert low <= hot["sensitivity"] <= high
    assert list(hot["curve"].values()) == sorted(hot["curve"].values())
    assert ("SUV 2.5", "cold") not in found and ("41 % of each focus' maximum", "hot") in found
    assert {row["group"] for row in rows} >= {"all", "FDG", "PSMA", "DOPA"}
    regions.save(tmp_path / "regions.json", rows, {"seed": 3})
    again = json.loads((tmp_path / "regions.json").read_text())
    assert again["rows"] == rows and again["provenance"]["seed"] == 3
    table = regions.markdown(rows)
    assert f"| suggest | {hot['sensitivity']:.2f} (" in table and "chest" not in table
    assert "chest" in regions.markdown(rows, groups=True)


def test_no_patients(tmp_path):
    with pytest.raises(AllpetError, match="holds no folder STS_001"):
        next(regions.patients(tmp_path))


@pytest.mark.skipif("ALLPET_DATA" not in os.environ, reason="ALLPET_DATA is not set: no patients")
def test_two_patients():
    folder = Path(os.environ["ALLPET_DATA"])
    rows = regions.judge(doses=(), data=folder, names=("STS_003", "STS_005"), resamples=20)
    found = {(row["method"], row["sort"]): row for row in rows if row["group"] == "all"}
    assert found["suggest", "hot"]["people"] == 2 and found["suggest", "hot"]["lesions"] == 67
    assert found["suggest", "hot"]["sensitivity"] > 0.7 and found["suggest", "hot"]["dice"] > 0.6
    assert found["suggest", "hot"]["false"] <= 1
