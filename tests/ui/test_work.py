"""A session's steps: whatever is done, undone and done again, regions and attention are those of the definition."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allpet.errors import AllpetError
from allpet.geometry import ParallelBeam, RingBeam
from allpet.mask import Lines, attention_of
from allpet.mask.attend import quick_image
from allpet.mask.region import Region
from allpet.metrics.region import uptake
from allpet.ui import work as work_module
from allpet.ui.item import Item
from allpet.ui.library import Loaded
from allpet.ui.shares import Shares
from allpet.ui.work import Work
from ui_support import ELLIPSE, data


@lru_cache(maxsize=1)
def loaded() -> Loaded:
    scan = data(0).scan()
    image = quick_image(scan)
    mask = image.array.numpy() > 0.7 * float(image.array.max())
    found = [Region.from_mask("hot", mask, kind="hot"), Region.from_mask("cold", ~mask, kind="cold", strength=-0.4)]
    items = tuple(Item(f"s{k}", region, "suggested", f"s{k}") for k, region in enumerate(found, 1))
    return Loaded("scan", scan, image, items, "hash", None, Shares(scan.geometry))


def state_of(work: Work) -> list[tuple[str, str, str]]:
    return [(item.id, item.region.name, item.region.hash) for item in work.now.items]


mm = st.floats(-200, 200)
planes = st.sampled_from([[0, 0], [1, 2], [0, 2]])
shapes = st.one_of(
    st.builds(
        lambda x, y, a: {"type": "ellipse", "centre_mm": [x, y], "axes_mm": [a, a / 2]}, mm, mm, st.floats(1, 99)
    ),
    st.builds(lambda p: {"type": "polygon", "points_mm": p}, st.lists(st.tuples(mm, mm), min_size=3, max_size=6)),
    st.builds(lambda p: {"type": "pen", "points_mm": p, "width_mm": 20.0}, st.lists(st.tuples(mm, mm), min_size=1)),
)
strengths = st.floats(-0.99, 5)


class Steps(RuleBasedStateMachine):
    """Random edits beside a plain list of all states."""

    @initialize()
    def begin(self) -> None:
        self.work = Work("session", "scan", "hash")
        self.states, self.at = [state_of(self.work)], 0

    def do(self, **body) -> None:
        before, version = state_of(self.work), self.work.version
        try:
            self.work.edit(loaded(), body)
        except AllpetError:
            assert state_of(self.work) == before and self.work.version == version
            return
        del self.states[self.at + 1 :]
        self.states.append(state_of(self.work))
        self.at += 1

    def some(self, number: int) -> str:
        items = self.work.now.items
        return items[number % len(items)].id if items else "r1"

    @rule(shape=shapes, planes=planes, strength=strengths)
    def draw(self, shape, planes, strength) -> None:
        self.do(op="draw", shape=shape, planes=planes, strength=strength)

    @rule(shape=shapes, planes=planes, number=st.integers(0, 9), op=st.sampled_from(["draw", "erase"]))
    def change(self, shape, planes, number, op) -> None:
        self.do(op=op, shape=shape, planes=planes, region=self.some(number))

    @rule(number=st.integers(0, 9), value=strengths)
    def strength(self, number, value) -> None:
        self.do(op="strength", region=self.some(number), value=value)

    @rule(number=st.integers(0, 9))
    def delete(self, number) -> None:
        self.do(op="delete", region=self.some(number))

    @rule(numbers=st.lists(st.integers(0, 9), min_size=2, max_size=3), how=st.sampled_from(["union", "difference"]))
    def combine(self, numbers, how) -> None:
        self.do(op="combine", regions=[self.some(k) for k in numbers], how=how)

    @rule(x=mm, y=mm, through=st.booleans())
    def grow(self, x, y, through) -> None:
        self.do(op="grow", plane=1, x_mm=x, y_mm=y, through=through)

    @rule(which=st.sampled_from(["s1", "s2"]), op=st.sampled_from(["accept", "dismiss"]))
    def suggestion(self, which, op) -> None:
        self.do(op=op, suggestion=which)

    @rule()
    def clear(self) -> None:
        self.do(op="clear")

    @precondition(lambda self: self.at > 0)
    @rule()
    def undo(self) -> None:
        self.work.edit(loaded(), {"op": "undo"})
        self.at -= 1

    @precondition(lambda self: self.at < len(self.states) - 1)
    @rule()
    def redo(self) -> None:
        self.work.edit(loaded(), {"op": "redo"})
        self.at += 1

    @invariant()
    def is_as_it_should_be(self) -> None:
        if not hasattr(self, "work"):
            return
        assert state_of(self.work) == self.states[self.at]
        view = self.work.view(loaded())
        assert view["undo"] == (self.at > 0) and view["redo"] == (self.at < len(self.states) - 1)
        scan, shares = loaded().scan, loaded().shares
        weights = attention_of(self.work.now.regions, Lines(scan.geometry), len(scan))
        for plane in range(len(scan)):
            assert torch.allclose(shares.plane(self.work.now.items, plane), weights[plane], atol=1e-5)
        least, most = shares.extremes(self.work.now.items, len(scan))
        assert least == pytest.approx(float(weights.amin()), abs=1e-5)
        assert most == pytest.approx(float(weights.amax()), abs=1e-4) and least > 0

    def teardown(self) -> None:
        if not hasattr(self, "work"):
            return
        for _ in range(self.at):
            self.work.edit(loaded(), {"op": "undo"})
        assert self.work.now.items == () and self.work.now.dismissed == frozenset() and self.work.saved
        with pytest.raises(AllpetError, match="nothing to undo"):
            self.work.edit(loaded(), {"op": "undo"})
        for _ in range(len(self.states) - 1):
            self.work.edit(loaded(), {"op": "redo"})
        assert state_of(self.work) == self.states[-1]


Steps.TestCase.settings = settings(max_examples=20, stateful_step_count=20)
TestSteps = Steps.TestCase


@pytest.mark.parametrize("geometry", [ParallelBeam(24, 33, 4.0), RingBeam(40, 41, 200.0, 5)])
def test_shares_are_those_of_the_definition_on_any_geometry(geometry):
    shares, lines = Shares(geometry), Lines(geometry)
    size = lines.grid.size
    mask = torch.zeros(6, size, size)
    mask[1:5, 8:14, 9:20] = 1
    mask[3, 10:12] = 0.5
    items = (Item("a", Region.from_mask("a", mask, strength=2.0), "drawn"),)
    items += (Item("b", Region.from_mask("b", mask.flip(0, 1), strength=-0.3), "drawn"),)
    weights = attention_of([item.region for item in items], lines, 6)
    assert torch.allclose(torch.stack([shares.plane(items, k) for k in range(6)]), weights, atol=1e-6)
    assert shares.of(items[0]).planes.shape[0] == 2  # planes that are alike are projected once


def test_what_is_kept_of_shares_is_bounded_and_right():
    geometry = ParallelBeam(24, 32, 4.0)
    shares = Shares(geometry, max_bytes=5 * 24 * 32 * 4)
    masks = torch.zeros(9, 1, 32, 32)
    for k in range(9):
        masks[k, 0, 10 + k] = 1
    items = [Item(str(k), Region.from_mask(str(k), mask), "drawn") for k, mask in enumerate(masks)]
    first = [shares.plane([item], 0) for item in items]
    assert shares._bytes <= shares.max_bytes and len(shares._kept) == 5
    assert all(torch.equal(shares.plane([item], 0), one) for item, one in zip(items, first, strict=True))


def test_uptake_is_that_of_the_metrics():
    image = loaded().image
    mask = torch.zeros(image.array.shape)
    mask[0, :5, :5], mask[1:, 20:30, 12:28], mask[2, 47, 47] = 0.3, 1, 0.9
    masks = mask, mask * (mask < 0.5)
    for region in (*(Region.from_mask("a", one) for one in masks), loaded().suggestions[0].region):
        together = loaded().scan.neighbours
        own = uptake(image.array.numpy(), region, image.grid, 8.0, neighbours=together)
        found = loaded().uptake(Item("x", region, "drawn"))
        for name in ("mean", "maximum", "peak", "volume_ml"):
            assert getattr(found, name) == pytest.approx(getattr(own, name), rel=1e-4, abs=1e-6), name


def test_steps_and_their_memory_are_bounded(monkeypatch):
    monkeypatch.setattr(work_module, "MAX_STEPS", 10)
    work = Work("session", "scan", "hash")
    work.edit(loaded(), {"op": "draw", "shape": ELLIPSE})
    for k in range(30):
        work.edit(loaded(), {"op": "strength", "region": "r1", "value": 0.1 * k})
    for _ in range(10):
        work.edit(loaded(), {"op": "undo"})
    with pytest.raises(AllpetError, match="nothing to undo"):
        work.edit(loaded(), {"op": "undo"})
    assert work.now.regions[0].strength == pytest.approx(1.9)
    monkeypatch.setattr(work_module, "MAX_BYTES", 1500)
    shape = {"type": "rectangle", "centre_mm": [0, 0], "axes_mm": [90, 90]}
    for k in range(5):
        work.edit(loaded(), {"op": "draw", "shape": shape | {"centre_mm": [10 * k, 0]}, "planes": [0, 0]})
    assert len(work._undo) < 5


def test_every_edit_is_in_the_audit(monkeypatch):
    work = Work("session", "scan", "hash")
    work.edit(loaded(), {"op": "draw", "shape": ELLIPSE, "planes": [1, 1]})
    first = work.now.regions[0].hash
    work.edit(loaded(), {"op": "strength", "region": "r1", "value": 2.0})
    work.edit(loaded(), {"op": "undo"})
    work.edit(loaded(), {"op": "delete", "region": "r1"})
    with pytest.raises(AllpetError):
        work.edit(loaded(), {"op": "delete", "region": "r1"})
    said = [one["what"] for one in work.entries]
    assert said == ["edit: draw", "edit: strength", "edit: undo", "edit: delete"]
    assert work.entries[0]["regions"][0]["hash"] == work.entries[2]["regions"][0]["hash"] == first
    assert work.entries[1]["details"]["value"] == 2.0 and work.entries[1]["regions"][0]["hash"] != first
    assert work.entries[3]["removed"][0]["hash"] == first and work.entries[3]["regions"] == []
    assert all(one["when"] and one["allpet_version"] for one in work.entries)
    assert "session" not in [one["session"] for one in work.entries]
    monkeypatch.setattr(work_module, "MAX_ENTRIES", 4)
    with pytest.raises(AllpetError, match="save before"):
        work.edit(loaded(), {"op": "draw", "shape": ELLIPSE})
