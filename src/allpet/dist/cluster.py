"""Calls over a Dask cluster: one that somebody started, or workers on this machine with a scheduler of our own.

Dask sends functions and arguments as pickles and asks nobody who they are: whoever reaches a scheduler can run code on
its workers. So our own listens on the loopback only, without a dashboard; see ``docs/cluster.md`` for any other.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from allpet.errors import AllpetError
from allpet.io.processes import THREADS

if TYPE_CHECKING:
    from distributed import Client, Future

LOCAL = "local"
"""In place of an address: workers on this machine."""
MUST_AGREE = ("allpet", "numpy", "scipy", "torch")
"""Packages whose versions decide about bits."""
CONNECT_S = 20.0
"""How long to wait for a scheduler to answer."""
_QUIET: dict[str, Any] = {
    **{f"distributed.{who}.http.routes": [] for who in ("scheduler", "worker", "nanny")},
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
"""Of our own cluster: no page, and what serves statistics alone seldom or never (idle, it took 11 % of a core for two
workers, 1.5 % so)."""
_POLL_S = 2.0
_ALONE = threading.Lock()


@contextmanager
def connected(scheduler: str, workers: int | None = None) -> Iterator[Client]:
    """A client of a scheduler.

    Parameters
    ----------
    scheduler : address (``tcp://host:8786``, ``tls://...``), a scheduler file (``.json``), or :data:`LOCAL`.
    workers : with ``local`` the number of processes, of one thread each.

    Raises
    ------
    AllpetError : Dask is not installed, or nobody answers there.
    """
    try:
        import distributed
    except ImportError:
        raise AllpetError(
            "--scheduler needs Dask, which is not installed; get it by: pip install 'allpet[dist]'"
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
    if scheduler == LOCAL:
        import dask

        with (
            dask.config.set(_QUIET),
            distributed.LocalCluster(
                n_workers=workers or 1,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                memory_limit=0,  # a block takes what it takes; nothing is kept between blocks
                silence_logs=logging.CRITICAL,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    where = _address(scheduler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions that differ: see _check_versions
            client = distributed.Client(**where, set_as_default=False, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise AllpetError(f"{scheduler}: no Dask scheduler answers there ({reason}); is it running?") from None
    with client:
        yield client


def _address(scheduler: str) -> dict[str, str]:
    if not scheduler.endswith(".json"):
        if "://" not in scheduler:
            raise AllpetError(
                f"{scheduler}: is no scheduler; give tcp://HOST:PORT, its scheduler file (.json) or '{LOCAL}'"
            )
        return {"address": scheduler}
    if not Path(scheduler).is_file():
        raise AllpetError(f"{scheduler}: there is no such scheduler file; the scheduler writes it when it starts")
    return {"scheduler_file": scheduler}


def results_of(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    names: Sequence[str],
    scheduler: str,
    workers: int | None = None,
) -> Generator[tuple[int, Any], None, None]:
    """Results of ``function(*call)`` for each call, with its number, as they come.

    A worker runs one call at a time, on one thread. What a lost worker had in work goes to another one.

    Parameters
    ----------
    function : of a module. names : of the calls, for messages. scheduler, workers : as :func:`connected`.

    Raises
    ------
    AllpetError : as a call; any other error of a call, in one line; a call that ends every worker it comes to; the
        scheduler was lost.
    """
    if not calls:
        return
    with connected(scheduler, workers) as client:
        waiting: deque[int] = deque(range(len(calls)))
        running: dict[Future, int] = {}
        run, patient = uuid4().hex, _Patience(client, scheduler)
        try:
            while waiting or running:
                while waiting and len(running) < patient.most():
                    k = waiting.popleft()
                    future = client.submit(
                        _call, versions(), function, calls[k], key=f"allpet-{run}-{k}", pure=False, priority=-k
                    )
                    running[future] = k
                for future in patient.finished(running):
                    k = running.pop(future)
                    yield k, _result(future, names[k], scheduler)
        finally:
            with suppress(Exception):
                client.cancel(list(running))


class _Patience:
    """Waits for futures, and looks after the cluster meanwhile."""

    def __init__(self, client: Client, scheduler: str) -> None:
        self.client, self.scheduler = client, scheduler
        self.since, self.told, self.looked, self.threads = time.monotonic(), False, 0.0, 0

    def most(self) -> int:
        """Calls to have in work: two for each thread, so that nobody waits for us."""
        if time.monotonic() - self.looked > _POLL_S:
            with suppress(Exception):
                self.threads = sum(self.client.nthreads().values())
            self.looked = time.monotonic()
        return max(2 * self.threads, 4)

    def finished(self, running: dict[Future, int]) -> list[Future]:
        """Those that are done, at least one; fewer only if the cluster has changed meanwhile.

        Raises
        ------
        AllpetError : the scheduler was lost.
        """
        from distributed import wait

        try:
            with self.client.as_current():
                return list(wait(list(running), timeout=_POLL_S, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            pass
        except Exception as error:  # a cancelled future, a closed connection: several kinds
            raise self._lost() from error
        if self.client.status != "running" or any(future.status in ("cancelled", "lost") for future in running):
            raise self._lost()
        self._tell_if_nobody_works()
        return []

    def _lost(self) -> AllpetError:
        return AllpetError(
            f"{self.scheduler}: the Dask scheduler was lost; what is finished is kept, the same command goes on"
        )

    def _tell_if_nobody_works(self) -> None:
        if self.threads:
            self.since = time.monotonic()
        elif not self.told and time.monotonic() - self.since > 5 * _POLL_S:
            print(f"note: {self.scheduler} has no worker; waiting for one", file=sys.stderr)
            self.told = True


def _result(future: Future, name: str, scheduler: str) -> Any:
    if future.status == "finished":
        return future.result()
    if future.status != "error":
        raise AllpetError(
            f"{scheduler}: the Dask scheduler was lost; what is finished is kept, the same command goes on"
        )
    from distributed import KilledWorker

    error = future.exception()
    if isinstance(error, AllpetError):
        raise error
    if isinstance(error, KilledWorker):
        raise AllpetError(
            f"{name}: every worker that it came to was lost (killed, or out of memory); what is finished is kept, give "
            "workers more memory, then the same command goes on"
        ) from None
    reason = " ".join(str(error).split())[:300]
    raise AllpetError(f"{name}: failed in a worker with {type(error).__name__} ({reason})") from error


@lru_cache
def versions() -> tuple[tuple[str, str], ...]:
    """What has to be the same in all processes for results to be the same to the bit."""
    from importlib.metadata import PackageNotFoundError, version

    import allpet

    def of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "none"

    found = [(name, of(name)) for name in MUST_AGREE[1:]]
    return ("allpet", allpet.__version__), *found, ("Python", ".".join(platform.python_version_tuple()[:2]))


def _call(wanted: tuple[tuple[str, str], ...], function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """In a worker: check it, and run one call, on one thread and alone in this process."""
    _check_versions(wanted)
    with _ALONE:
        _one_thread()
        return function(*arguments)


def _check_versions(wanted: tuple[tuple[str, str], ...]) -> None:
    own = dict(versions())
    other = [f"{name} {own[name]} instead of {version}" for name, version in wanted if own[name] != version]
    if other:
        raise AllpetError(
            f"worker on {platform.node()}: has {', '.join(other)}; install the same versions everywhere, else results "
            "are not the same to the bit"
        )


def _one_thread() -> None:
    """Numeric libraries of this process run on one thread from now on."""
    os.environ.update(dict.fromkeys(THREADS, "1"))
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
