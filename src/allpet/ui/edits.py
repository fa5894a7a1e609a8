"""What can be done to regions: functions from a snapshot to the next one, by the name of the operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from allpet.errors import AllpetError
from allpet.mask.outline import FINE, SHAPES, draw, grow
from allpet.mask.presets import place
from allpet.mask.region import FULL, Region, difference, intersection, planes_words, union
from allpet.ui.item import Item, Snapshot
from allpet.ui.library import Loaded
from allpet.ui.wanted import flag, number, short, span, text, whole

MAX_REGIONS = 255
"""So that a label fits a byte."""
MAX_WORK = 1_000_000_000
"""Points of a line times points of the image that are looked at for one outline: some ten seconds."""
_COMBINE = {"union": union, "intersection": intersection, "difference": difference}


@dataclass(frozen=True)
class Desk:
    """Where an edit happens: the scan, the regions as they are, and ids for new ones."""

    loaded: Loaded
    now: Snapshot
    new_id: Callable[[], str]

    def item(self, body: dict[str, Any], name: str = "region") -> Item:
        """The region that a request names."""
        return self.found(text(body, name))

    def found(self, wanted: str) -> Item:
        """A region by its id."""
        for item in self.now.items:
            if item.id == wanted:
                return item
        raise AllpetError(f"there is no region '{wanted}'; known: {', '.join(x.id for x in self.now.items) or 'none'}")

    def suggestion(self, body: dict[str, Any]) -> Item:
        """The suggestion that a request names."""
        wanted = text(body, "suggestion")
        for item in self.now.offered(self.loaded.suggestions):
            if item.id == wanted:
                return item
        raise AllpetError(f"there is no suggestion '{wanted}' left")

    def with_new(self, *new: tuple[Region, str, str | None]) -> Snapshot:
        """The snapshot with regions added: what, source, origin."""
        items = [Item(self.new_id(), *one) for one in new]
        if len(self.now.items) + len(items) > MAX_REGIONS:
            raise AllpetError(f"there would be {len(self.now.items) + len(items)} regions; at most {MAX_REGIONS}")
        return replace(self.now, items=(*self.now.items, *items))

    def changed(self, item: Item, region: Region | None) -> Snapshot:
        """The snapshot with another region in a region's place, or with nothing there."""
        other = () if region is None else (replace(item, region=region),)
        items = tuple(x for old in self.now.items for x in (other if old is item else (old,)))
        return replace(self.now, items=items)


def edit(desk: Desk, body: dict[str, Any]) -> Snapshot:
    """Carry out one operation.

    Raises
    ------
    AllpetError : an unknown operation, anything missing or out of range; the snapshot is as it was.
    """
    name = text(body, "op")
    if name not in OPS:
        raise AllpetError(f"op '{name}' is unknown; known: {', '.join(OPS)}, undo, redo")
    return OPS[name](desk, body)


def _accept(desk: Desk, body: dict[str, Any]) -> Snapshot:
    item = desk.suggestion(body)
    return desk.with_new((item.region, "suggested", item.id))


def _dismiss(desk: Desk, body: dict[str, Any]) -> Snapshot:
    return replace(desk.now, dismissed=desk.now.dismissed | {desk.suggestion(body).id})


def _accept_all(desk: Desk, body: dict[str, Any]) -> Snapshot:
    left = desk.now.offered(desk.loaded.suggestions)
    if not left:
        raise AllpetError("there is no suggestion left")
    return desk.with_new(*((item.region, "suggested", item.id) for item in left))


def _draw(desk: Desk, body: dict[str, Any]) -> Snapshot:
    flat, (first, last) = _outline(desk, body), span(body, desk.loaded.shape[0])
    drawn = _on_planes(flat, first, last, _named(desk, body, str(body["shape"]["type"])))
    if "region" in body:
        item = desk.item(body)
        return desk.changed(item, _joined(item, drawn))
    why = f"drawn: {body['shape']['type']} on {planes_words(first, last)}"
    return desk.with_new((_dressed(drawn, body, why), "drawn", None))


