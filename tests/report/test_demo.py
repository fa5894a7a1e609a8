"""The demo page from end to end with a stand-in for the model: what is shown, counted and recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from allpet import demo
from allpet.errors import AllpetError
from allpet.model import Result
from allpet.report.attention_demo import attention_section
from allpet.scan import Scan
from allpet.scan.simulate import simulate
from allpet.scan.units import ACTIVITY_MM
from allpet.task.baselines import gaussian_strip
from model_support import tiny


class StandIn:
    """Simulated people for generation, a Gaussian filter for low dose."""

    hash = "0" * 16

    def generate(self, prompt: str, n: int = 1, seed: int = 0) -> Scan:
        data = simulate(n, region=prompt.split()[1], seed=seed + 1, slices_per_subject=1)
        return Scan(torch.from_numpy(data.sinogram), data.beam, unit=ACTIVITY_MM)

    def apply(self, task: str, scan: Scan, dose_fraction: float, **options: Any) -> Result:
        expected = scan.with_sinogram(gaussian_strip(scan.sinogram / dose_fraction, 2.0))
        return Result(expected, scan.with_sinogram(expected.sinogram.clamp_min(0).sqrt()))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "REGIONS", ("chest",))
    monkeypatch.setattr(demo, "PEOPLE", 3)
    for name in ("attention", "tasks"):  # need a network; tested below
        monkeypatch.setattr(demo, name, lambda state: None)


def test_page_and_numbers(quick: None, tmp_path: Path):
    page = demo.run_demo(tmp_path / "out", seed=0, model=StandIn())
    text = page.read_text(encoding="utf-8")
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]
    assert [re.sub("<.*?>", "", h) for h in re.findall(r"<h2.*?</h2>", text)] == [
        "Generated sinograms",
        "Masks and splits",
        "Low dose, before and after",
        "Cost",
    ]
    assert text.count("data:image/png;base64,") == 3 and not re.search(r"https?://", text)
    numbers = json.loads((page.parent / "report.json").read_text())
    assert numbers["mask split"]["largest_error"] == 0
    assert numbers["provenance"]["model_hash"] == StandIn.hash and numbers["provenance"]["seed"] == 0
    assert 0.1 < numbers["peak_memory_gib"] < 8
    scores = numbers["low dose chest"]
    before, gaussian, after = (scores[name]["psnr_sinogram"] for name in scores)
    assert before < 15 < after and before < 15 < gaussian
    generated, people, noise = (
        numbers["generated chest"][n]["moments"] for n in ("generated", "simulated people", "noise")
    )
    assert max(generated, people) < 1e-6 < 0.1 < noise


def test_the_gaussian_is_tuned_not_fixed(quick: None, monkeypatch: pytest.MonkeyPatch):
    few = demo.gaussian_width("chest", seed=0)
    monkeypatch.setattr(demo, "DOSE_FRACTION", 1.0)
    assert demo.gaussian_width("chest", seed=0) < few


def test_a_file_in_the_way_is_named(tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(AllpetError, match="is a file; name a folder"):
        demo.run_demo(tmp_path / "out", model=StandIn())


def test_attention_has_pictures_and_what_became_of_the_lesions():
    section, numbers = attention_section(tiny(), seed=0, region="brain")
    assert section.title == "Attention" and len(section.figures) == 2
    rows = section.tables[0].rows
    assert len(rows) == len(numbers) >= 1 and all("±" in row[4] for row in rows)
    assert all(one["truth"] > 0 and one["std"] > 0 for one in numbers.values())


def test_every_other_task_has_a_picture_and_scores_beside_baselines(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "PEOPLE", 2)
    state = demo.Demo(tiny(), 0)
    demo.tasks(state)
    (section,) = state.sections
    assert len(section.figures) == 4 and len(section.tables) == 1
    methods = {(row["task"], row["method"]) for row in state.numbers["tasks"]}
    assert {("attenuation", "uniform mu"), ("separate", "allpet"), ("convert", "copy")} <= methods
    assert len(section.tables[0].rows) == len(state.numbers["tasks"])
