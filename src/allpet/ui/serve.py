"""Start the server, say where it is, and end with it."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import warnings
import webbrowser
from pathlib import Path

import uvicorn

from allpet.errors import AllpetError
from allpet.model import AllPET
from allpet.ui.guard import LOOPBACK
from allpet.ui.jobs import Jobs
from allpet.ui.library import Library
from allpet.ui.server import build, set_threads
from allpet.ui.sessions import Sessions

GRACE_S = 3
"""How long open requests may take when the server ends."""
PATIENCE_S = 1.0
"""How long each thread may take then."""


def serve(
    source: Path | None,
    host: str = "127.0.0.1",
    port: int = 8765,
    out: Path | None = None,
    model: Path | None = None,
    browser: bool = False,
) -> None:
    """Serve until somebody interrupts.

    Parameters
    ----------
    source, out : see :class:`Library`. host, port : to listen at; port 0 for any that is free. model : folder, default
    the shipped weights. browser : open the page.

    Raises
    ------
    AllpetError : no scan, no model, or the port is taken.
    """
    cores = os.environ.get("OMP_NUM_THREADS", "")
    set_threads(int(cores) if cores.isdigit() else (os.cpu_count() or 2) // 2)
    library = Library(source, out)
    names = library.names()
    if len(names) == 1 and source is not None:
        library.read(names[0])  # a scan that cannot be read is no reason to start
    jobs = Jobs(AllPET.from_pretrained(model))
    token, listening = secrets.token_urlsafe(32), bind(host, port)
    if host not in LOOPBACK:
        print(f"warning: others who reach {host} and have the token can use this page", file=sys.stderr)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/?token={token}"
    app = build(Sessions(library, jobs), token, host)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S, lifespan="off"
    )
    first = threading.Thread(target=_prepare, args=(library, names[0]), daemon=True)
    first.start()
    print(address, flush=True)
    if browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    try:
        with warnings.catch_warnings():  # interrupted before it has begun, the server says so
            warnings.filterwarnings("ignore", "coroutine .* was never awaited")
            uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        jobs.drop()
        listening.close()
    _end([first, *jobs.threads()])


def _end(threads: list[threading.Thread]) -> None:
    """Wait for threads that are about to end; where one is deep in arithmetic, end the process without it."""
    for thread in threads:
        thread.join(PATIENCE_S)
    if any(thread.is_alive() for thread in threads):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # an interpreter that takes itself apart under a thread in torch can crash


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises
    ------
    AllpetError : the port is taken, or the address is not this computer's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # TCP by name: asyncio then sends at once
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except OSError as error:
        found.close()
        reason = error.strerror or str(error)
        raise AllpetError(
            f"port {port} of {host} cannot be used ({reason}); name another with --port, 0 for any that is free"
        ) from None
    return found


def _prepare(library: Library, name: str) -> None:
    """Read and reconstruct the first scan while the page loads; what goes wrong is told to the first session."""
    try:
        library.get(name)
    except AllpetError:
        pass
