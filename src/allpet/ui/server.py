"""HTTP: what the page asks for, and what it gets."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import FastAPI, Request
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from allpet import __version__
from allpet.errors import AllpetError
from allpet.mask.attention import emphasise
from allpet.mask.presets import names as preset_names
from allpet.mask.region import FULL
from allpet.scan.plan import REGIONS
from allpet.scan.tracers import TRACERS
from allpet.task import TASKS
from allpet.ui.guard import Guard
from allpet.ui.item import Item
from allpet.ui.jobs import IMAGES, options_of
from allpet.ui.keep import EXPORTS, export, kept, save_work
from allpet.ui.library import Loaded, nifti_bytes
from allpet.ui.refused import BAD, MISSING, TOO_LARGE, Refused
from allpet.ui.sessions import Sessions
from allpet.ui.uploads import MAX_UPLOAD, check_name, regions_in
from allpet.ui.wanted import flag, parse, text
from allpet.ui.work import Work

MAX_BODY = 1 << 24
STATIC = Path(__file__).with_name("static")
BYTES, PACKED = "application/octet-stream", "application/gzip"
_SINOGRAMS = ("scan", "attention", "emphasised")


class Page:
    """All that can be asked for.

    Parameters
    ----------
    sessions : with the library and the jobs.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions, self.library, self.jobs = sessions, sessions.library, sessions.jobs

    # -- what there is ---------------------------------------------------------------------------------------------

    async def info(self, request: Request) -> Response:
        """What the server offers."""
        tasks = [{"name": name, "options": options_of(name)} for name in TASKS]
        known = self.jobs.model.config
        return JSONResponse(
            {
                "version": __version__,
                "scans": self.library.names(),
                "tasks": tasks,
                "tracers": list(known.get("tracers", TRACERS)),
                "regions": list(known.get("regions", REGIONS)),
                "presets": preset_names(None),
                "covers": True,
            }
        )

    async def open(self, request: Request) -> Response:
        """A new session."""
        body = parse(await read_body(request, MAX_BODY))
        scan = text(body, "scan", longest=255) if body.get("scan") is not None else None
        return await _in_thread(self._opened, scan, flag(body, "fresh"))

    def _opened(self, scan: str | None, fresh: bool) -> Response:
        return self._seen(*self.sessions.open(scan, fresh))

    async def state(self, request: Request) -> Response:
        """A session's state."""
        return await _in_thread(self._state, request.path_params["session"])

    def _state(self, session: str) -> Response:
        return self._seen(*self.sessions.get(session))

    def _seen(self, work: Work, loaded: Loaded) -> Response:
        return JSONResponse(work.view(loaded) | {"last": self.jobs.last(work)})

    async def end(self, request: Request) -> Response:
        """End a session."""
        self.sessions.end(request.path_params["session"])
        return JSONResponse({})

    # -- what is seen ----------------------------------------------------------------------------------------------

    async def image(self, request: Request) -> Response:
        """The quick image."""
        return await _in_thread(self._image, request.path_params["session"])

    def _image(self, session: str) -> Response:
        _, loaded = self.sessions.get(session)
        return Response(loaded.image_file, media_type=PACKED)

    async def labels(self, request: Request) -> Response:
        """Labels of one plane."""
        return await _in_thread(self._maps, request, False)

    async def covers(self, request: Request) -> Response:
        """Every region's own map of one plane."""
        return await _in_thread(self._maps, request, True)

    def _maps(self, request: Request, apart: bool) -> Response:
        of = _one_of(request, "regions", ("regions", "suggestions"))
        work, loaded = self.sessions.get(request.path_params["session"])
        number, now = _plane(request.path_params["plane"], loaded.shape[0]), work.now
        items = now.items if of == "regions" else tuple(now.offered(loaded.suggestions))
        groups = [(item,) for item in items] if apart else [items]
        maps = b"".join(_labels_of(group, number, loaded.shape) for group in groups)
        return Response(maps, media_type=BYTES)

    async def sinogram(self, request: Request) -> Response:
        """A sinogram of one plane."""
        of = _one_of(request, "scan", _SINOGRAMS)
        return await _in_thread(self._sinogram, request.path_params["session"], request.path_params["plane"], of)

    def _sinogram(self, session: str, plane: str, of: str) -> Response:
        work, loaded = self.sessions.get(session)
        number = _plane(plane, len(loaded.scan))
        values = loaded.scan.sinogram[number]
        if of != "scan":
            weights = loaded.shares.plane(work.now.items, number)
            values = weights if of == "attention" else emphasise(values, weights)
        return Response(values.numpy().astype("<f4").tobytes(), media_type=BYTES)

    # -- what is done ----------------------------------------------------------------------------------------------

    async def edit(self, request: Request) -> Response:
        """Edit the regions."""
        body = parse(await read_body(request, MAX_BODY))
        return await _in_thread(self._changed, request.path_params["session"], lambda w, scan: w.edit(scan, body))

    async def upload(self, request: Request) -> Response:
        """Add regions from a file."""
        name = check_name(request.query_params.get("name", ""))
        data = await read_body(request, MAX_UPLOAD)

        def add(work: Work, loaded: Loaded) -> None:
            work.add(loaded, regions_in(name, data, loaded), name)

        return await _in_thread(self._changed, request.path_params["session"], add)

    def _changed(self, session: str, change: Callable[[Work, Loaded], None]) -> Response:
        work, loaded = self.sessions.get(session)
        began = time.perf_counter()
        with work.lock:
            change(work, loaded)
            view = work.view(loaded)
        return JSONResponse(view | {"took_ms": round(1000 * (time.perf_counter() - began), 1)})

    async def start(self, request: Request) -> Response:
        """Start a job."""
        body = parse(await read_body(request, MAX_BODY))
        return await _in_thread(self._started, request.path_params["session"], body)

    def _started(self, session: str, body: dict[str, Any]) -> Response:
        work, loaded = self.sessions.get(session)
        return JSONResponse({"job": self.jobs.start(work, loaded, body).id})

    async def job(self, request: Request) -> Response:
        """How a job stands."""
        self.sessions.get_work(request.path_params["session"])
        return JSONResponse(self.jobs.get(request.path_params["session"], request.path_params["job"]).view())

    async def cancel(self, request: Request) -> Response:
        """Cancel a job."""
        found = self.jobs.get(request.path_params["session"], request.path_params["job"])
        found.stop.set()
        return JSONResponse(found.view())

    async def job_image(self, request: Request) -> Response:
        """An image of a job's result."""
        of = _one_of(request, "image", tuple(IMAGES))
        found = self.jobs.get(request.path_params["session"], request.path_params["job"])
        if of not in found.images:
            raise Refused(MISSING, f"this job has no image '{of}'" + ("" if found.result else " yet"))
        data = await run_in_threadpool(nifti_bytes, found.images[of])
        return Response(data, media_type=PACKED)

    async def save(self, request: Request) -> Response:
        """Write the work folder."""
        body = parse(await read_body(request, MAX_BODY))
        name = text(body, "name") if body.get("name") is not None else None
        return await _in_thread(self._saved, request.path_params["session"], name)

    def _saved(self, session: str, name: str | None) -> Response:
        work, loaded = self.sessions.get(session)
        folder = save_work(work, loaded, self.library, self.jobs.results(session), name)
        files = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        return JSONResponse({"folder": str(folder), "files": files})

    async def export(self, request: Request) -> Response:
        """A file of the session's work."""
        return await _in_thread(self._exported, request.path_params["session"], request.path_params["what"])

    def _exported(self, session: str, what: str) -> Response:
        work, loaded = self.sessions.get(session)
        folder = Path(tempfile.mkdtemp(prefix="allpet-"))
        remove = partial(shutil.rmtree, folder, ignore_errors=True)
        try:
            path = export(what, kept(work, loaded, self.jobs.results(session)), folder)
        except BaseException:
            remove()
            raise
        return FileResponse(path, media_type=EXPORTS[what], filename=what, background=BackgroundTask(remove))


