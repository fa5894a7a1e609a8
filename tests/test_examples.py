"""Everything that the documentation shows is run: examples, README snippets, a study's quick mode."""

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
from allpet.task import TASKS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ELSEWHERE = {
    "store": "tests/io/test_store_contract.py runs it",
    "recon": "continues a scan of the reader's",
    "acquisition": "names a file of the reader's",
    "start": "in a fresh interpreter, below",
}
"""Pages whose Python is not run with the page's commands, and where it is run instead or why not."""


def test_examples_follow_the_stages():
    stages = ["scan", "files", "project", "mask", "model", "task", "recon", "report"]
    assert [path.stem for path in EXAMPLES] == [f"{k:02d}_{stage}" for k, stage in enumerate(stages, 1)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()
    assert list(tmp_path.iterdir()) == []


def _fences(document: Path) -> list[tuple[str, str]]:
    """What stands in ``sh`` and ``python`` fences, in order."""
    found = re.findall(r"^```(sh|python)\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [(language, text) for language, text in found]


def _lend_scan() -> bool:
    """Put a measured scan into this folder, where real data are at hand: ``scan.l`` with its header."""
    if "ALLPET_DATA" not in os.environ:
        return False
    folder = Path(os.environ["ALLPET_DATA"]) / "mmr_fdg_listmode"
    shutil.copy(folder / "small_listmode_file.l", "scan.l")
    header = (folder / "PET_ACQ_small.l.hdr.STIR").read_text(encoding="latin-1")
    Path("scan.l.hdr.STIR").write_text(header.replace("small_listmode_file.l", "scan.l"), encoding="latin-1")
    return True


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if _fences(d)], ids=lambda path: path.stem)
def test_page_runs_from_top_to_bottom(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Commands and snippets in their order, in an empty folder; what is not for a machine stands in bare fences."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    tasks = dict(TASKS)
    for language, text in _fences(document):
        if language == "python":
            if document.stem not in ELSEWHERE:
                exec(compile(text, str(document), "exec"), names)
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if not words or words[0] == "make":
                continue  # test_make_targets_and_links_exist
            if words[0] == "python":  # long: its quick mode has a test of its own
                assert (ROOT / words[1]).exists(), line
                continue
            assert words[0] == "allpet", f"{line}: cannot be run here; use a bare fence"
            if any(word.startswith("scan.") for word in words) and not (Path("scan.l").exists() or _lend_scan()):
                continue  # needs a scanner's file: $ALLPET_DATA
            assert main(words[1:]) == 0, (line, capsys.readouterr().err)
    for name in set(TASKS) - set(tasks):
        del TASKS[name]


def test_first_snippets_run_in_a_fresh_interpreter(tmp_path: Path):
    """As a reader would paste them."""
    code = "\n".join(text for language, text in _fences(ROOT / "docs" / "start.md") if language == "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) == pytest.approx(5, rel=0.01)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_make_targets_and_links_exist(document: Path):
    text = document.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (document.parent / link).exists(), link


def test_recovery_study_runs_quickly_and_keeps_its_numbers(tmp_path: Path):
    out = tmp_path / "numbers.json"
    script = ROOT / "benchmarks" / "recovery.py"
    subprocess.run([sys.executable, script, "--quick", "--json", out], check=True, capture_output=True)
    rows = json.loads(out.read_text())["rows"]
    assert rows and all(row["region"] == "head-neck" for row in rows)
