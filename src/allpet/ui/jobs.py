"""Tasks that run in the background, with progress and a way to stop them."""

from __future__ import annotations

import contextvars
import inspect
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from allpet.errors import AllpetError
from allpet.mask.region import Region
from allpet.metrics.region import uptake
from allpet.model.allpet import AllPET, Result
from allpet.scan.core import Image
from allpet.task import TASKS
from allpet.ui.item import Item
from allpet.ui.library import Loaded
from allpet.ui.refused import MISSING, TOO_MANY, Refused
from allpet.ui.wanted import number, short, span, text, whole
from allpet.ui.work import Work, numbers

MAX_RUNNING = 2
MAX_KEPT = 8
"""Finished jobs of a session whose results are kept."""
OPTIONS = ("dose_fraction", "to", "delay_minutes", "prompt", "samples", "seed")
IMAGES = {"image": "-image", "std": "-image-std", "change": "-image-change"}
WITH_TRUTH = ("low-dose", "attenuation")
"""Tasks whose image is that of the scan's own activity, which is known where the scan is simulated."""


class _Stopped(Exception):
    """Somebody cancelled the job."""


@dataclass(eq=False)
class Job:
    """One run of a task on some planes.

    Parameters
    ----------
    planes : first and last. items : regions that were there when it began. version : of the session's regions then.
    """

    id: str
    session: str
    task: str
    planes: tuple[int, int]
    items: tuple[Item, ...]
    options: dict[str, Any]
    version: int = 0
    state: str = "running"
    done: int = 0
    total: int = 0
    error: str | None = None
    result: dict[str, Any] | None = None
    images: dict[str, Image] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def view(self) -> dict[str, Any]:
        """The state, as the page sees it."""
        seconds = (self.ended or time.monotonic()) - self.began
        shown = {"state": self.state, "done": self.done, "total": self.total, "seconds": round(seconds, 2)}
        more = {"error": self.error, "result": self.result}
        return shown | {name: value for name, value in more.items() if value is not None}

    def progress(self, done: int, total: int) -> None:
        """Note how far it is.

        Raises
        ------
        _Stopped : it was cancelled.
        """
        self.done, self.total = done, total
        if self.stop.is_set():
            raise _Stopped


class Jobs:
    """All jobs of a server; one at a time has the model."""

    def __init__(self, model: AllPET) -> None:
        self.model, self.model_hash = model, model.hash
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._jobs: dict[tuple[str, str], Job] = {}
        self._count = 0
        self._threads: list[threading.Thread] = []

    def start(self, work: Work, loaded: Loaded, body: dict[str, Any]) -> Job:
        """Begin a task with the regions as they are.

        Raises
        ------
        AllpetError : an unknown task or option, or one out of range. Refused : too many are running.
        """
        task, planes = text(body, "task"), span(body, len(loaded.scan))
        if task not in TASKS:
            raise AllpetError(f"task '{task}' is unknown; known: {', '.join(TASKS)}")
        options = _options(task, body.get("options", {}))
        with work.lock:
            items, version = work.now.items, work.version
        with self._lock:
            if sum(job.state == "running" for job in self._jobs.values()) >= MAX_RUNNING:
                raise Refused(TOO_MANY, f"{MAX_RUNNING} jobs are running; wait for one to end, or cancel it")
            self._count += 1
            job = Job(f"j{self._count}", work.session, task, planes, items, options, version)
            job.total = planes[1] - planes[0] + 1
            mine = [key for key, one in self._jobs.items() if key[0] == work.session and one.state != "running"]
            for key in mine[: max(len(mine) + 1 - MAX_KEPT, 0)]:
                del self._jobs[key]
            self._jobs[work.session, job.id] = job
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(self._run, job, work, loaded), name=job.id, daemon=True)
        with self._lock:
            thread.start()
            self._threads = [*(one for one in self._threads if one.is_alive()), thread]
        return job

    def threads(self) -> list[threading.Thread]:
        """Of jobs that have not ended, cancelled ones too."""
        with self._lock:
            return [one for one in self._threads if one.is_alive()]

    def get(self, session: str, job: str) -> Job:
        """A job of a session.

        Raises
        ------
        Refused : there is none of this name.
        """
        with self._lock:
            found = self._jobs.get((session, job))
        if found is None:
            raise Refused(MISSING, f"there is no job '{job[:40]}' in this session")
        return found

    def running(self, session: str) -> bool:
        """True while a session has a job that runs."""
        with self._lock:
            return any(key[0] == session and job.state == "running" for key, job in self._jobs.items())

    def results(self, session: str) -> list[dict[str, Any]]:
        """The results of a session's jobs, the oldest first."""
        with self._lock:
            return [job.result for key, job in self._jobs.items() if key[0] == session and job.result is not None]

    def last(self, work: Work) -> dict[str, Any] | None:
        """What a page that is opened again shows: the newest job that runs or is done, else what was saved."""
        with self._lock:
            mine = [job for key, job in self._jobs.items() if key[0] == work.session]
        for job in reversed(mine):
            if job.state in ("running", "done"):
                return {"job": job.id, "version": job.version}
        return {"result": work.results[-1], "version": work.results_version} if work.results else None

    def drop(self, session: str | None = None) -> None:
        """Cancel and forget the jobs of a session, or all."""
        with self._lock:
            for key in [key for key in self._jobs if session in (None, key[0])]:
                self._jobs.pop(key).stop.set()

    def _run(self, job: Job, work: Work, loaded: Loaded) -> None:
        try:
            with self._model(job):
                found = self._apply(job, loaded)
            job.result, state = _result(job, found, loaded, self.model_hash), "done"
            job.images = {name: found.extras[key] for name, key in IMAGES.items() if key in found.extras}  # type: ignore[misc]
        except _Stopped:
            state = "cancelled"
        except AllpetError as error:
            job.error, state = str(error), "failed"
        except Exception as error:  # a thread must not end without a word
            traceback.print_exc(file=sys.stderr)
            job.error, state = (
                f"{job.task} failed: {' '.join(str(error).split())[:200] or type(error).__name__}",
                "failed",
            )
        job.ended = time.monotonic()
        work.note_run(
            f"run: {job.task}",
            regions=[item.region for item in job.items],
            seed=int(job.options.get("seed", 0)),
            model_hash=self.model_hash,
            planes=list(job.planes),
            options=job.options,
            state=state,
            seconds=round(job.ended - job.began, 2),
        )
        job.state = state

    @contextmanager
    def _model(self, job: Job) -> Iterator[None]:
        """Wait for the model, unless the job is cancelled meanwhile."""
        while not self._turn.acquire(timeout=0.1):
            if job.stop.is_set():
                raise _Stopped
        try:
            if job.stop.is_set():
                raise _Stopped
            yield
        finally:
            self._turn.release()

    def _apply(self, job: Job, loaded: Loaded) -> Result:
        some = range(job.planes[0], job.planes[1] + 1)
        more = {"roi": regions} if (regions := here(job.items, some)) else {}
        scan = loaded.scan.planes(slice(some.start, some.stop))
        known = dict(images=True, progress=job.progress, first_plane=some.start)
        return self.model.apply(job.task, scan, **known, **more, **job.options)


