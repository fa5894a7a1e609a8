"""Headline figures: verdicts by hand, noise against its own definition, calibration and comparison of runs."""

import json

import numpy as np
import pytest

from allpet.cli import main
from allpet.errors import AllpetError
from allpet.evidence.headlines import (
    Expected,
    Headline,
    calibrate,
    compare,
    expectations,
    headlines,
    judge,
    noise_of,
    paired,
)
from allpet.evidence.run import TABLES
from allpet.evidence.sizes import SIZES


def report(seeds, values, **facts):
    """A report with the headline figures of these values by name, one for each seed."""
    known = headlines()
    rows = [
        dict(
            name=name, label=known[name].label, unit=known[name].unit, exact=known[name].exact, value=sum(v) / len(v),
            values=v, expected=None, verdict="no expectation",
        )
        for name, v in values.items()
    ]  # fmt: skip
    base = dict(
        size="quick", seeds=seeds, model_hash="a", command="allpet", precision="auto", machine={}, headlines=rows
    )
    return base | facts


@pytest.mark.parametrize(
    ("better", "value", "verdict"),
    [
        ("lower", 1.31, "worse"),
        ("lower", 1.29, "as expected"),
        ("lower", 0.69, "better"),
        ("higher", 0.69, "worse"),
        ("higher", 0.71, "as expected"),
        ("higher", 1.31, "better"),
    ],
)
def test_three_sigma_to_the_wrong_side_are_worse(better, value, verdict, monkeypatch):
    known = Headline("x", "tasks", "X", better, goal=1.0)
    monkeypatch.setattr("allpet.evidence.headlines.headlines", lambda: {"x": known})
    (one,) = judge({"x": {0: value}}, {"x": Expected(1.0, 0.1, 0.1, 8)})
    assert one.verdict == verdict and one.goal_met == ((value < 1) == (better == "lower"))
    assert judge({"x": {0: value}}, {})[0].verdict == "no expectation"
    assert judge({}, {"x": Expected(1.0, 0.1, 0.1, 8)}) == []


def test_noise_is_the_spread_of_a_run_about_what_is_expected():
    """Of many calibrations and runs of normal values: the stated noise is the standard deviation that is seen."""
    rng = np.random.default_rng(0)
    differences, stated = [], []
    for _ in range(4000):
        expected = noise_of(rng.normal(5, 2, 6).tolist(), repeats=3)
        differences.append(rng.normal(5, 2, 3).mean() - expected.value)
        stated.append(expected.noise)
    assert np.mean(stated) == pytest.approx(np.std(differences), rel=0.03)
    assert noise_of([7.0, 7.0, 7.0], 1).noise == pytest.approx(0.035)  # at least half a per cent
    assert noise_of([7.0], 1, least=0).noise == 0
    assert noise_of([1.0, 1.0, 1.0], 1, arithmetic=0.3).noise == pytest.approx(0.3)


def test_the_same_people_leave_little_noise():
    expected = Expected(5.0, 1.0, 1.0, 8, 0.02, {"0": 4.0, "1": 5.0, "2": 4.5})
    assert paired(expected, [0, 7]) is expected and paired(expected, []) is expected
    found = paired(expected, [0, 1])
    assert found.value == 4.5 and found.paired and found.noise == pytest.approx((0.02**2 + 0.1**2 / 2) ** 0.5)
    assert judge({"recall": {0: 4.0}}, {"recall": expected})[0].verdict == "as expected"
    assert judge({"recall": {0: 3.5}}, {"recall": expected})[0].verdict == "worse"
    assert judge({"recall": {9: 3.5}}, {"recall": expected})[0].verdict == "as expected"


