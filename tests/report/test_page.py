"""The page is whole, escaped, and loads nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from allpet.errors import AllpetError
from allpet.report import Section, Table, step_lines, write_page


class Checker(HTMLParser):
    """Collects sources and links, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _page(path: Path) -> str:
    figure = step_lines({"a": [1, 2]}, [0, 1], ("plane", "PSNR (dB)"))
    table = Table("Scores <n = 3>", ["what", "PSNR (dB)"], [["input & noise", "20.1"]])
    sections = [Section("First <part>", ["One & two."], [(figure, 'a "curve"')], [table]), Section("Second")]
    write_page(path, "Title", ["Lead."], sections, {"seed": 3, "command": "allpet demo <x>"})
    return path.read_text(encoding="utf-8")


def test_page_is_self_contained_and_well_formed(tmp_path: Path):
    text = _page(tmp_path / "report.html")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert all(load.startswith(("data:image/png;base64,", "#part")) for load in checker.loads)
    assert not re.search(r"https?://|@import|<script|url\(", text)
    assert "First &lt;part&gt;" in text and "input &amp; noise" in text and "allpet demo &lt;x&gt;" in text
    assert "For research only" in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_missing_folder_is_one_line(tmp_path: Path):
    with pytest.raises(AllpetError, match="does not exist"):
        _page(tmp_path / "nowhere" / "report.html")