def _erase(desk: Desk, body: dict[str, Any]) -> Snapshot:
    item = desk.item(body)
    flat, (first, last) = _outline(desk, body), span(body, desk.loaded.shape[0])
    rubbed, region = _on_planes(flat, first, last, "erased"), item.region
    left = region.levels - np.minimum(region.levels, _in_box(rubbed, region.box))
    if not left.any():
        return desk.changed(item, None)
    kept = Region.from_mask(region.name, left.astype(np.float32) / FULL)
    (plane, row, column), inner = region.start, kept.start
    start = (plane + inner[0], row + inner[1], column + inner[2])
    return desk.changed(item, replace(region, start=start, levels=kept.levels))


def _grow(desk: Desk, body: dict[str, Any]) -> Snapshot:
    planes, side = desk.loaded.image.array.numpy(), desk.loaded.image.grid.size
    plane = whole(body, "plane", 0, len(planes) - 1)
    half, pixel = (side - 1) / 2, desk.loaded.image.grid.pixel_mm
    column, row = number(body, "x_mm") / pixel + half, half - number(body, "y_mm") / pixel
    if not (-0.5 <= row < side - 0.5 and -0.5 <= column < side - 0.5):
        raise AllpetError("the point lies outside of the image")
    share, seed = number(body, "share", 0.41), (round(row), round(column))
    if flag(body, "through"):
        found, first = grow(planes, (plane, *seed), share), 0
    else:
        found, first = grow(planes[plane : plane + 1], (0, *seed), share), plane
    region = Region.from_mask(_named(desk, body, "grown"), found)
    region = replace(region, start=(region.start[0] + first, *region.start[1:]))
    if "region" in body:
        item = desk.item(body)
        return desk.changed(item, _joined(item, region))
    where = f"x {number(body, 'x_mm'):.0f}, y {number(body, 'y_mm'):.0f} mm in {planes_words(plane, plane)}"
    why = f"grown from {where}: at least {100 * share:g} % of the highest value there"
    return desk.with_new((_dressed(region, {"kind": "hot"} | body, why), "grown", None))


def _strength(desk: Desk, body: dict[str, Any]) -> Snapshot:
    item = desk.item(body)
    return desk.changed(item, replace(item.region, strength=number(body, "value")))


def _kind(desk: Desk, body: dict[str, Any]) -> Snapshot:
    item = desk.item(body)
    return desk.changed(item, replace(item.region, kind=text(body, "value")))


def _rename(desk: Desk, body: dict[str, Any]) -> Snapshot:
    item = desk.item(body)
    return desk.changed(item, replace(item.region, name=text(body, "value")))


def _delete(desk: Desk, body: dict[str, Any]) -> Snapshot:
    return desk.changed(desk.item(body), None)


def _clear(desk: Desk, body: dict[str, Any]) -> Snapshot:
    return replace(desk.now, items=())


def _combine(desk: Desk, body: dict[str, Any]) -> Snapshot:
    ids, how = body.get("regions"), text(body, "how")
    if not isinstance(ids, list) or not 2 <= len(ids) <= MAX_REGIONS or len({str(x) for x in ids}) != len(ids):
        raise AllpetError(f"regions is {short(ids)}; it must be at least two different ids")
    if how not in _COMBINE:
        raise AllpetError(f"how is '{how}'; known: {', '.join(_COMBINE)}")
    items = [desk.found(text({"id": one}, "id")) for one in ids]
    names = [item.region.name for item in items]
    name = text(body, "name", f"{how} of {', '.join(names)}"[:80])
    why = f"{how} of {', '.join(names)}"[:500]
    made = _COMBINE[how](name, [item.region for item in items], desk.loaded.shape, why=why)
    new = Item(desk.new_id(), made, "combined")
    gone = () if how == "difference" else items[1:]
    left = (new if old is items[0] else old for old in desk.now.items if old not in gone)
    return replace(desk.now, items=tuple(left))


