"""Damaged files for every reader, for ``ALLPET_FUZZ_SECONDS`` each (5 by default; half a minute or 2,000 files in CI).

The seed is the day's, so that every day has cases of its own; a failure names the command that repeats it. With
``ALLPET_FUZZ_SEED`` the cases are the same on any day, and ``ALLPET_FUZZ_FILES`` ends a format after so many, so that
a quicker machine meets no case that no one has tried.
"""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
fuzzer = import_module("fuzz_readers")

SECONDS = float(os.environ.get("ALLPET_FUZZ_SECONDS", "5"))
FILES = int(os.environ.get("ALLPET_FUZZ_FILES", 1 << 30))
SEED = int(os.environ.get("ALLPET_FUZZ_SEED", time.time() // 86400))
READERS = (
    ("interfile", "ring", "interfile-image"),
    ("nifti", "nifti-gz", "labels"),
    ("store", "store-without-hashes"),
    ("model", "checkpoint"),
    ("audit", "scanner", "table"),
)
"""Formats that share a reader, or are small tables of text, share its time."""
SHARE = {name: 1 / len(names) for names in READERS for name in names}


@pytest.mark.fuzz
@pytest.mark.parametrize("name", fuzzer.available())
def test_damaged_files_end_in_one_line_soon_and_in_little_memory(tmp_path: Path, name: str) -> None:
    outcome = fuzzer.fuzz(name, FILES, SEED, tmp_path, seconds=SECONDS * SHARE.get(name, 1.0))
    assert outcome.failures == []
    assert outcome.files > 10
    noticed, whole = outcome.errors > 0, outcome.errors < outcome.files
    assert noticed or name == "audit"
    assert whole or name == "store"  # whose hashes notice every change; others are often whole enough
