"""Every benchmark runs once at a tiny size, and its numbers become a page: no time is asserted."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
HIDDEN = ("user", "node", "host", "path", "cwd", "username")


def _python(*words: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the numbers of all groups in tiny sizes."""
    folder = tmp_path_factory.mktemp("results")
    done = _python(BENCHMARKS / "run.py", "--tiny", "--out", folder)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert [path.name for path in folder.iterdir()] == ["tiny.json"]
    return folder


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their modules can be imported."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_every_group_has_numbers_and_nothing_says_whose_machine_it_was(results: Path, benchmarks: None):
    from run import GROUPS

    assert {path.stem.removeprefix("time_") for path in BENCHMARKS.glob("time_*.py")} == set(GROUPS)
    text = (results / "tiny.json").read_text(encoding="utf-8")
    kept = json.loads(text)
    assert {row["group"] for row in kept["benchmarks"]} == set(GROUPS)
    assert {"processor", "cores", "python", "packages", "threads"} <= set(kept["machine_info"])
    assert not set(HIDDEN) & set(kept["machine_info"])
    assert str(ROOT) not in text and f'"{platform.node()}"' not in text
    jobs = [(row["job"], row["tool"]) for row in kept["benchmarks"] if row["group"] != "growth"]
    assert len(jobs) == len(set(jobs)), "two rows of one name: a table could not tell them apart"
    own = {job for job, tool in jobs if tool == "allpet"}
    assert all(job in own for job, tool in jobs if not tool.startswith("allpet")), "a peer without ours has no ratio"
    weighed = [row for row in kept["benchmarks"] if "peak_mib" in row]
    assert weighed and all(100 < row["before_mib"] <= row["peak_mib"] for row in weighed)


def test_numbers_become_a_page_with_ratios_and_figures(results: Path, tmp_path: Path):
    done = _python(BENCHMARKS / "report.py", "--results", results, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "Tiny sizes" in page  # nobody takes these for measurements
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links and all((tmp_path / link).is_file() for link in links)
    kept = json.loads((results / "tiny.json").read_text(encoding="utf-8"))["benchmarks"]
    pytest.importorskip("astra")
    theirs, own = (next(row for row in kept if row["name"] == f"time_{name}") for name in ("fbp_astra", "fbp[1-1]"))
    ratio = (theirs["stats"]["median"] / theirs["count"]) / (own["stats"]["median"] / own["count"])
    assert re.search(rf"^\|  \| ASTRA, linear \| 1 \| .* \| {ratio:.3g} \| differs by ", page, re.MULTILINE)
    fits = json.loads((results / "fits.json").read_text(encoding="utf-8"))["fits"]
    assert {fit["job"] for fit in fits} == {row["job"] for row in kept if row["group"] == "growth"}


def test_fits_find_what_was_put_in(benchmarks: None):
    from fits import Fit, grown

    n = np.array([1, 4, 16, 64])
    rows = [
        dict(job=job, axis="", n=int(k), power=power, unit="call", count=1, stats={"median": t}, peak_mib=200 + 3.0 * k)
        for job, power, times in (("count", False, 0.5 + 0.02 * n), ("side", True, 1e-4 * n**2.5))
        for k, t in zip(n, times, strict=True)
    ]
    count, side = grown(rows[::-1])[::-1]
    assert (count.name, side.name) == ("count", "side")
    assert count.coefficients == pytest.approx((0.5, 0.02)) and count.residual < 1e-9
    assert count.memory_line == pytest.approx((200, 3))
    assert side.coefficients == pytest.approx((1e-4, 2.5)) and side.last_exponent == pytest.approx(2.5)
    off = Fit("", "", (1, 2, 4), (1.0, 2.0, 8.0), (), (), False)
    assert off.residual > 0.1  # what does not fit says so
    assert off.coefficients[0] >= 0


def test_groups_known_at_this_commit_are_left_out_and_failures_are_told(
    tmp_path: Path, benchmarks: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import run

    done = []
    monkeypatch.setattr(run, "head", lambda: "abc")
    monkeypatch.setattr(run, "run", lambda name, groups, out, tiny: done.append(name) or int(name == "recon"))
    for name, commit, tiny in (("masks", "abc", False), ("files", "old", False), ("train", "abc", True)):
        kept = {"machine_info": {"tiny": tiny}, "commit": {"id": commit}}
        (tmp_path / f"{name}.json").write_text(json.dumps(kept), encoding="utf-8")
    groups = ["masks", "files", "train", "recon", "generate"]
    assert run.main(["--groups", *groups, "--out", str(tmp_path), "--resume"]) == 1
    assert done == groups[1:]
    said = capsys.readouterr()
    assert "masks: measured at this commit" in said.out and said.err == "failed: recon\n"


def test_report_without_numbers_says_what_to_do(tmp_path: Path):
    done = _python(BENCHMARKS / "report.py", "--results", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2 and "make bench" in done.stderr and not (tmp_path / "out").exists()