def _preset(desk: Desk, body: dict[str, Any]) -> Snapshot:
    name, plane = text(body, "name"), whole(body, "plane", 0, desk.loaded.shape[0] - 1)
    image = desk.loaded.image
    mask, kind, how = place(name, image.array[plane].numpy(), image.grid, desk.loaded.scan.region)
    region, why = _on_planes(mask, plane, plane, name), f"preset on {planes_words(plane, plane)}: {how}"
    return desk.with_new((replace(region, kind=kind, why=why), "preset", None))


OPS: dict[str, Callable[[Desk, dict[str, Any]], Snapshot]] = {
    "accept": _accept,
    "dismiss": _dismiss,
    "accept_all": _accept_all,
    "draw": _draw,
    "erase": _erase,
    "grow": _grow,
    "strength": _strength,
    "kind": _kind,
    "rename": _rename,
    "delete": _delete,
    "clear": _clear,
    "combine": _combine,
    "preset": _preset,
}


def work_of(shape: Any, size: int, pixel_mm: float) -> float:
    """How long an outline may take to draw: points of its line times points of the image in its box."""
    points = shape.get("points_mm") if isinstance(shape, dict) else None
    if not isinstance(points, list) or not points:
        return float((size * FINE) ** 2)
    try:
        sides = np.ptp(np.array(points, dtype=float).reshape(len(points), -1), axis=0)
        width = float(shape.get("width_mm", 0.0) or 0.0)
    except (TypeError, ValueError, OverflowError):
        return 0.0  # the outline itself says what is wrong
    box = np.minimum((sides + 2 * width) / pixel_mm + 2, size) * FINE
    return float(len(points) * box.prod()) if len(box) == 2 and np.isfinite(box).all() else 0.0


def _outline(desk: Desk, body: dict[str, Any]) -> np.ndarray:
    shape, grid = body.get("shape"), desk.loaded.image.grid
    if not isinstance(shape, dict):
        raise AllpetError(f"shape is {short(shape)}; it must be an object with a type: {', '.join(SHAPES)}")
    if not isinstance(shape.get("type"), str):
        raise AllpetError(f"shape's type is {short(shape.get('type'))}; known: {', '.join(SHAPES)}")
    if work_of(shape, grid.size, grid.pixel_mm) > MAX_WORK:
        raise AllpetError("the outline has too many points for its size; leave some out")
    return draw(shape, grid)


def _on_planes(flat: np.ndarray, first: int, last: int, name: str) -> Region:
    one = Region.from_mask(name, flat)
    return replace(one, start=(first, *one.start[1:]), levels=np.repeat(one.levels, last - first + 1, axis=0))


def _joined(item: Item, more: Region) -> Region:
    """A region and more of it; name, kind, strength and reason stay."""
    region = item.region
    first, second, third = (
        slice(min(one.start, two.start), max(one.stop, two.stop)) for one, two in zip(region.box, more.box, strict=True)
    )
    levels = np.maximum(*(_in_box(one, (first, second, third)) for one in (region, more)))
    return replace(region, start=(first.start, second.start, third.start), levels=levels)


def _in_box(region: Region, box: tuple[slice, slice, slice]) -> np.ndarray:
    """Levels of a region in another box than its own."""
    out = np.zeros([part.stop - part.start for part in box], np.uint8)
    both = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, region.box, strict=True)]
    if all(low < high for low, high in both):
        there, here = (
            tuple(slice(low - part.start, high - part.start) for (low, high), part in zip(both, frame, strict=True))
            for frame in (box, region.box)
        )
        out[there] = region.levels[here]
    return out


def _named(desk: Desk, body: dict[str, Any], word: str) -> str:
    return text(body, "name", f"{word} {len(desk.now.items) + 1}"[:80])


def _dressed(region: Region, body: dict[str, Any], why: str) -> Region:
    return replace(region, kind=text(body, "kind", "roi"), strength=number(body, "strength", 1.0), why=why)
