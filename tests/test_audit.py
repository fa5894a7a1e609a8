"""The audit only grows, survives a torn line, and tells regions apart."""

from pathlib import Path

import numpy as np
import pytest

from allpet import audit
from allpet.errors import AllpetError
from allpet.mask import Region

REGION = Region.from_mask("lesion", np.ones((2, 3, 3)), strength=2.0)


def test_lines_are_added_and_read(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit.append(path, audit.entry("drew", [REGION]))
    audit.append(path, audit.entry("ran low-dose", [REGION], seed=3, model_hash="abc", seconds=1.5))
    first, second = audit.read(path)
    assert first["what"] == "drew" and "seed" not in first
    assert second["seed"] == 3 and second["model_hash"] == "abc" and second["seconds"] == 1.5
    assert second["regions"] == [
        {"name": "lesion", "kind": "roi", "strength": 2.0, "voxels": 18.0, "planes": [0, 1], "hash": REGION.hash}
    ]
    assert {"when", "allpet_version", "command"} <= set(first)


def test_a_torn_line_is_left_alone_and_loses_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit.append(path, audit.entry("one"))
    path.write_bytes(path.read_bytes() + b'{"what": "two", "wh')
    audit.append(path, audit.entry("three"))
    assert [line["what"] for line in audit.read(path)] == ["one", "three"]


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AllpetError, match="cannot be written"):
        audit.append(tmp_path / "none" / "audit.jsonl", audit.entry("one"))
    with pytest.raises(AllpetError, match="cannot be read"):
        audit.read(tmp_path / "none.jsonl")