def here(items: tuple[Item, ...], some: range) -> list[Region]:
    """The regions on some planes, numbered from the first of them; named by their ids, as names need not differ."""
    cut = ((item, item.region.only(some)) for item in items)
    return [replace(region, name=item.id) for item, region in cut if region is not None]


def options_of(task: str) -> list[str]:
    """The options of a task that a page may set."""
    return [name for name in OPTIONS if name in inspect.signature(TASKS[task]).parameters]


def _options(task: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise AllpetError(f"options is {short(given)}; it must be an object")
    known = options_of(task)
    for name in given:
        if name not in known:
            raise AllpetError(f"task {task} does not take '{name[:40]}'; it takes {', '.join(known)}")
    given, options = {name: value for name, value in given.items() if value is not None}, dict[str, Any]()
    for name in given:
        if name in ("to", "prompt"):
            options[name] = text(given, name, longest=200)
        elif name == "samples":
            options[name] = whole(given, name, 0, 64)
        elif name == "seed":
            options[name] = whole(given, name, 0, 2**31 - 1)
        else:
            options[name] = number(given, name)
    return options


def _result(job: Job, found: Result, loaded: Loaded, model_hash: str) -> dict[str, Any]:
    """What came out, as JSON."""
    by_id, some = {one.name: one for one in found.regions}, range(job.planes[0], job.planes[1] + 1)
    rows, unit = [], loaded.image.unit
    for item in job.items:
        one, region = by_id.get(item.id), item.region.only(some)
        if one is None or region is None:
            continue
        unit = one.unit
        row: dict[str, Any] = {"id": item.id, "name": item.region.name, "hash": item.hash}
        row |= {"strength": item.region.strength, "before": numbers(one.before), "without": numbers(one.without)}
        row |= {"after": numbers(one.after), "std": one.std}
        if loaded.truth is not None and job.task in WITH_TRUTH:
            image = loaded.image
            truth, together = loaded.truth[some.start : some.stop], loaded.scan.neighbours
            row["truth"] = numbers(uptake(truth, region, image.grid, image.plane_mm, neighbours=together))
        rows.append(row)
    return {
        "task": job.task,
        "planes": list(job.planes),
        "options": job.options,
        "notes": list(found.notes),
        "seed": int(job.options.get("seed", 0)),
        "model_hash": model_hash,
        "seconds": round(time.monotonic() - job.began, 2),
        "unit": unit,
        "regions": rows,
    }
