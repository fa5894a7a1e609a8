"""The study's commands on toy sizes: data, arms, masks, synthetic training data."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from allpet.errors import AllpetError
from allpet.study import arms, data, masks, synthetic
from allpet.train.recipes import Base


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """The network of the recipe base with narrower levels: these tests are about what is around it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Base, "widths", (64, 96, 128))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("study")
    data.simulate_all(path, 90, views=32, bins=32)
    return path


def test_sinograms_are_spread_over_prompts_and_subjects(folder):
    assert sum(data.shares(500).values()) == 500 and set(data.shares(500).values()) == {33, 34}
    whole = data.training_set(folder, 90)
    assert len(whole) == 90 and len(set(whole.subject.tolist())) == 45
    part = data.training_set(folder, 40)
    assert len(part) == 40 and sorted(set(part.tracer.tolist())) == [1, 2, 3]
    with pytest.raises(AllpetError, match="holds 6 sinograms; 7 are needed"):
        data.training_set(folder, 100)
    again = data.unseen(folder, "FDG", "chest", 4, 32, 32)
    assert torch.equal(data.unseen(folder, "FDG", "chest", 2, 32, 32), again[:2])


@pytest.mark.parametrize("name", ["ours", "vae", "shipped-plain"])
def test_an_arm_trains_scores_and_is_not_done_twice(name, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(arms.ARMS, name, replace(arms.ARMS[name], about="toy", count=90))
    if arms.ARMS[name].shipped:
        with pytest.raises(AllpetError, match="its first 90 sinograms are not those that the model was trained on"):
            arms.run_arm(name, folder, tmp_path, n=6, max_steps=2)
        known = data.training_set(folder, 90).facts()["data"]
        made = arms.generator_of(arms.ARMS[name], tmp_path)
        made.config["data"] = known
        monkeypatch.setattr(arms, "generator_of", lambda arm, where: made)
    result = arms.run_arm(name, folder, tmp_path, n=6, max_steps=2)
    assert (
        len(result["rows"]) == 15 and result["sinograms"] == 90 and result["summary"]["sinogram_distance"]["mean"] > 0
    )
    file = tmp_path / f"{name}-0" / arms.RESULT
    assert json.loads(file.read_text())["arm"] == name
    before = file.stat().st_mtime_ns
    assert arms.run_arm(name, folder, tmp_path, n=6, max_steps=2) == json.loads(file.read_text())
    assert file.stat().st_mtime_ns == before
    table = arms.markdown([result, {**result, "seed": 1}])
    assert f"| {name} | toy | 90 | 2 |" in table and "±" in table


def test_unknown_arm():
    with pytest.raises(AllpetError, match="arm 'magic' is unknown; known: ours, none"):
        arms.run_arm("magic", Path(), Path())


def test_half_size_is_half_and_arms_differ(folder):
    whole = data.training_set(folder, 90)
    sizes = {
        name: arms.recipe_of(arms.ARMS[name])(whole, None, 0).network.parameters_count for name in ("ours", "half")
    }
    assert 0.2 < sizes["half"] / sizes["ours"] < 0.35  # half the width
    without = arms.recipe_of(arms.ARMS["geometric"])(whole, None, 0)
    assert (
        not without.options["parts"] and float(without.draw(16, torch.Generator().manual_seed(0))[1].whole.min()) == 1
    )


def test_random_shapes_are_more_diverse_than_a_sliding_block():
    rows = {row["family"]: row for row in masks.diversity(60, 32)}
    assert list(rows) == ["RMAS (one shape)", "RMAS + DMM", "sliding block of 16"]
    assert rows["RMAS (one shape)"]["participation_ratio"] > rows["sliding block of 16"]["participation_ratio"]
    assert "| RMAS + DMM | 60 |" in masks.markdown(list(rows.values()))


def test_a_restorer_learns_and_synthetic_sinograms_are_compared(folder, tmp_path):
    from model_support import blobs

    s = blobs(12)
    _, expected = synthetic.noisy(s, torch.Generator().manual_seed(0))
    assert float(expected.sum(dim=(1, 2)).mean()) == pytest.approx(synthetic.COUNTS, rel=1e-3)
    quick = [synthetic.judge(synthetic.fit(s, True, m, 0), s, 1).mean() for m in (0.0001, 0.08)]
    assert float(quick[1]) > float(quick[0]) + 1
    arms.run_arm("ours-50", folder, tmp_path, n=6, max_steps=1)
    rows = synthetic.compare(folder, tmp_path / "ours-50-0", 45, 30, 0.001, (0, 1), people=2)
    assert len(rows) == 8 and rows[0]["n"] == 30
    assert "| real only | 45 |" in synthetic.markdown(rows)
