"""The quick version of ``benchmarks/faults.py``: kills, disk, folder, memory, clock, two at once, Ctrl-C, tampering."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KILLED = ("simulate", "train", "adapt", "convert", "convert-dicom", "apply", "generate")
OTHERS = (
    "disk full",
    "read-only folder",
    "memory limit",
    "clock jump in train --max-minutes",
    "two processes on one folder",
    "Ctrl-C",
    "a bit turned in a store or model",
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, kills and mounts")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One run of everything; each fault is judged by a test of its own."""
    table = tmp_path_factory.mktemp("faults") / "faults.json"
    words = [sys.executable, str(BENCHMARKS / "faults.py"), "--quick", "--json", str(table)]
    done = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert table.is_file(), done.stderr[-3000:]
    return {row["fault"]: row for row in json.loads(table.read_text())["faults"]}


@pytest.mark.parametrize("name", KILLED)
def test_killed_at_a_random_moment_nothing_is_lost(rows: dict[str, dict[str, Any]], name: str) -> None:
    row = rows[f"kill -9: {name}"]
    assert row["problems"] == []
    assert row["killed"] == row["resumed_equal"] > 0


@pytest.mark.parametrize("name", OTHERS)
def test_other_faults_end_in_one_line_and_keep_what_was_good(rows: dict[str, dict[str, Any]], name: str) -> None:
    assert rows[name]["problems"] == [] and rows[name]["tried"] > 0
