"""The study of attention on a few people: marks lie on lesions, tables have their numbers, the observer observes."""

import numpy as np
import pytest

from allpet.geometry import ImageGrid
from allpet.scan.phantom import LABEL
from allpet.study.attention import compare, lesions_of, markdown, summary
from allpet.study.detect import CHANNELS, area, detectability, observe, responses
from model_support import tiny

GRID = ImageGrid(64, 4.0)


def test_a_mark_lies_on_its_lesion_and_tells_hot_from_cold():
    labels = np.full(GRID.shape, LABEL["liver"], np.uint8)
    labels[10:16, 20:28], labels[40:45, 40:45] = LABEL["lesion"], LABEL["lesion"]
    image = np.full(GRID.shape, 2.0, np.float32)
    image[10:16, 20:28], image[40:45, 40:45] = 9.0, 0.3
    sizes = []
    for seed in range(20):
        hot, cold = lesions_of(labels, image, GRID, seed)
        assert (hot.kind, cold.kind) == ("hot", "cold") == (hot.region.kind, cold.region.kind)
        for one in (hot, cold):
            mark = one.region.plane(0, GRID.shape)
            assert mark[one.pixels].mean() > 0.5
            sizes.append(mark.sum() / one.pixels.sum())
    assert 1.0 < np.mean(sizes) < 2.0


def test_all_ways_of_marking_are_scored():
    rows = compare(tiny(), 12, 3, cases=(("FDG", "brain"),), fractions=(1 / 20,), marks=("told", "untold", "suggested"))
    assert {row["marks"] for row in rows} == {"told", "untold", "suggested"}
    lines = summary(rows, draws=50)
    assert all(np.isfinite([line["in_without"], line["in_with"], *line["in_change"]]).all() for line in lines)
    same = {row["marks"]: row["in_without"] for row in rows if row["subject"] == rows[0]["subject"]}
    assert same["told"] == pytest.approx(same["untold"]) == pytest.approx(same["suggested"], rel=1e-3)
    assert markdown(lines).count("\n") == 1 + len(lines)


def test_the_observer_tells_what_can_be_told():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(200, 2, CHANNELS)) @ rng.normal(size=(CHANNELS, CHANNELS))
    assert area(observe(seen)) == pytest.approx(0.5, abs=0.08)
    seen[:, 1] += 0.7 * seen[:, 0].std(axis=0)
    assert area(observe(seen)) > 0.75


def test_channels_see_a_spot_where_they_look():
    square = GRID.x[None, :] ** 2 + GRID.y[:, None] ** 2
    spot = np.exp(-square / (2 * 8.0**2))
    here, there = responses(spot, [0, 0], GRID), responses(spot, [80, 0], GRID)
    assert here[0] > 0.05 and np.abs(there).max() < 0.05 * here[0]
    assert np.abs(responses(np.ones(GRID.shape), [0, 0], GRID)[:2]).max() < 0.02


def test_detectability_has_a_row_for_every_setting():
    rows = detectability(tiny(), 6, cases=(("FDG", "brain"),), settings=((1 / 20, 1.0),), draws=20)
    assert len(rows) == 1 and 0 <= rows[0]["auc_with"] <= 1 and set(rows[0]["empty"]) == {"without", "with"}
    assert "FDG brain" in markdown([], rows)