def test_a_calibration_needs_seeds_and_one_model():
    good = [report([k], {"recall": [0.5 + 0.01 * k], "weights": [8.0]}) for k in range(4)]
    other = report([0], {"recall": [0.45]}, precision="bf16")
    size, entry = calibrate(good, [other])
    figure = entry["figures"]["recall"]
    assert size == "quick" and figure["value"] == pytest.approx(0.515) and figure["seeds"] == 4
    assert figure["by_seed"] == {"0": 0.5, "1": 0.51, "2": 0.52, "3": 0.53}
    assert figure["arithmetic"] == pytest.approx(0.05) and entry["figures"]["weights"]["noise"] == 0
    with pytest.raises(AllpetError, match="2 evaluation seeds; at least 3"):
        calibrate(good[:2])
    with pytest.raises(AllpetError, match="not all different"):
        calibrate([*good, good[0]])
    with pytest.raises(AllpetError, match="differ in model_hash"):
        calibrate([*good, report([9], {}, model_hash="b")])


def test_two_runs_agree_within_the_noise_or_not(tmp_path, capsys, monkeypatch):
    wanted = {"recall": Expected(0.5, 0.03, 0.02, 8)}
    monkeypatch.setattr("allpet.evidence.headlines.expectations", lambda size: wanted)
    made = {}
    for name, seed, value in (("a", 0, 0.5), ("b", 1, 0.58), ("c", 1, 0.6), ("e", 0, 0.505), ("f", 0, 0.58)):
        made[name] = report([seed], {"recall": [value]})
        (tmp_path / f"{name}.json").write_text(json.dumps(made[name]))
    agree = {name: compare(made["a"], made[name], wanted)[0]["agree"] for name in "bcef"}
    assert agree == {"b": True, "c": False, "e": True, "f": False}  # 3 sqrt(2) 0.02 = 0.085; the same seed 0.0075
    with pytest.raises(AllpetError, match="no headline figure in common whose noise is stated"):
        compare(made["a"], made["b"], {})
    words = ["evaluate", "compare", str(tmp_path / "a.json")]
    assert main([*words, str(tmp_path / "b.json")]) == 0
    with pytest.raises(SystemExit) as stopped:
        main([*words, str(tmp_path / "c.json")])
    assert stopped.value.code == 1 and "recall of sinograms: 0.5, 0.6" in capsys.readouterr().out
    (tmp_path / "d.json").write_text(json.dumps(report([0], {"recall": [0.5]}, size="standard")))
    assert main([*words, str(tmp_path / "d.json")]) == 2 and main([*words, str(tmp_path / "none.json")]) == 2
    assert "compare runs of one size" in capsys.readouterr().err


def test_what_is_watched_is_measured_somewhere():
    known = headlines()
    assert {one.table for one in known.values()} <= set(TABLES)
    for size in SIZES:
        wanted = expectations(size)
        assert set(wanted) <= set(known)
        assert all(one.noise > 0 or known[name].exact for name, one in wanted.items())
    assert len(expectations("quick")) >= 20


def test_calibrate_keeps_other_sizes(tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.json").write_text(json.dumps(report([k], {"recall": [0.5 + k / 100]})))
    out = tmp_path / "expected.json"
    out.write_text(json.dumps({"full": {"figures": {}}}))
    runs = [str(tmp_path / f"{k}.json") for k in range(3)]
    assert main(["evaluate", "calibrate", *runs, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert set(found) == {"full", "quick"} and expectations("quick", out)["recall"].value == pytest.approx(0.51)
    out.write_text("[]")
    assert main(["evaluate", "calibrate", *runs, "--out", str(out)]) == 2


def test_a_figure_that_some_seeds_lack_is_paired_with_those_that_have_it():
    expected = Expected(0.6, 0.2, 0.2, 3, by_seed={"0": 0.4, "1": 0.6, "2": 0.8})
    (one,) = judge({"recall": {1: 0.6, 2: 0.8}}, {"recall": expected})
    assert one.expected.value == pytest.approx(0.7) and one.verdict == "as expected" and one.seeds == (1, 2)
    few = report([0, 1, 2], {"recall": [0.5, 0.7]})
    few["headlines"][0]["seeds"] = [1, 2]
    known = calibrate([few, report([3], {"recall": [0.9]})])[1]["figures"]["recall"]["by_seed"]
    assert known == {"1": 0.5, "2": 0.7, "3": 0.9}
