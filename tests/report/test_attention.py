"""The page on attention: what was done, by which numbers, and how to undo it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from allpet.audit import entry
from allpet.geometry import ImageGrid, ParallelBeam, RingBeam
from allpet.mask.attend import attend
from allpet.mask.region import Region
from allpet.project import Projector
from allpet.report.attention import result_table, shown_planes, write_attention_report
from allpet.scan import Scan


def scan_of(planes: int = 4) -> tuple[Scan, list[Region]]:
    grid = ImageGrid(24, 8.0)
    image = torch.ones(planes, 24, 24)
    image[2, 8:12, 8:12] = 5
    scan = Scan(
        Projector(ParallelBeam(20, 24, 8.0), grid)(image), ParallelBeam(20, 24, 8.0), unit="kBq/mL*mm", plane_mm=4.0
    )
    mask = torch.zeros(planes, 24, 24)
    mask[2, 8:12, 8:12] = 1
    return scan, [Region.from_mask("hot <b>spot</b>", mask, kind="hot", strength=1.5, why="brighter & rounder")]


def test_page_shows_regions_runs_audit_and_the_way_back(tmp_path: Path):
    scan, regions = scan_of()
    attended = attend(scan, regions)
    found = {"mean": 4.25, "max": 6.5, "peak": 5.5}
    row = {"name": "hot <b>spot</b>", "before": found, "without": found, "after": found | {"mean": 4.75}, "std": 0.125}
    result = {
        "task": "low-dose",
        "planes": [0, 3],
        "seed": 3,
        "model_hash": "abc",
        "unit": "kBq/mL",
        "notes": ["note!"],
    }
    audit = [entry("edit: draw", regions, edit=1, details={"op": "draw"}), {"what": "odd", "regions": 3}]
    path = tmp_path / "report.html"
    rows = [row | {"hash": regions[0].hash}, row | {"truth": found | {"mean": 4.5}}, row | {"hash": "of yesterday"}]
    write_attention_report(path, attended, audit, [result | {"regions": rows}])
    text = path.read_text()
    assert "<b>spot" not in text and "hot &lt;b&gt;spot" in text and "brighter &amp; rounder" in text
    for words in (
        regions[0].hash,
        "1.5",
        "divide emphasised.hs by attention.hs",
        "4.75 (6.5)",
        "4.5 (6.5)",
        "0.125",
        "note!",
    ):
        assert words in text, words
    assert (
        "edit: draw" in text
        and text.count("<tr>") == 3 + 1 + 3 + 2
        and text.count("since this run") == 1
        and text.count("data:image/png") == 1
    )
    assert "2.5" in text  # the largest weight


def test_page_without_regions_and_of_a_ring(tmp_path: Path):
    scan, _ = scan_of()
    write_attention_report(tmp_path / "none.html", attend(scan, []), [])
    assert "0 regions" in (tmp_path / "none.html").read_text()
    ring = RingBeam(20, 21, 100.0)
    counts = Scan(torch.ones(2, 20, 21), ring)
    flat = attend(counts, [])
    mask = torch.zeros(2, *flat.image.grid.shape)
    mask[1, 8:12, 8:12] = 1
    write_attention_report(tmp_path / "ring.html", attend(counts, [Region.from_mask("r", mask)], image=flat.image), [])
    assert "1 regions" in (tmp_path / "ring.html").read_text()


def test_planes_shown_are_those_with_most_of_the_regions():
    mask = torch.zeros(9, 8, 8)
    mask[5, 2:6], mask[3, 2:5], mask[8, 2:4], mask[0, 2] = 1, 1, 1, 1
    region = Region.from_mask("r", mask)
    assert shown_planes([region], 9) == [3, 5, 8]
    assert shown_planes([replace(region, start=(0, 0, 0), levels=region.levels[:1])], 9) == [0]
    assert shown_planes([], 9) == [4]


def test_long_audits_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("allpet.report.attention.LATEST", 3)
    scan, regions = scan_of()
    audit = [entry(f"edit: {k}", regions) for k in range(10)]
    write_attention_report(tmp_path / "r.html", attend(scan, regions), audit)
    text = (tmp_path / "r.html").read_text()
    assert "the first 7 are left out" in text and "edit: 9" in text and "edit: 6" not in text


def test_it_says_how_many_planes_the_figure_leaves_out(tmp_path: Path):
    scan, _ = scan_of(6)
    mask = torch.zeros(6, 24, 24)
    mask[:5, 8:12, 8:12] = 1
    write_attention_report(tmp_path / "report.html", attend(scan, [Region.from_mask("long", mask)]), [])
    assert "Of 5 planes with regions the 3 that hold most are shown." in (tmp_path / "report.html").read_text()
    mask[1:4] = 0  # two planes are left, and both are shown
    write_attention_report(tmp_path / "gap.html", attend(scan, [Region.from_mask("gap", mask)]), [])
    assert "planes with regions" not in (tmp_path / "gap.html").read_text()


def test_regions_that_are_gone_are_marked_in_the_runs_before():
    run = {"task": "low-dose", "regions": [{"name": "one", "hash": "abc"}, {"name": "two", "hash": "def"}]}
    for present, marked in ((None, [False, False]), ({"abc"}, [False, True]), (set(), [True, True])):
        rows = result_table(run, present).rows
        assert [("changed or removed" in str(row[0])) for row in rows] == marked
