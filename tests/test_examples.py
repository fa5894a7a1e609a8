"""Everything that the documentation shows is run: examples, README snippets, the benchmark's quick mode."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from allpet.cli import main

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_examples_follow_the_stages():
    stages = ["scan", "files", "project", "mask", "model", "task", "recon", "report"]
    assert [path.stem for path in EXAMPLES] == [f"{k:02d}_{stage}" for k, stage in enumerate(stages, 1)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()
    assert list(tmp_path.iterdir()) == []


def test_readme_python_runs_from_top_to_bottom(tmp_path: Path):
    """All snippets in one fresh interpreter, as a reader would paste them."""
    code = "\n".join(_blocks(ROOT / "README.md", "python"))
    assert code.count("import") >= 3
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) == pytest.approx(5, rel=0.01)


def test_simulation_page_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    lines = [line for block in _blocks(ROOT / "docs" / "simulation.md", "sh") for line in block.splitlines()]
    assert len(lines) >= 4
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr().err)


def test_readme_commands_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    real = "ALLPET_DATA" in os.environ
    if real:
        folder = Path(os.environ["ALLPET_DATA"]) / "mmr_fdg_listmode"
        shutil.copy(folder / "small_listmode_file.l", "scan.l")
        header = (folder / "PET_ACQ_small.l.hdr.STIR").read_text(encoding="latin-1")
        Path("scan.l.hdr.STIR").write_text(header.replace("small_listmode_file.l", "scan.l"), encoding="latin-1")
    lines = [line for block in _blocks(ROOT / "README.md", "sh") for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("allpet ")]
    assert len(commands) >= 8
    for words in commands:
        if any(word.startswith("scan.") for word in words) and not real:
            continue  # needs a scanner's file: $ALLPET_DATA
        assert main(words) == 0, (words, capsys.readouterr().err)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_make_targets_and_links_exist(document: Path):
    text = document.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / link).exists(), link


def test_benchmark_runs_quickly_and_keeps_its_numbers(tmp_path: Path):
    pytest.importorskip("astra")
    out = tmp_path / "bench.json"
    script = ROOT / "benchmarks" / "bench_projector.py"
    subprocess.run([sys.executable, script, "--quick", "--json", out], check=True, capture_output=True)
    result = json.loads(out.read_text())
    assert {row["tool"] for row in result["results"]} == {"allpet", "astra linear", "scikit-image"}
    assert result["difference_from_astra"] < 0.02


def test_generation_benchmark_runs_quickly(tmp_path: Path):
    from model_support import tiny

    tiny().save_pretrained(tmp_path / "m")
    out = tmp_path / "generate.json"
    script = ROOT / "benchmarks" / "bench_generate.py"
    words = [sys.executable, script, "--quick", "--model", tmp_path / "m", "--json", out]
    subprocess.run(words, check=True, capture_output=True)
    result = json.loads(out.read_text())
    assert [row["evaluations"] for row in result["results"]] == [10, 50] and result["ratio"] > 0


def test_mask_benchmark_runs_quickly_and_keeps_its_numbers(tmp_path: Path):
    out = tmp_path / "masks.json"
    script = ROOT / "benchmarks" / "bench_masks.py"
    subprocess.run([sys.executable, script, "--quick", "--json", out], check=True, capture_output=True)
    result = json.loads(out.read_text())
    assert result["length"] > 200_000 and result["samples_per_second"] > 0


@pytest.mark.parametrize("name", ["bench_simulate", "recovery"])
def test_simulation_benchmarks_run_quickly_and_keep_their_numbers(name: str, tmp_path: Path):
    out = tmp_path / "numbers.json"
    script = ROOT / "benchmarks" / f"{name}.py"
    subprocess.run([sys.executable, script, "--quick", "--json", out], check=True, capture_output=True)
    rows = json.loads(out.read_text())["rows"]
    assert rows and all(row["region"] in ("pelvis", "head-neck") for row in rows)