def build(sessions: Sessions, token: str, bound: str) -> Guard:
    """The application.

    Parameters
    ----------
    token : see :class:`Guard`. bound : address that the server listens at.
    """
    app, page = FastAPI(docs_url=None, redoc_url=None, openapi_url=None), Page(sessions)
    one = "/api/sessions/{session}"
    routes: list[tuple[str, str, Any]] = [
        ("GET", "/api/info", page.info),
        ("POST", "/api/sessions", page.open),
        ("GET", one, page.state),
        ("DELETE", one, page.end),
        ("GET", one + "/image.nii.gz", page.image),
        ("GET", one + "/planes/{plane}/labels", page.labels),
        ("GET", one + "/planes/{plane}/covers", page.covers),
        ("GET", one + "/planes/{plane}/sinogram", page.sinogram),
        ("POST", one + "/edits", page.edit),
        ("POST", one + "/upload", page.upload),
        ("POST", one + "/jobs", page.start),
        ("GET", one + "/jobs/{job}", page.job),
        ("DELETE", one + "/jobs/{job}", page.cancel),
        ("GET", one + "/jobs/{job}/image.nii.gz", page.job_image),
        ("POST", one + "/save", page.save),
        ("GET", one + "/export/{what}", page.export),
        ("GET", "/", _index),
    ]
    for method, path, function in routes:
        app.router.add_route(path, function, methods=[method])
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False))
    app.add_exception_handler(AllpetError, _refused)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _broken)
    return Guard(app, token, bound)


