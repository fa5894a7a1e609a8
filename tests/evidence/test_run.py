"""Pieces that resume, one page that loads nothing, a check that fails when the model is spoiled."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from allpet.cli import main
from allpet.errors import AllpetError
from allpet.evidence import run
from allpet.evidence.headlines import Expected, expectations
from allpet.evidence.run import TABLES, evaluate_all, plan
from allpet.evidence.sizes import SIZES
from allpet.evidence.table import Setting, page_tables
from allpet.model import AllPET
from model_support import tiny

CASE = "low-dose 1/20: FDG brain"


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The quick report of the shipped weights, as continuous integration runs it: not worse than expected."""
    out = tmp_path_factory.mktemp("quick")
    assert main(["evaluate", "all", "--size", "quick", "--out", str(out)]) == 0
    return out, json.loads((out / "report.json").read_text())


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A size of a second, and an untrained model for it."""
    size = replace(
        SIZES["quick"], repeats=2, cases=(CASE,), people=2, training=4, figures=(CASE,), masks=20, lesions=2, n=6
    )
    monkeypatch.setitem(run.SIZES, "quick", size)
    tiny().save_pretrained(tmp_path / "m")
    return dict(size="quick", model=tmp_path / "m", echo=lambda text: None)


def test_the_quick_report_is_whole(quick):
    out, report = quick
    assert set(report["tables"]) == {"generation", "tasks", "masks", "lesions", "regions", "strange", "cost"}
    wanted = expectations("quick")
    verdicts = {one["name"]: one["verdict"] for one in report["headlines"]}
    assert set(wanted) <= set(verdicts) and not report["missing"]
    assert all(verdicts[name] in ("as expected", "better") for name in wanted)
    assert report["machine"]["cores"] and report["seconds"] > 0 and report["left_out"]
    page = (out / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page) and not re.search(r"(src|href)=[^\"]", page)
    assert page.count("data:image/png;base64,") >= 8
    for words in (
        "Headline figures",
        "Left out, and limits",
        "goal met",
        "missed",
        "Nothing is trained",
        "low-dose 1/20",
    ):
        assert words in page


def test_a_spoiled_model_fails(quick, tmp_path, capsys):
    """The translator's weights 30 % off: the same command ends with exit code 1 and says which figures fell."""
    model = AllPET.from_pretrained()
    rng = torch.Generator().manual_seed(0)
    for weights in model.translator.unet.state_dict().values():
        if weights.is_floating_point() and weights.ndim > 1:
            weights.mul_(1 + 0.3 * torch.randn(weights.shape, generator=rng))
    model.save_pretrained(tmp_path / "spoiled")
    words = ["evaluate", "all", "--size", "quick", "--only", "tasks", "--model", str(tmp_path / "spoiled")]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 1 and "worse than expected" in capsys.readouterr().err


def test_what_is_expected_decides(small, tmp_path):
    first = evaluate_all(tmp_path / "out", only=["masks"], expected={}, **small)
    value = first["headlines"][0]["value"]
    for shift, verdict in ((0.0, "as expected"), (0.2, "as expected"), (0.4, "worse"), (-0.4, "better")):
        wanted = {"mask_diversity": Expected(value + shift, 0.1, 0.1, 8), "recall": Expected(1, 1, 1, 8)}
        again = evaluate_all(tmp_path / "out", only=["masks"], expected=wanted, **small)
        assert again["headlines"][0]["verdict"] == verdict and again["missing"] == []
    monkey = {
        "suggested_hot": Expected(1, 1, 1, 8),
        "weights": Expected(1, 1, 1, 8),
        "marked_uptake": Expected(1, 1, 1, 8),
    }
    assert evaluate_all(tmp_path / "out", only=["masks"], expected=monkey, **small)["missing"] == []


