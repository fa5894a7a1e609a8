"""One session: its regions, and how it came to them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from allpet.audit import entry, facts_of
from allpet.errors import AllpetError
from allpet.mask.attention import LEAST
from allpet.mask.presets import names
from allpet.mask.region import Region
from allpet.metrics.region import Uptake
from allpet.ui.edits import Desk, edit
from allpet.ui.item import Item, Snapshot
from allpet.ui.library import Loaded

MAX_STEPS = 200
"""Steps that can be undone."""
MAX_BYTES = 1 << 26
"""Most that the voxels of all steps may take."""
MAX_ENTRIES = 10_000
"""Lines of audit that may wait to be saved."""
_DETAILS = (
    "shape",
    "planes",
    "region",
    "regions",
    "suggestion",
    "plane",
    "x_mm",
    "y_mm",
    "share",
    "through",
    "value",
    "how",
    "name",
)


@dataclass(eq=False)
class Work:
    """The regions of one session, with all steps that led to them; `lock` is held by whoever changes or shows it.

    Parameters
    ----------
    session : its id. name, hash : of the scan. history : audit read from the work folder. entries : audit since.
    written : lines of both that a folder holds. digests : of the regions there, when this session last saw them.
    results : of tasks, read from the work folder, the last one at the end; results_version : 0 where that one was run
    with the regions read, else -1.
    """

    session: str
    name: str
    hash: str
    now: Snapshot = field(default_factory=Snapshot)
    reopened: bool = False
    note: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str | None] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    results_version: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    used: float = field(default_factory=time.monotonic)
    version: int = 0
    _undo: list[Snapshot] = field(default_factory=list)
    _redo: list[Snapshot] = field(default_factory=list)
    _count: int = 0
    _saved: Snapshot | None = None

    def __post_init__(self) -> None:
        self._saved = self.now
        self._count = len(self.now.items)

    def edit(self, loaded: Loaded, body: dict[str, Any]) -> None:
        """Carry out an operation of :mod:`allpet.ui.edits`, or undo or redo one.

        Raises
        ------
        AllpetError : it cannot be done, or the attention could not be undone; all is as it was.
        """
        with self.lock:
            op = body.get("op")
            if op in ("undo", "redo"):
                stacks = (self._undo, self._redo) if op == "undo" else (self._redo, self._undo)
                self._back(str(op), *stacks)
                return
            count = self._count
            try:
                new = edit(Desk(loaded, self.now, self._new_id), body)
                self._take(loaded, str(op), new, {key: body[key] for key in _DETAILS if key in body})
            except AllpetError:
                self._count = count
                raise

    def add(self, loaded: Loaded, regions: Sequence[Region], file: str) -> None:
        """Add regions from a file.

        Raises
        ------
        AllpetError : too many, or the attention could not be undone; all is as it was.
        """
        with self.lock:
            desk = Desk(loaded, self.now, self._new_id)
            self._take(loaded, "upload", desk.with_new(*((region, "file", None) for region in regions)), {"file": file})

    def note_run(self, what: str, **more: Any) -> None:
        """Add a run to the audit."""
        with self.lock:
            self.entries.append(entry(what, **more))

    def mark_saved(self, snapshot: Snapshot) -> None:
        """What was written to the work folder."""
        with self.lock:
            self._saved = snapshot

    @property
    def saved(self) -> bool:
        """True if the regions are as they were last saved or read."""
        return self._saved is self.now

    def view(self, loaded: Loaded) -> dict[str, Any]:
        """The state, as the page sees it."""
        with self.lock:
            now, steps = self.now, {"undo": bool(self._undo), "redo": bool(self._redo), "saved": self.saved}
            version = self.version
        least, most = loaded.shares.extremes(now.items, loaded.shape[0])
        low, high = loaded.window
        scan, image = loaded.scan, loaded.image
        views, bins = scan.geometry.shape
        return {
            "session": self.session,
            "version": version,
            "reopened": self.reopened,
            **({} if self.note is None else {"note": self.note}),
            "scan": {
                "name": loaded.name,
                "planes": len(scan),
                "views": views,
                "bins": bins,
                "unit": scan.unit,
                "tracer": scan.tracer,
                "region": scan.region,
                "dose_fraction": scan.dose_fraction,
                "duration_s": scan.duration_s,
                "calibrated": scan.counts_per_unit is not None,
            },
            "image": {
                "size": image.grid.size,
                "pixel_mm": image.grid.pixel_mm,
                "plane_mm": image.plane_mm,
                "unit": image.unit,
                "low": low,
                "high": high,
            },
            "lines": loaded.lines,
            "regions": [shown(item, loaded) for item in now.items],
            "suggestions": [shown(item, loaded) for item in now.offered(loaded.suggestions)],
            "presets": names(scan.region),
            **steps,
            "attention": {"max": most, "min": least},
        }

    def _new_id(self) -> str:
        self._count += 1
        return f"r{self._count}"

    def _take(self, loaded: Loaded, op: str, new: Snapshot, details: dict[str, Any]) -> None:
        """Make a snapshot the present one."""
        if len(self.history) + len(self.entries) - max(self.written.values(), default=0) >= MAX_ENTRIES:
            raise AllpetError(f"{MAX_ENTRIES} edits are not saved; save before the next one")
        least, _ = loaded.shares.extremes(new.items, loaded.shape[0])
        if not least >= LEAST:
            raise AllpetError(
                f"strengths of overlapping regions would sum to {least - 1:.3g} on some lines; they must stay above "
                "-1, or the emphasis cannot be undone: weaken or delete one"
            )
        self._undo.append(self.now)
        self._redo.clear()
        self._record(op, new, details)
        self._forget()

    def _back(self, op: str, source: list[Snapshot], target: list[Snapshot]) -> None:
        if not source:
            raise AllpetError(f"there is nothing to {op}")
        target.append(self.now)
        self._record(op, source.pop(), {})

    def _record(self, op: str, new: Snapshot, details: dict[str, Any]) -> None:
        old, self.now = self.now, new
        self.version += 1
        shown = {
            key: value if len(str(value)) <= 2000 else f"{len(str(value))} letters" for key, value in details.items()
        }
        changed = [item.region for item in new.items if item not in old.items]
        ids = {item.id for item in new.items}
        removed = [facts_of(item.region) for item in old.items if item.id not in ids]
        self.entries.append(
            entry(
                f"edit: {op}",
                changed,
                edit=self.version,
                session=hashlib.sha256(self.session.encode()).hexdigest()[:8],
                details=shown,
                removed=removed,
                dismissed=sorted(new.dismissed - old.dismissed),
            )
        )

    def _forget(self) -> None:
        """Drop the oldest steps where there are too many, or they hold too much."""
        del self._undo[:-MAX_STEPS]
        while len(self._undo) > 1 and _nbytes([self.now, *self._undo]) > MAX_BYTES:
            del self._undo[0]


def shown(item: Item, loaded: Loaded) -> dict[str, Any]:
    """A region or suggestion, as the page sees it."""
    region = item.region
    return {
        "id": item.id,
        "name": region.name,
        "kind": region.kind,
        "strength": region.strength,
        "why": region.why,
        "score": region.score,
        "source": item.source,
        "planes": [region.planes.start, region.planes.stop - 1],
        "voxels": round(region.voxels, 2),
        "volume_ml": round(loaded.uptake(item).volume_ml, 4),
        "hash": item.hash,
        "uptake": numbers(loaded.uptake(item)),
    }


def numbers(found: Uptake) -> dict[str, float]:
    """Mean, maximum and peak."""
    return {"mean": found.mean, "max": found.maximum, "peak": found.peak}


def _nbytes(snapshots: Sequence[Snapshot]) -> int:
    levels = {id(item.region.levels): item.region.levels.nbytes for one in snapshots for item in one.items}
    return sum(levels.values())