async def read_body(request: Request, most: int) -> bytes:
    """The body, as far as it is not too large.

    Raises
    ------
    Refused : it is.
    """
    said = request.headers.get("content-length", "0")
    parts, size = [], int(said) if said.isascii() and said.isdigit() else 0
    if size <= most:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                break
            parts.append(part)
    if size > most:
        raise Refused(TOO_LARGE, f"more than {most >> 20} MiB were sent; that is the most that is taken here")
    return b"".join(parts)


async def _in_thread(function: Callable[..., Response], *arguments: Any) -> Response:
    return await run_in_threadpool(function, *arguments)


async def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, Refused) else BAD
    endless = status == TOO_LARGE and "content-length" not in request.headers
    headers = {"connection": "close"} if endless else None
    return JSONResponse({"error": " ".join(str(error).split())}, status, headers)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail).lower()}, error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    traceback.print_exception(error, file=sys.stderr)
    return JSONResponse({"error": "the server could not do this; its terminal says why"}, 500)


def _one_of(request: Request, default: str, known: tuple[str, ...]) -> str:
    of = request.query_params.get("of", default)
    if of not in known:
        raise AllpetError(f"of is '{of[:40]}'; known: {', '.join(known)}")
    return of


def _plane(word: str, count: int) -> int:
    if word.isascii() and word.isdigit() and len(word) < 6 and int(word) < count:
        return int(word)
    raise Refused(MISSING, f"there is no plane '{word[:20]}'; there are 0 to {count - 1}")


def _labels_of(items: tuple[Item, ...], plane: int, shape: tuple[int, int, int]) -> bytes:
    out = np.zeros(shape[1:], np.uint8)
    for number, item in enumerate(items[:255], 1):
        region = item.region
        if plane in region.planes:
            out[region.box[1:]][region.levels[plane - region.start[0]] > FULL // 2] = number
    return out.tobytes()


def set_threads(count: int) -> None:
    """Threads of each computation: sessions run beside one another, so that few are better."""
    torch.set_num_threads(max(1, count))
