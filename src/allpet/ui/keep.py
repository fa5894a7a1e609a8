"""Work folders: what a session leaves on the disk, and how the next one finds it again."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allpet import audit
from allpet.errors import AllpetError
from allpet.io.files import replacing
from allpet.io.place import locked
from allpet.io.regions import MAX_JSON, VERSION, label_image, region_to_json, regions_of_json
from allpet.mask.attend import Attended, attend
from allpet.report.attended import AUDIT, LABELS, REGIONS, REPORT, write_planes
from allpet.report.attention import write_attention_report
from allpet.save import save
from allpet.ui.item import SOURCES, Item, Snapshot
from allpet.ui.library import Library, Loaded
from allpet.ui.refused import CONFLICT, MISSING, Refused
from allpet.ui.work import Work

EXPORTS = {
    LABELS: "application/gzip",
    REGIONS: "application/json",
    REPORT: "text/html; charset=utf-8",
    AUDIT: "application/x-ndjson",
    "work.zip": "application/zip",
}
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_SAVING = threading.Lock()


@dataclass(frozen=True)
class Kept:
    """All that is written of a session: its regions at one time, the lines of audit and the results of tasks."""

    loaded: Loaded
    now: Snapshot
    audit: Sequence[dict[str, Any]]
    results: Sequence[dict[str, Any]]

    def attended(self) -> Attended:
        """The scan with its attention."""
        return attend(self.loaded.scan, self.now.regions, image=self.loaded.image)

    def latest(self) -> dict[str, dict[str, Any]]:
        """The last result of every task, by file name."""
        return {f"result-{one['task']}.json": one for one in self.results}


def kept(work: Work, loaded: Loaded, results: Sequence[dict[str, Any]]) -> Kept:
    """A session as it is now."""
    with work.lock:
        return Kept(loaded, work.now, (*work.history, *work.entries), (*work.results, *results))


def open_work(session: str, loaded: Loaded, library: Library, fresh: bool) -> Work:
    """A new session on a scan, with what its work folder holds unless it is to start afresh."""
    work, folder = Work(session, loaded.name, loaded.hash), library.folder(loaded.name)
    digest = _digest(folder)
    if fresh or digest is None:
        work.digests[str(folder)] = digest
        return work
    try:
        items = _read_items(folder / REGIONS, loaded)
        history = audit.read(folder / AUDIT) if (folder / AUDIT).is_file() else []
    except AllpetError as error:
        work.note = f"the work folder could not be reopened: {str(error).replace(f'{folder}/', '')}"
        return work
    again = Work(session, loaded.name, loaded.hash, Snapshot(items), reopened=True, history=history)
    again.digests, again.written = {str(folder): digest}, {str(folder): len(history)}
    again.results = _read_results(folder, items, history)
    if again.results and not _current(again.results[-1], items):
        again.results_version = -1
    again.note_run("reopened", regions=again.now.regions, scan=loaded.hash)
    return again


def save_work(
    work: Work, loaded: Loaded, library: Library, results: Sequence[dict[str, Any]], name: str | None
) -> Path:
    """Write the work folder, file by file, each of them whole.

    Parameters
    ----------
    name : of another folder than the usual; letters, digits, ``-`` and ``_``.

    Raises
    ------
    Refused : there is something that the session has not read. AllpetError : the folder cannot be written.
    """
    if name is not None and not _WORD.fullmatch(name):
        raise AllpetError(f"name {name[:60]!r} will not do; give 1 to 40 letters, digits, - and _")
    folder = library.folder(loaded.name, name)
    with _SAVING, locked(folder):  # sessions of this server, and other servers
        if _digest(folder) not in (None, work.digests.get(str(folder))):
            raise Refused(
                CONFLICT,
                f"'{folder.name}' holds work that this session has not read; save under another name, or begin anew",
            )
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise AllpetError(f"{folder}: cannot be made ({error.strerror or error})") from None
        work.note_run("saved", regions=work.now.regions, scan=loaded.hash, folder=folder.name)
        with work.lock:
            now, lines = work.now, [*work.history, *work.entries]
        content = Kept(loaded, now, lines, (*work.results, *results))
        write_small(folder, content)
        work.digests[str(folder)] = _digest(folder)
        audit.append(folder / AUDIT, *lines[work.written.get(str(folder), 0) :])
        work.written[str(folder)] = len(lines)
        write_large(folder, content)
        work.mark_saved(now)
    return folder


def write_small(folder: Path, content: Kept) -> None:
    """The regions, as JSON and as labels, and the results."""
    scan = {"name": content.loaded.name, "hash": content.loaded.hash}
    entries = [
        region_to_json(item.region) | {"source": item.source, "origin": item.origin} for item in content.now.items
    ]
    _write_json(folder / REGIONS, {"allpet_regions": VERSION, "scan": scan, "regions": entries})
    save(label_image(content.now.regions, content.loaded.image), folder / LABELS)
    for name, one in content.latest().items():
        _write_json(folder / name, one)


def write_large(folder: Path, content: Kept) -> None:
    """Image, weights, emphasised scan and report."""
    attended = content.attended()
    write_planes(folder, attended)
    write_attention_report(folder / REPORT, attended, list(content.audit), list(content.results))


def export(what: str, content: Kept, folder: Path) -> Path:
    """Write one of :data:`EXPORTS` to a folder of its own.

    Raises
    ------
    Refused : there is nothing of this name.
    """
    if what not in EXPORTS:
        raise Refused(MISSING, f"there is no export '{what[:40]}'; known: {', '.join(EXPORTS)}")
    if what in (LABELS, REGIONS):
        write_small(folder, content)
    elif what == AUDIT:
        (folder / AUDIT).write_text("", encoding="utf-8")
        audit.append(folder / AUDIT, *content.audit)
    elif what == REPORT:
        write_attention_report(folder / REPORT, content.attended(), list(content.audit), list(content.results))
    else:
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            write_small(Path(inner), content)
            audit.append(Path(inner) / AUDIT, *content.audit)
            write_large(Path(inner), content)
            with zipfile.ZipFile(folder / what, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
                for path in sorted(Path(inner).iterdir()):
                    packed.write(path, path.name)
    return folder / what


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as (part,):
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _digest(folder: Path) -> str | None:
    """Changes when somebody saves; None where nobody has."""
    try:
        return hashlib.sha256((folder / REGIONS).read_bytes()).hexdigest()
    except OSError:
        return None


def _read_results(folder: Path, items: tuple[Item, ...], history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of a work folder that can be read, by when they were run; regions have the ids of this session."""
    ids, found = {item.hash: item.id for item in items}, []
    runs = [one.get("what") for one in history if one.get("state") == "done"]
    for path in sorted(folder.glob("result-*.json")):
        try:
            one = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= MAX_JSON else {}
            first, last = (int(k) for k in one["planes"])
            regions = [_row(row, ids) for row in one["regions"]]
            notes = [str(note) for note in one.get("notes", ())]
            known = {"task": str(one["task"]), "planes": [first, last], "regions": regions, "notes": notes}
            found.append(one | known)
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue  # of no use; the regions are what counts
    order = {what: number for number, what in enumerate(runs)}
    return sorted(found, key=lambda one: order.get(f"run: {one['task']}", -1))