def test_a_figure_that_is_no_longer_measured_is_missing(small, tmp_path, monkeypatch):
    nothing = replace(TABLES["masks"], headlines=lambda found: {})
    monkeypatch.setitem(run.TABLES, "masks", nothing)
    wanted = {"mask_diversity": Expected(1, 1, 1, 8)}
    assert evaluate_all(tmp_path, only=["masks"], expected=wanted, **small)["missing"] == ["mask_diversity"]


def test_pieces_are_kept_and_seeds_differ(small, tmp_path):
    first = evaluate_all(tmp_path / "out", only=["tasks", "masks"], **small)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "pieces").iterdir()}
    assert len(kept) == len(first["pieces"]) == 5  # a case and masks of two seeds, a figure
    gone = next(path for path in kept if "tasks.1" in path.name)
    gone.unlink()
    again = evaluate_all(tmp_path / "out", only=["tasks", "masks"], **small)
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "pieces").iterdir()}
    assert {path for path in kept if now[path] != kept[path]} == {gone}
    assert again["tables"] == first["tables"]
    values = next(one["values"] for one in first["headlines"] if one["name"] == "low-dose_gain")
    assert len(values) == 2 and values[0] != values[1]
    assert first["seeds"] == [0, 1] and evaluate_all(tmp_path / "o", only=["masks"], seed=2, **small)["seeds"] == [4, 5]


def test_a_killed_run_goes_on_with_what_is_finished(tmp_path):
    words = ["evaluate", "all", "--size", "quick", "--only", "masks,cost", "--out", str(tmp_path / "out")]
    pieces, end = tmp_path / "out" / "pieces", time.monotonic() + 120
    with subprocess.Popen([sys.executable, "-m", "allpet", *words], stdout=subprocess.DEVNULL) as process:
        while not list(pieces.glob("masks*.json")) and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "out" / "report.json").exists()
    (finished,) = pieces.glob("*.json")
    before = finished.stat().st_mtime_ns
    assert main(words) == 0
    assert finished.stat().st_mtime_ns == before and len(list(pieces.glob("*.json"))) == 2
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["name"] for one in report["pieces"]] == ["masks.0.diversity", "cost.0.cost"]


def test_every_size_has_its_pieces_once_and_an_estimate():
    prompts = tuple(AllPET.from_pretrained().config["log_mean"])
    count = {}
    for name, size in SIZES.items():
        planned = plan(Setting(size, prompts, "work"), list(TABLES.values()), range(size.repeats), None, "hash")
        files = [one.piece.file for one in planned]
        assert len(set(files)) == len(files)
        count[name] = sum(one.part.seconds for one in planned)
        stage = {one.piece.name: one.part.stage for one in planned}
        assert ("training.plain" in stage) == size.trained
        if size.trained:
            assert stage["training.pairs"] < stage["training.plain"] < stage[next(n for n in stage if ".case." in n)]
    assert count["quick"] < 200 < count["standard"] < 2 * 3700 < count["full"]


def test_bad_words_are_refused(tmp_path, capsys):
    with pytest.raises(AllpetError, match="size 'huge' is unknown; known: quick"):
        evaluate_all(tmp_path, "huge")
    assert main(["evaluate", "all", "--only", "tusks", "--out", str(tmp_path / "o")]) == 2
    assert "table 'tusks' is unknown; known: generation, tasks" in capsys.readouterr().err
    assert main(["evaluate", "all", "--model", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert not (tmp_path / "o").exists()


def test_tables_in_markdown_become_tables_of_the_page():
    text = "What it is.\n| a | b |\n|---|---|\n| 1 | **2** |\n\n| c |\n|---|\n| 3 |\nn = 4."
    tables = page_tables(text)
    assert [(t.caption, list(t.columns), t.rows) for t in tables] == [
        ("What it is.", ["a", "b"], [["1", "2"]]),
        ("", ["c"], [["3"]]),
        ("n = 4.", [], ()),
    ]
    assert Path(run.__file__).with_name("headlines.toml").is_file()