def _row(row: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """A region's numbers; KeyError, TypeError or ValueError where some are missing."""
    tables = ["before", "without", "after", *(["truth"] if row.get("truth") else [])]
    values = {name: {kind: float(row[name][kind]) for kind in ("mean", "max", "peak")} for name in tables}
    return row | values | {"std": float(row["std"]), "id": ids.get(row["hash"], "")}


def _current(result: dict[str, Any], items: tuple[Item, ...]) -> bool:
    """True where a result is that of all regions on its planes, as they are."""
    first, last = result["planes"]
    here = {item.id for item in items if item.region.planes.start <= last and first < item.region.planes.stop}
    return {row["id"] for row in result["regions"]} == here


def _read_items(path: Path, loaded: Loaded) -> tuple[Item, ...]:
    """The regions of a work folder, with where they came from.

    Raises
    ------
    AllpetError : they cannot be read, or belong to other data.
    """
    if path.stat().st_size > 4 * MAX_JSON:
        raise AllpetError(f"{path}: is too large")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = list(content["regions"])
        scan = content.get("scan", {})
        sources = [str(one.get("source")) for one in entries]
        origins = [one.get("origin") for one in entries]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise AllpetError(f"{path}: cannot be read as regions") from None
    if isinstance(scan, dict) and scan.get("hash") not in (None, loaded.hash):
        raise AllpetError(f"{path}: belongs to other data than this scan")
    if not entries:
        return ()
    try:
        regions = regions_of_json(content, loaded.shape, loaded.image.grid)
    except AllpetError as error:
        raise AllpetError(f"{path}: {error}") from None
    known = {item.id for item in loaded.suggestions}
    return tuple(
        Item(f"r{k}", region, source if source in SOURCES else "file", origin if origin in known else None)
        for k, (region, source, origin) in enumerate(zip(regions, sources, origins, strict=True), 1)
    )
